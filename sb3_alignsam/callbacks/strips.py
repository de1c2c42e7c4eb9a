"""`EpisodeStripsCallback`: fixed episodes as the agent plays them now, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Image

from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.evaluation.strips import draw_strips
from sb3_alignsam.policies.clickers import AgentClicker

NOT_PICTURES = ("stdout", "log", "json", "csv")


class EpisodeStripsCallback(BaseCallback):
    """Gives SB3's logger (TensorBoard: ``episodes/strips``) a picture when a rollout ends, and once training ends.

    :param env: an environment on the episodes to show; nothing is drawn from its random numbers.
    :param indices: which of its fixed episodes, a row each. :param maskable: whether the policy takes action masks.
    :param freq: environment steps, of all environments together, between two pictures; > 0.
    """

    def __init__(self, env: SamSegEnv, indices: Sequence[int], maskable: bool, freq: int) -> None:
        super().__init__()
        self.env, self.indices, self.maskable, self.freq = env, indices, maskable, freq
        self._last = 0

    def state_dict(self) -> dict[str, Any]:
        """When the last picture was drawn."""
        return {"last": self._last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._last = state["last"]

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps - self._last >= self.freq:
            self._last = self.num_timesteps
            self._draw()

    def _on_training_end(self) -> None:
        self._draw()

    def _draw(self) -> None:
        policy = self.model.policy
        policy.set_training_mode(False)
        picture = draw_strips(self.env, AgentClicker(policy, self.env.grid, self.maskable), self.indices)
        self.logger.record("episodes/strips", Image(picture, "HWC"), exclude=NOT_PICTURES)
