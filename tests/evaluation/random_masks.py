"""Random masks of many kinds, the same in every run."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

Masks = tuple[np.ndarray, np.ndarray, np.ndarray]


def random_masks(count: int, seed: int = 0) -> Iterator[Masks]:
    """Ground truth, an answer near it or not, and pixels to ignore, each (H, W) bool; some are empty, some are full."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        shape = (int(rng.integers(1, 90)), int(rng.integers(1, 90)))
        gt = _blobs(rng, shape)
        if number % 3 == 0:
            mask = _blobs(rng, shape)
        else:
            shift = (int(rng.integers(-4, 5)), int(rng.integers(-4, 5)))
            mask = np.roll(gt, shift, (0, 1))
        ignore = _blobs(rng, shape) if number % 2 else np.zeros(shape, bool)
        yield gt, mask, ignore & ~gt if number % 4 == 1 else ignore


def _blobs(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    kind = rng.integers(8)
    if kind == 0:
        return np.zeros(shape, bool)
    if kind == 1:
        return np.ones(shape, bool)
    noise = rng.random(shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(0.5, 8)))
    return smooth > np.quantile(smooth, rng.uniform(0.2, 0.95))
