"""`Bounded`: a `Box` of one lower and one upper bound, which is saved as such."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces


class Bounded(spaces.Box):
    """A gymnasium `Box` whose bounds are the same everywhere; equal to the `Box` of the same bounds.

    A `Box` is pickled with four arrays of its own shape, so that a zip of SB3, which holds the observation space, would
    be larger than the weights in it. This one is pickled as two numbers, its shape and its type.

    :param low: lowest value. :param high: highest value. :param shape: of the arrays. :param dtype: of the arrays.
    """

    def __init__(self, low: float, high: float, shape: tuple[int, ...], dtype: Any) -> None:
        super().__init__(low, high, shape, dtype)
        self._bounds = (low, high)

    def __reduce__(self) -> tuple[type[Bounded], tuple[float, float, tuple[int, ...], str]]:
        return Bounded, (*self._bounds, self._shape, np.dtype(self.dtype).str)

    def __repr__(self) -> str:
        low, high = self._bounds
        return f"Box({low:g}, {high:g}, {self._shape}, {self.dtype})"
