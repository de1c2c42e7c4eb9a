"""`EpisodeStripsCallback`: fixed episodes as the agent plays them now, in one picture."""

from __future__ import annotations

from collections.abc import Sequence

from stable_baselines3.common.logger import Image

from sb3_alignsam.callbacks.periodic import PeriodicCallback
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.evaluation.strips import draw_strips
from sb3_alignsam.policies.clickers import AgentClicker

NOT_PICTURES = ("stdout", "log", "json", "csv")


class EpisodeStripsCallback(PeriodicCallback):
    """Gives SB3's logger (TensorBoard: ``episodes/strips``) a picture when a rollout ends, and once training ends.

    :param env: an environment on the episodes to show; nothing is drawn from its random numbers.
    :param indices: which of its fixed episodes, a row each. :param maskable: whether the policy takes action masks.
    :param freq: environment steps, of all environments together, between two pictures; > 0.
    """

    def __init__(self, env: SamSegEnv, indices: Sequence[int], maskable: bool, freq: int) -> None:
        super().__init__(freq)
        self.env, self.indices, self.maskable = env, indices, maskable

    def _on_rollout_end(self) -> None:
        if self._is_due():
            self._draw()

    def _on_training_end(self) -> None:
        self._draw()

    def _draw(self) -> None:
        policy = self.model.policy
        policy.set_training_mode(False)
        picture = draw_strips(self.env, AgentClicker(policy, self.env.grid, self.maskable), self.indices)
        self.logger.record("episodes/strips", Image(picture, "HWC"), exclude=NOT_PICTURES)
