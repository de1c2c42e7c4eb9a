"""`BoundaryCallback`: the state between the last two updates, kept in memory, whatever interrupts the next."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from sb3_alignsam.training.checkpoint import write_checkpoint
from sb3_alignsam.training.random_states import restore_random_states
from sb3_alignsam.training.stopping import Stops


class BoundaryCallback(BaseCallback):
    """Takes the state when a rollout begins, before any other callback acts: first in the list.

    A run that goes on from it repeats what came after, so whatever had begun, a rollout or half an update, may be lost.

    :param compose: gives the model as a zip with its state, in memory.
    :param stops: signals; held back during rollouts but between two steps.
    :param resumed: the state that this run goes on from; None: it begins.
    """

    def __init__(
        self, compose: Callable[[], io.BytesIO], stops: Stops, resumed: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.compose, self.stops, self._resumed = compose, stops, resumed
        self.steps: int | None = None
        """Environment steps before the last boundary; None: there was none yet."""
        self._zipped = io.BytesIO()
        self._written: set[int] = set()

    def write(self, path: Path) -> None:
        """Write the last boundary's state. :raises OSError: it cannot be written."""
        write_checkpoint(self._zipped, path)
        self._written.add(self.steps or 0)

    def write_at_end(self, folder: Path) -> None:
        """Write the last boundary's state as a checkpoint, unless it lies there; what was there stays if that fails."""
        if self.steps is not None and self.steps not in self._written:
            with suppress(OSError):
                self.write(folder / f"rl_model_{self.steps}_steps.zip")

    def _on_training_start(self) -> None:
        if self._resumed is not None:
            # Speeds are told of the whole run, the time between its processes left out.
            self.model.start_time -= int(self._resumed["seconds"] * 1e9)
            self.model._num_timesteps_at_start = 0
            self._written.add(self.num_timesteps)

    def _on_rollout_start(self) -> None:
        self.stops.hold()
        self._take()

    def _on_step(self) -> bool:
        self.stops.check()
        return True

    def _on_rollout_end(self) -> None:
        self.stops.release()

    def _on_training_end(self) -> None:
        self.stops.hold()
        self._take()
        self.stops.release()

    def _take(self) -> None:
        if self._resumed is not None:
            # As late as can be: making policy, environments and callbacks drew from the generators too.
            if self._resumed["random"] is not None:
                restore_random_states(self.model, self._resumed["random"])
            self._resumed = None
        self._zipped, self.steps = self.compose(), self.num_timesteps
