"""What is constant in the running episodes of many environments, stacked, in arrays that are never written again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class StackedConstants:
    """Arrays (B, …) by key. Whoever was handed one may keep it: when an episode begins, new ones take their place.

    :param num_envs: B.
    """

    def __init__(self, num_envs: int) -> None:
        self._num_envs = num_envs
        self.arrays: dict[str, np.ndarray] = {}

    def renew(self, rows: Mapping[int, Mapping[str, Any]]) -> None:
        """Take over the constants of the episodes that have begun in some rows; the first time, of all."""
        if len(rows) == self._num_envs:
            self.arrays = {key: np.stack([rows[row][key] for row in range(self._num_envs)]) for key in rows[0]}
        elif rows:
            arrays = {key: values.copy() for key, values in self.arrays.items()}
            for row, constants in rows.items():
                for key, value in constants.items():
                    arrays[key][row] = value
            self.arrays = arrays

    def row(self, row: int) -> dict[str, Any]:
        """The constants of one episode."""
        return {key: values[row] for key, values in self.arrays.items()}
