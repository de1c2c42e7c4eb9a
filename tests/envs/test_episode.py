from __future__ import annotations

import numpy as np
import pytest
import torch as th

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.envs.episode import ClickEpisode, click_together
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception import Click, oracle_click
from sb3_alignsam.perception.frozen_features import FrozenFeatures
from tests.conftest import square_sample


def _episode(sample=None, **settings):
    return ClickEpisode(sample or square_sample(), np.zeros((64, 32, 32), np.float16), **settings)


def _logits_of(mask):
    """Low-res logits that upsample to about `mask`, for a picture of 60x80 on the 256-pixel square."""
    square = np.zeros((256, 256), np.float32)
    rows, columns = np.mgrid[:192, :256]
    square[:192] = mask[(rows * 60 // 192), (columns * 80 // 256)]
    return th.from_numpy(square[1::2, 1::2] * 20 - 10)[None]


def _answer(episode, mask, predicted):
    episode.place(Click(1, 1, True))
    episode.receive(_logits_of(mask), th.tensor([predicted]), 256)


def test_before_the_first_click_the_answer_is_the_empty_mask():
    episode = _episode()
    assert not episode.answer.mask.any()
    assert episode.answer.score == 0.0


def test_an_absent_category_starts_at_score_one():
    sample = square_sample()
    empty = type(sample)(sample.image, "star", 4, sample.instances[:0], sample.ignore, 7, ())
    assert _episode(empty).answer.score == 1.0


def test_the_answer_is_the_mask_of_highest_predicted_iou_so_far():
    sample = square_sample()
    episode = _episode()
    _answer(episode, sample.union, 0.8)
    good = episode.answer.score
    assert good > 0.85
    _answer(episode, np.zeros((60, 80), bool), 0.7)
    assert episode.answer.score == good
    assert episode.last.score == 0.0
    _answer(episode, sample.instances[0], 0.9)
    assert episode.answer.score < good  # predicted IoU decides, not the true one
    assert episode.best_score == good


def test_an_answer_tells_how_much_of_it_belonged_to_objects_found_before():
    mask = np.zeros((60, 80), bool)
    mask[10:30, 10:50] = True
    excluded = np.zeros_like(mask)
    excluded[:, :40] = True
    episode = _episode(excluded=excluded)
    _answer(episode, mask, 0.8)
    assert episode.answer.excluded_share == pytest.approx(0.75, abs=0.03)
    assert not (episode.answer.mask & excluded).any()
    assert _episode().answer.excluded_share == 0
    _answer(episode, ~excluded, 0.9)
    assert episode.answer.excluded_share == pytest.approx(0, abs=0.05)


def test_the_first_mask_replaces_the_empty_one_however_unsure_it_is():
    episode = _episode()
    _answer(episode, square_sample().union, -0.3)
    assert episode.answer.score > 0.85


def test_answer_last_is_the_latest_mask():
    episode = _episode(answer_rule="last")
    _answer(episode, square_sample().union, 0.9)
    _answer(episode, np.zeros((60, 80), bool), 0.1)
    assert episode.answer.score == 0.0


def test_among_candidates_predicted_iou_chooses():
    sample, episode = square_sample(), _episode()
    episode.place(Click(1, 1, True))
    low_res = th.cat([_logits_of(sample.union), _logits_of(sample.instances[0])])
    episode.receive(low_res, th.tensor([0.2, 0.6]), 256)
    assert episode.low_res.shape == (1, 128, 128)
    assert th.equal(episode.low_res[0], low_res[1])


def test_instance_target_is_the_unfound_instance_that_the_answer_overlaps_most():
    sample, episode = square_sample(), _episode(target="instance")
    for index in range(2):
        assert np.array_equal(episode.gt(sample.instances[index]), sample.instances[index])
    _answer(episode, sample.instances[1], 0.9)
    following = episode.next_object()
    assert following.found.tolist() == [False, True]
    assert np.array_equal(following.gt(sample.instances[1]), sample.instances[0])
    assert not following.wanted()[35, 45]
    _answer(following, sample.union, 0.9)
    assert not following.last.mask[35, 45]  # what was found is not answered again
    assert following.next_object() is None


def test_there_is_no_next_object_after_a_miss_or_with_category_targets():
    missed = _episode(target="instance")
    _answer(missed, np.zeros((60, 80), bool), 0.9)
    assert missed.next_object() is None
    category = _episode()
    _answer(category, square_sample().instances[0], 0.9)
    assert category.next_object() is None


def test_a_click_outside_the_picture_is_refused():
    with pytest.raises(InputError, match=r"click \(80, 3\) lies outside the 80x60 image"):
        _episode().place(Click(80, 3, True))


def test_no_ground_truth_leaks_into_clicks_masks_or_answers(segmenter):
    """The same clicks on the same picture give the same masks and answer whatever the ground truth says."""
    sample = ShapesDataset("dev").get(1)
    wrong = type(sample)(
        sample.image, sample.category, sample.category_id, ~sample.instances[:1], sample.ignore, sample.image_id, (1,)
    )
    embedding = FrozenFeatures(segmenter).of(sample.image).embedding
    masks = []
    for each in (sample, wrong):
        episode = ClickEpisode(each, embedding)
        for click in (Click(100, 90, True), Click(30, 200, False), Click(60, 60, True)):
            episode.click(click, segmenter)
        masks.append((episode.answer.mask, episode.last.mask, episode.answer.predicted_iou))
    assert np.array_equal(masks[0][0], masks[1][0])
    assert np.array_equal(masks[0][1], masks[1][1])
    assert masks[0][2] == masks[1][2]


def test_clicking_together_equals_clicking_alone(segmenter):
    dataset = ShapesDataset("dev")
    samples = [dataset.get(index) for index in range(4)]
    embeddings = [FrozenFeatures(segmenter).of(sample.image).embedding for sample in samples]
    together = [ClickEpisode(*pair) for pair in zip(samples, embeddings, strict=True)]
    alone = [ClickEpisode(*pair) for pair in zip(samples, embeddings, strict=True)]
    for step in range(3):
        clicks = [oracle_click(e.gt(e.last.mask), e.last.mask, None, e.clicks) for e in together]
        clicks[2] = None if step == 0 else clicks[2]  # one episode starts a click later
        click_together(together, clicks, segmenter)
        for episode, click in zip(alone, clicks, strict=True):
            if click is not None:
                episode.click(click, segmenter)
    for a, b in zip(together, alone, strict=True):
        assert a.clicks == b.clicks
        assert th.allclose(a.low_res, b.low_res, atol=1e-4, rtol=1e-4)
        assert a.answer.score == pytest.approx(b.answer.score, abs=1e-3)
