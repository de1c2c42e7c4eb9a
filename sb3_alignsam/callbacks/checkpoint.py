"""`CheckpointCallback`: a zip every so many steps, named as rl-zoo3 names them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback


class CheckpointCallback(BaseCallback):
    """Saves ``rl_model_<steps>_steps.zip`` when a rollout ends, at most once every `save_freq` steps.

    :param save: writes the model to a path.
    :param folder: where the zips go.
    :param save_freq: environment steps, of all environments together, between two zips; > 0.
    """

    def __init__(self, save: Callable[[Path], None], folder: Path, save_freq: int) -> None:
        super().__init__()
        self.save, self.folder, self.save_freq = save, folder, save_freq
        self._saved = 0

    def _on_training_start(self) -> None:
        self._saved = self.num_timesteps

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps - self._saved >= self.save_freq:
            self._saved = self.num_timesteps
            self.save(self.folder / f"rl_model_{self.num_timesteps}_steps.zip")
