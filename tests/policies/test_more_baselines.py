"""Baselines that bring masks of their own or look at SAM's: uncertainty, everything, best of three, trivial ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sb3_alignsam.envs import make_env
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.protocol import evaluate, state_of
from sb3_alignsam.evaluation.run_lengths import decode_mask
from sb3_alignsam.policies.baselines import make_baseline
from sb3_alignsam.policies.clickers import STOP


@pytest.fixture(scope="module")
def env():
    return make_env("SamSegShapes-v0", {"split": "dev", "text_model": "tiny"})


def _play(env, name, indices=range(4), clicks=3):
    _, (record,) = evaluate(env, [make_baseline(name, env.grid, env.features)], list(indices), clicks)
    return record


def test_trivial_answers_take_no_click(env):
    empty, whole = _play(env, "empty"), _play(env, "whole_image")
    assert (empty.answer_iou == 0).all()
    shares = [env.fixed_episode(index).sample.union.mean() for index in range(4)]
    assert whole.answer_iou[:, 0] == pytest.approx(np.array(shares))
    assert (whole.answer_iou == whole.answer_iou[:, :1]).all()
    for record in (empty, whole):
        assert (record.clicks_at == 0).all()
        assert not record.uses_ground_truth
    assert decode_mask(whole.answers[0]).all()


def test_uncertainty_starts_in_the_middle_and_then_clicks_where_sam_is_least_sure(env):
    episode = env.fixed_episode(1)
    baseline = make_baseline("uncertainty", env.grid, env.features)
    rng = np.random.default_rng(0)
    first = baseline.next_clicks([state_of(env, episode, 0, rng)])[0]
    assert max(abs(first.x - 128), abs(first.y - 128)) <= 8
    assert first.positive
    episode.click(first, env.segmenter)
    second = baseline.next_clicks([state_of(env, episode, 1, rng)])[0]
    probability = 1 / (1 + np.exp(-episode.low_res[0].numpy().reshape(16, 8, 16, 8)))
    unsure = (1 - np.abs(2 * probability - 1)).mean(axis=(1, 3))
    clicked = env.grid.patch(first, 256, 256)
    unsure[clicked] = -1
    chosen = env.grid.patch(second, 256, 256)
    assert unsure[chosen] == pytest.approx(unsure.max())
    assert second.positive == (probability.mean(axis=(1, 3))[chosen] >= 0.5)


def test_an_oracle_that_also_chooses_the_mask_is_above_one_that_does_not_at_the_first_click(env):
    best, oracle = _play(env, "oracle_best_of_three", range(12)), _play(env, "oracle", range(12))
    assert best.uses_ground_truth
    assert (best.last_iou[:, 0] >= oracle.last_iou[:, 0] - 1e-6).all()
    assert best.last_iou[:, 0].mean() > oracle.last_iou[:, 0].mean()
    assert (best.clicks_at[:, -1] == 3).all()


def test_its_answer_is_still_chosen_by_predicted_iou(env):
    record = _play(env, "oracle_best_of_three", range(12), 5)
    assert (np.diff(record.predicted_iou, axis=1) >= 0).all()


def test_everything_mode_answers_with_masks_that_look_like_the_category(env):
    record = _play(env, "everything", range(6), 2)
    assert (record.answer_iou[:, 0] == record.answer_iou[:, 1]).all()
    assert record.answer_iou[:, 0].mean() > 0.3
    assert (record.clicks_at[:, 0] >= 1).all()
    baseline = make_baseline("everything", env.grid, env.features)
    assert baseline.next_clicks([state_of(env, env.fixed_episode(0), 1, np.random.default_rng(0))]) == [STOP]
    without = make_env("SamSegShapes-v0", {"split": "dev"})
    with pytest.raises(InputError, match="baseline 'everything' needs a text model"):
        make_baseline("everything", without.grid, without.features)


class LoudPadding:
    """A segmenter that finds objects in the padding too, as one may."""

    def __init__(self, segmenter, height):
        self._segmenter, self._height = segmenter, height

    def __getattr__(self, name):
        return getattr(self._segmenter, name)

    def segment(self, *args):
        masks = self._segmenter.segment(*args)
        low_res = masks.low_res.clone()
        low_res[..., self._height :, :] = 10.0
        return replace(masks, low_res=low_res)


def test_everything_mode_does_not_look_at_padding(env):
    sample = env.fixed_episode(1).sample
    wide = replace(sample, image=sample.image[:96], instances=sample.instances[:, :96], ignore=sample.ignore[:96])
    episode = env.new_episode(wide, env.features.of(wide.image))
    baseline = make_baseline("everything", env.grid, env.features)
    state = state_of(env, episode, 0, np.random.default_rng(0))
    (quiet,) = baseline.next_clicks([state])
    rows = 96 * env.segmenter.low_res_size // 256
    baseline.segmenter = LoudPadding(env.segmenter, rows)
    (loud,) = baseline.next_clicks([state])
    assert len(quiet.clicks) > 1
    assert loud.clicks == quiet.clicks
    assert loud.predicted_iou == quiet.predicted_iou
    assert np.array_equal(loud.low_res[:, :rows], quiet.low_res[:, :rows])


@pytest.mark.parametrize("name", ["uncertainty", "oracle_best_of_three", "everything", "whole_image"])
def test_they_work_on_photographs_of_any_shape(env, coco_mini, name):
    photographs = make_env("SamSegCoco-v0", {"root": str(coco_mini), "split": "val2017", "text_model": "tiny"})
    record = _play(photographs, name, range(2), 3)
    assert np.isfinite(record.answer_iou).all()
    assert (record.answer_iou >= 0).all()
