"""`PeriodicCallback`: the base of callbacks that act every so many steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback


class PeriodicCallback(BaseCallback):
    """Knows when it is due again; that is its state, so that a resumed run acts when it would have.

    :param freq: environment steps, of all environments together, between two times; > 0.
    :param last: steps at which it acted last; None: it is due at once.
    """

    def __init__(self, freq: int, last: int | None = 0) -> None:
        super().__init__()
        self.freq = freq
        self._last = last

    def state_dict(self) -> dict[str, Any]:
        """When it acted last."""
        return {"last": self._last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._last = state["last"]

    def _on_step(self) -> bool:
        return True

    def _is_due(self) -> bool:
        """Whether it is time; who is told so acts now."""
        if self._last is not None and self.num_timesteps - self._last < self.freq:
            return False
        self._last = self.num_timesteps
        return True
