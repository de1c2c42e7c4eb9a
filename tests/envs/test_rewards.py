from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sb3_alignsam.envs.rewards import MaskScores, RewardWeights, gain_term, hit_term, label_term, mask_scores
from sb3_alignsam.errors import InputError


def _half():
    mask, gt = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    mask[:, :2] = gt[:2] = True
    return mask, gt


def test_iou_and_dice_of_known_masks():
    mask, gt = _half()
    nothing = np.zeros((4, 4), bool)
    assert mask_scores(mask, gt, nothing).iou == pytest.approx(4 / 12)
    assert mask_scores(mask, gt, nothing).dice == pytest.approx(8 / 16)


def test_ignored_pixels_count_neither_way():
    mask, gt = _half()
    ignore = mask ^ gt
    assert mask_scores(mask, gt, ignore) == MaskScores(1.0, 1.0)
    assert mask_scores(mask, gt, mask & gt) == MaskScores(0.0, 0.0)


def test_an_absent_category_is_right_only_with_an_empty_answer():
    mask, _ = _half()
    nothing = np.zeros((4, 4), bool)
    assert mask_scores(nothing, nothing, nothing) == MaskScores(1.0, 1.0)
    assert mask_scores(mask, nothing, nothing) == MaskScores(0.0, 0.0)
    assert mask_scores(mask, nothing, mask) == MaskScores(1.0, 1.0)  # all of the answer is ignored


def test_gains_against_the_last_sum_to_the_final_and_against_the_best_to_the_best():
    scores = [0.0, 0.5, 0.3, 0.7, 0.6]
    last = sum(gain_term(b, a, 0, "last") for a, b in pairwise(scores))
    best = sum(gain_term(scores[i], 0, max(scores[:i]), "best") for i in range(1, 5))
    assert last == pytest.approx(0.6)
    assert best == pytest.approx(0.7)


def test_labels_are_judged_as_in_the_paper():
    assert label_term(True, True, False) == label_term(False, False, False) == 1.0
    assert label_term(True, False, False) == label_term(False, True, False) == -1.0
    assert label_term(True, False, True) == 0.0


def test_the_reward_is_the_weighted_sum_of_its_terms():
    weights = RewardWeights.from_mapping({"gain": 2, "label": 0.5, "repeat": -1, "step_cost": -0.1, "final": 3})
    terms = {"gain": 0.25, "label": -1.0, "repeat": 1.0, "step_cost": 1.0, "final": 0.5}
    assert weights.total(terms) == pytest.approx(0.5 - 0.5 - 1 - 0.1 + 1.5)


@pytest.mark.parametrize(
    ("weights", "words"),
    [({"gian": 1}, "'gian' is not known"), ({"gain": "much"}, "finite"), ({"gain": float("nan")}, "finite")],
)
def test_wrong_weights_are_named(weights, words):
    with pytest.raises(InputError, match=words):
        RewardWeights.from_mapping(weights)


def test_a_positive_click_is_paid_where_it_finds_a_missed_part_of_the_target():
    assert hit_term(True, on_target=True, in_mask=False, ignored=False) == 1.0
    assert hit_term(True, on_target=True, in_mask=True, ignored=False) == 0.0
    assert hit_term(True, on_target=True, in_mask=False, ignored=True) == 0.0
    assert hit_term(True, on_target=False, in_mask=False, ignored=False) == 0.0
    for on_target in (True, False):
        for in_mask in (True, False):
            assert hit_term(False, on_target, in_mask, ignored=False) == 0.0
