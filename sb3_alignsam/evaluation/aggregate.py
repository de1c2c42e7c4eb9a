"""Several runs of one configuration: interquartile mean and plain mean with intervals that know of both runs and tasks.

Follows Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021. A run is
a seed, a task is a category, and a run's score on a task is its mean over that category's episodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sb3_alignsam.evaluation.metrics import RESAMPLES, Interval, percentile_interval


def task_scores(scores: np.ndarray, categories: Sequence[str]) -> np.ndarray:
    """Mean score of each run on each category.

    :param scores: (runs, episodes). :param categories: of the episodes. :return: (runs, tasks), tasks by name.
    """
    names = np.array(categories)
    return np.stack([scores[:, names == name].mean(axis=1) for name in sorted(set(categories))], axis=1)


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half of the values along the last axis: the lowest and the highest quarter, each rounded down
    to whole values, are left out (section 4.3; `scipy.stats.trim_mean` with 0.25).

    :param values: (..., N), N >= 1.
    """
    cut = values.shape[-1] // 4
    return np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(axis=-1)


def stratified_iqm(matrix: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Interquartile mean over all runs and tasks, with its stratified-bootstrap interval (section 4.1): each resample
    draws, for every task on its own, as many runs as there are, with replacement.

    :param matrix: (runs, tasks).
    :raises ValueError: it is empty.
    """
    if not matrix.size:
        raise ValueError("no runs to aggregate")
    rng = np.random.default_rng(seed)
    runs, tasks = matrix.shape
    drawn = rng.integers(runs, size=(resamples, runs, tasks))
    resampled = matrix[drawn, np.arange(tasks)].reshape(resamples, -1)
    return percentile_interval(float(interquartile_mean(matrix.ravel())), interquartile_mean(resampled))


def mean_over_runs(scores: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Plain mean over runs and episodes; each resample draws runs, and episodes that all its runs share.

    :param scores: (runs, episodes).
    :raises ValueError: it is empty.
    """
    if not scores.size:
        raise ValueError("no runs to aggregate")
    rng = np.random.default_rng(seed)
    runs, episodes = scores.shape
    means = np.empty(resamples)
    for index in range(resamples):
        of_runs = scores[rng.integers(runs, size=runs)].mean(axis=0)
        means[index] = of_runs[rng.integers(episodes, size=episodes)].mean()
    return percentile_interval(float(scores.mean()), means)
