"""Weights and a picture from a seed, as the reference figures in `third_party/` were made: no checkpoint is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def fill(shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, np.ndarray]:
    """Draw an array for each key, in the keys' alphabetical order, float32 (BatchNorm counters: int64 zeros)."""
    rng = np.random.RandomState(seed)
    return {key: _draw(rng, key, tuple(shapes[key])) for key in sorted(shapes)}


def blocks(seed: int, height: int, width: int) -> np.ndarray:
    """A picture of random blocks of 8×8 pixels, (height, width, 3) uint8."""
    rng = np.random.RandomState(seed)
    colours = rng.randint(0, 256, (height // 8 + 1, width // 8 + 1, 3)).astype(np.uint8)
    return np.ascontiguousarray(colours.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])


def _draw(rng: np.random.RandomState, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Magnitudes that let signals through a deep network: unit gains, variances about 1, fan-in scaled matrices."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    drawn = rng.standard_normal(shape)
    if len(shape) > 1:
        return (drawn / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    return (0.1 * drawn + float(key.endswith("weight"))).astype(np.float32)
