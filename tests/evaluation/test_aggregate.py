from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import trim_mean

from sb3_alignsam.evaluation.aggregate import interquartile_mean, mean_over_runs, stratified_iqm, task_scores


def test_scores_are_averaged_by_category():
    scores = np.array([[0.0, 1.0, 0.5], [0.2, 0.4, 0.6]])
    assert task_scores(scores, ["star", "ring", "star"]) == pytest.approx(np.array([[1.0, 0.25], [0.4, 0.4]]))


@pytest.mark.parametrize("size", [1, 3, 4, 9, 24])
def test_the_interquartile_mean_is_scipys_trimmed_mean(size):
    values = np.random.default_rng(size).random((5, size))
    assert interquartile_mean(values) == pytest.approx(trim_mean(values, 0.25, axis=1))


def test_the_stratified_bootstrap_resamples_runs_within_tasks():
    matrix = np.array([[0.1, 0.5, 0.9, 0.4]] * 3)  # runs agree, so tasks that differ add no spread
    interval = stratified_iqm(matrix)
    assert interval.low == interval.high == pytest.approx(interval.mean)
    spread = stratified_iqm(matrix + np.array([[-0.1], [0.0], [0.1]]))
    assert spread.low < spread.mean < spread.high
    assert spread.high - spread.low < 0.2


def test_the_plain_mean_knows_the_spread_of_runs_and_of_episodes():
    rng = np.random.default_rng(0)
    episodes = rng.random(50)
    same_runs = mean_over_runs(np.tile(episodes, (3, 1)))
    other_runs = mean_over_runs(np.stack([episodes, episodes + 0.3, episodes - 0.3]))
    assert same_runs.mean == pytest.approx(other_runs.mean) == pytest.approx(episodes.mean())
    assert other_runs.high - other_runs.low > same_runs.high - same_runs.low > 0
    for function in (stratified_iqm, mean_over_runs):
        with pytest.raises(ValueError, match="no runs"):
            function(np.zeros((0, 0)))
