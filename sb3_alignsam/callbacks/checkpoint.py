"""`CheckpointCallback`: a zip between two updates, every so many steps or minutes; the last few are kept."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback

CHECKPOINT_NAME = re.compile(r"rl_model_(\d+)_steps\.zip")


class CheckpointCallback(BaseCallback):
    """Saves ``rl_model_<steps>_steps.zip``, named as rl-zoo3 names it, once an update is over.

    Where a zip cannot be written, as on a full disk, training goes on and the next update tries again.

    :param save: writes the model to a path, whole or not at all.
    :param folder: where the zips go.
    :param save_freq: environment steps, of all environments together, after which the next one is due; 0: none.
    :param save_minutes: minutes after which the next one is due; 0: none.
    :param keep: how many of the newest are kept; 0: all.
    :param report: called with one line of text when a zip cannot be written, once until one can be again.
    :param at_start: also save before the first step: a model may have been trained before.
    """

    def __init__(
        self,
        save: Callable[[Path], None],
        folder: Path,
        save_freq: int = 0,
        save_minutes: float = 0.0,
        keep: int = 3,
        report: Callable[[str], None] | None = None,
        at_start: bool = False,
    ) -> None:
        super().__init__()
        self.save, self.folder, self.report = save, folder, report
        self.save_freq, self.save_minutes, self.keep = save_freq, save_minutes, keep
        self._begins = at_start
        self._failed = False

    def _on_training_start(self) -> None:
        # A resumed run goes on from a checkpoint: the next one is as far from it as it would have been.
        self._saved, self._saved_at = self.num_timesteps, time.monotonic()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._save_if_due()

    def _on_training_end(self) -> None:
        self._save_if_due()

    def _save_if_due(self) -> None:
        steps, minutes = self.num_timesteps - self._saved, (time.monotonic() - self._saved_at) / 60
        by_steps = self.save_freq > 0 and steps >= self.save_freq
        by_minutes = self.save_minutes > 0 and minutes >= self.save_minutes
        begins, self._begins = self._begins and self.num_timesteps == 0, False
        if not begins and (steps == 0 or not (by_steps or by_minutes)):
            return
        try:
            self.save(self.folder / f"rl_model_{self.num_timesteps}_steps.zip")
        except OSError as error:
            if self.report is not None and not self._failed:
                self.report(f"warning: no checkpoint at {self.num_timesteps} steps ({error.strerror or error}); "
                            "training goes on, the one before is kept")  # fmt: skip
            self._failed = True
            return
        self._failed = False
        self._saved, self._saved_at = self.num_timesteps, time.monotonic()
        self._forget_old()

    def _forget_old(self) -> None:
        numbered = [(match, path) for path in self.folder.iterdir() if (match := CHECKPOINT_NAME.fullmatch(path.name))]
        ours = sorted((int(match[1]), path) for match, path in numbered if int(match[1]) <= self.num_timesteps)
        for _, path in ours[: -self.keep] if self.keep else []:
            with suppress(OSError):  # It is of no use any more, but harms nobody.
                path.unlink()
