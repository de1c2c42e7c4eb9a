from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as native

from sb3_alignsam.envs.rewards import mask_scores
from sb3_alignsam.evaluation.metrics import (
    bootstrap_mean,
    bootstrap_means,
    clicks_needed,
    falls,
    miou_at,
    noc,
    stop_quality,
)
from tests.evaluation.random_masks import random_masks


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


def test_columns_are_resampled_together():
    values = np.random.default_rng(1).random((30, 1))
    first, second = bootstrap_means(np.hstack([values, values]))
    assert first == second
    assert vars(bootstrap_mean(values[:, 0])) == pytest.approx(vars(first))


def test_miou_at_k_is_the_mean_over_episodes_of_column_k():
    scores = np.array([[0.0, 0.5], [1.0, 1.0]])
    assert [interval.mean for interval in miou_at(scores)] == [0.5, 0.75]


def test_iou_and_dice_are_those_of_pycocotools_on_a_thousand_random_masks():
    for gt, mask, ignore in random_masks(1000):
        found = mask_scores(mask, gt, ignore)
        kept_gt, kept_mask = gt & ~ignore, mask & ~ignore
        if not kept_gt.any() and not kept_mask.any():
            assert (found.iou, found.dice) == (1.0, 1.0)
            continue
        runs = [native.encode(np.asfortranarray(each.astype(np.uint8))) for each in (kept_mask, kept_gt)]
        assert found.iou == pytest.approx(native.iou([runs[0]], [runs[1]], [0])[0, 0], abs=1e-12)
        overlap = int(native.area(native.merge(runs, intersect=True)))
        assert found.dice == pytest.approx(2 * overlap / int(native.area(runs).sum()), abs=1e-12)


def test_reaching_the_target_on_the_last_click_is_no_failure():
    scores = np.array([[0.2, 0.9, 0.9], [0.1, 0.2, 0.85], [0.5, 0.5, 0.5]])
    needed, failed = clicks_needed(scores, np.tile([1, 2, 3], (3, 1)), 0.85)
    assert needed.tolist() == [2, 3, 3]
    assert failed.tolist() == [False, False, True]
    figures = noc(scores, np.tile([1, 2, 3], (3, 1)))
    assert figures["85"]["mean"] == pytest.approx(8 / 3)
    assert (figures["85"]["failures"], figures["85"]["failure_share"]) == (1, pytest.approx(1 / 3))
    assert figures["90"]["failures"] == 2


def test_clicks_that_were_placed_at_once_all_count():
    needed, failed = clicks_needed(np.array([[0.9, 0.9], [0.1, 0.1]]), np.array([[12, 12], [9, 9]]), 0.8)
    assert needed.tolist() == [12, 9]
    assert failed.tolist() == [False, True]


def test_falls_are_counted_by_episode_and_on_the_mean_curve():
    found = falls(np.array([[0.5, 0.4, 0.6, 0.3], [0.1, 0.2, 0.2, 0.9]]))
    assert found["share"] == 0.5
    assert found["mean_largest"] == pytest.approx(0.15)
    assert found["largest_of_mean"] == 0.0
    assert falls(np.array([[0.5, 0.4], [0.5, 0.4]]))["largest_of_mean"] == pytest.approx(0.1)
    assert falls(np.array([[0.5]]))["share"] == 0.0


def test_a_stop_is_judged_by_the_best_that_was_reached_before():
    scores = np.array([[0.6, 0.4, 0.4], [0.2, 0.3, 0.5], [0.0, 0.0, 0.0]])
    found = stop_quality(scores, np.array([2, -1, 0]))
    assert found["share"] == pytest.approx(2 / 3)
    assert found["steps"] == pytest.approx((2 + 3 + 0) / 3)
    assert (found["iou"], found["best_iou"], found["regret"]) == (0.4, 0.6, pytest.approx(0.2))
    assert stop_quality(scores, np.full(3, -1))["iou"] is None
