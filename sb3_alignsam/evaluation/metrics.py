"""Figures from per-episode scores: means over episodes with bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its percentile-bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Mean over episodes with a 95 % percentile-bootstrap interval (Efron and Tibshirani, 1993, chapter 13).

    :param values: one a episode, (episodes,), finite.
    :raises ValueError: there is no value.
    """
    if not len(values):
        raise ValueError("no episodes to average")
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(values), size=(resamples, len(values)))
    means = values[chosen].mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def miou_at(scores: np.ndarray) -> list[Interval]:
    """mIoU@k for k = 1..K from scores (episodes, K)."""
    return [bootstrap_mean(scores[:, k]) for k in range(scores.shape[1])]
