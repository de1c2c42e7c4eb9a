from __future__ import annotations

import numpy as np
import pytest

from sb3_alignsam.evaluation.metrics import bootstrap_mean, miou_at


def test_the_interval_covers_the_mean_as_the_normal_one_does():
    values = np.random.default_rng(0).normal(0.5, 0.2, 400)
    interval = bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.003)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.003)


def test_equal_values_have_no_spread_and_no_values_no_mean():
    assert bootstrap_mean(np.full(9, 0.25)) == bootstrap_mean(np.full(3, 0.25))
    with pytest.raises(ValueError, match="no episodes"):
        bootstrap_mean(np.zeros(0))


def test_miou_at_k_is_the_mean_over_episodes_of_column_k():
    scores = np.array([[0.0, 0.5], [1.0, 1.0]])
    assert [interval.mean for interval in miou_at(scores)] == [0.5, 0.75]
