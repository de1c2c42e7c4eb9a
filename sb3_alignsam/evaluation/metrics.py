"""Figures from per-episode scores: means with bootstrap intervals, clicks needed, falls, stopping."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95
DRAWS_AT_ONCE = 2**16
NOC_TARGETS = (0.80, 0.85, 0.90)
"""IoU that clicks are counted up to."""


@dataclass(frozen=True)
class Interval:
    """A mean and its percentile-bootstrap interval."""

    mean: float
    low: float
    high: float


def percentile_interval(estimate: float, resampled: np.ndarray) -> Interval:
    """The 95 % percentile interval of an estimate. :param resampled: the same figure of resamples, (resamples,)."""
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(estimate), float(low), float(high))


def bootstrap_mean(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Mean over episodes with a 95 % percentile-bootstrap interval (Efron and Tibshirani, 1993, chapter 13).

    Of the differences between two clickers on the same episodes it is the paired bootstrap.

    :param values: one a episode, (episodes,), finite.
    :raises ValueError: there is no value.
    """
    return bootstrap_means(values[:, None], resamples, seed)[0]


def bootstrap_means(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> list[Interval]:
    """`bootstrap_mean` of each column; every resample draws the same episodes for all of them.

    :param values: (episodes, columns), finite.
    :raises ValueError: there is no episode.
    """
    if not len(values):
        raise ValueError("no episodes to average")
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    # Some at a time: all at once they would be gigabytes for a split of tens of thousands of episodes.
    some = max(DRAWS_AT_ONCE // len(values), 1)
    for start in range(0, resamples, some):
        count = min(some, resamples - start)
        means[start : start + count] = values[rng.integers(len(values), size=(count, len(values)))].mean(axis=1)
    return [percentile_interval(mean, means[:, column]) for column, mean in enumerate(values.mean(axis=0))]


def miou_at(scores: np.ndarray) -> list[Interval]:
    """Mean score after k clicks, k = 1..K, from scores (episodes, K)."""
    return bootstrap_means(scores)


def clicks_needed(scores: np.ndarray, clicks_at: np.ndarray, target: float) -> tuple[np.ndarray, np.ndarray]:
    """How many clicks an episode takes until its answer reaches an IoU (NoC; Sofiiuk et al., 2021, section 5).

    :param scores: IoU of the answer after each step, (episodes, K).
    :param clicks_at: clicks placed until then, (episodes, K); where several were placed in one step, all count.
    :return: clicks, (episodes,) int64, and which episodes failed, (episodes,) bool. One that reaches the target on the
        last click has not failed. A failure counts as K clicks, or as those that it placed where they are more.
    """
    reached = scores >= target
    failed = np.asarray(~reached.any(axis=1))
    first = np.where(failed, scores.shape[1] - 1, reached.argmax(axis=1))
    placed = np.take_along_axis(clicks_at, first[:, None], axis=1)[:, 0]
    return np.maximum(first + 1, placed), failed


def noc(scores: np.ndarray, clicks_at: np.ndarray) -> dict[str, Any]:
    """NoC@80, 85 and 90: the mean with its interval, the number of failures and their share, by target in percent."""
    figures = {}
    for target in NOC_TARGETS:
        needed, failed = clicks_needed(scores, clicks_at, target)
        figures[f"{target * 100:.0f}"] = {
            **asdict(bootstrap_mean(needed.astype(float))),
            "failures": int(failed.sum()),
            "failure_share": float(failed.mean()),
        }
    return figures


def falls(scores: np.ndarray) -> dict[str, float]:
    """How scores fall from one click to the next.

    :param scores: (episodes, K).
    :return: ``share`` of the episodes that fell at least once; ``mean_largest``, the mean over all episodes of the
        largest fall, 0 where there was none; ``largest_of_mean``, the largest fall of the mean curve.
    """
    drops = np.maximum(-np.diff(scores, axis=1), 0)
    if not drops.size:  # one click has no next one
        return {"share": 0.0, "mean_largest": 0.0, "largest_of_mean": 0.0}
    of_mean = np.maximum(-np.diff(scores.mean(axis=0)), 0)
    return {
        "share": float((drops > 0).any(axis=1).mean()),
        "mean_largest": float(drops.max(axis=1).mean()),
        "largest_of_mean": float(of_mean.max()),
    }


def stop_quality(scores: np.ndarray, stopped_at: np.ndarray) -> dict[str, Any]:
    """How well episodes were stopped.

    :param scores: IoU of the answer after each step, (episodes, K). :param stopped_at: steps made before the stop,
        (episodes,) int64; -1: it was never stopped.
    :return: ``share`` stopped; ``steps``, the mean number of steps before the stop, K where there was none; of those
        that stopped after at least one click ``iou``, ``best_iou`` (the best that the episode reached before) and
        ``regret``, their difference; None where there is no such episode.
    """
    stopped = stopped_at >= 0
    steps = np.where(stopped, stopped_at, scores.shape[1])
    figures: dict[str, Any] = {
        "share": float(stopped.mean()),
        "steps": float(steps.mean()),
        "iou": None,
        "best_iou": None,
        "regret": None,
    }
    judged = np.flatnonzero(stopped_at > 0)
    if len(judged):
        at_stop = np.array([scores[row, stopped_at[row] - 1] for row in judged])
        best = np.array([scores[row, : stopped_at[row]].max() for row in judged])
        figures |= {
            "iou": float(at_stop.mean()),
            "best_iou": float(best.mean()),
            "regret": float((best - at_stop).mean()),
        }
    return figures
