from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sb3_alignsam.datasets import CocoDataset, Sampler, ShapesDataset
from sb3_alignsam.datasets.sampling import LAG, read_sample, samples_of_draw
from sb3_alignsam.errors import InputError

PAIRS = np.array([[1, 1], [1, 2], [1, 3], [2, 1], [3, 1], [4, 1], [5, 1], [6, 2]])
"""Image and category: six images; category 1 on five of them, 3 on one."""
DRAWS = 4000


class _Listed:
    """A dataset that lists its episodes and has no picture of any."""

    name, split, categories = "listed", "all", ("a", "b", "c")

    def __init__(self, pairs=PAIRS):
        self._pairs = pairs

    def __len__(self):
        return len(self._pairs)

    def pairs(self):
        return self._pairs

    def get(self, index):
        return ("there", index)

    def get_absent(self, index, choice):
        return ("absent", index, choice)


def _drawn(sampler, count=DRAWS, seed=0):
    rng = np.random.default_rng(seed)
    return [sampler.draw(rng) for _ in range(count)]


def _shares(indices):
    return np.bincount(indices, minlength=len(PAIRS)) / len(indices)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("uniform", [1 / 18, 1 / 18, 1 / 18, 1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 6]),
        ("balanced", [1 / 15, 1 / 6, 1 / 3, 1 / 15, 1 / 15, 1 / 15, 1 / 15, 1 / 6]),
        # Uniform's, divided by 5, 2 and 1: the episodes of the categories; 1/18 x (1/5 + 1/2 + 1) + 4/30 + 1/12 in all.
        ("inverse_frequency", np.array([1 / 90, 1 / 36, 1 / 18, 1 / 30, 1 / 30, 1 / 30, 1 / 30, 1 / 12]) / 0.311111),
    ],
)
def test_each_rule_draws_in_the_proportions_that_it_states(rule, expected):
    assert np.isclose(sum(expected), 1, atol=1e-5)
    assert np.allclose(_shares(_drawn(Sampler(_Listed(), rule))), expected, atol=0.025)


def test_the_same_seed_draws_the_same():
    assert _drawn(Sampler(_Listed(), "balanced"), 50) == _drawn(Sampler(_Listed(), "balanced"), 50)
    assert _drawn(Sampler(_Listed(), "balanced"), 50) != _drawn(Sampler(_Listed(), "balanced"), 50, seed=1)


@pytest.mark.parametrize("rule", ["uniform", "balanced", "inverse_frequency", "hard"])
@pytest.mark.parametrize(("parts", "ranks"), [(1, 1), (4, 1), (1, 3), (2, 2), (3, 2)])
def test_shares_are_disjoint_and_together_everything(rule, parts, ranks):
    drawn = []
    for rank in range(ranks):
        for part in range(parts):
            sampler = Sampler(_Listed(), rule)
            sampler.take_share(part, parts, rank, ranks)
            drawn.append(set(_drawn(sampler, 300)))
    images = [{int(PAIRS[index, 0]) for index in each} for each in drawn]
    assert sum(map(len, images)) == 6
    assert set.union(*drawn) == set(range(len(PAIRS)))


@pytest.mark.parametrize("share", [(2, 2), (-1, 2), (0, 2, 2, 2), (0, 2, -1, 2)])
def test_a_share_that_there_is_not_is_refused(share):
    with pytest.raises(ValueError, match="is not one of 2 parts"):
        Sampler(_Listed()).take_share(*share)


def test_with_fewer_images_than_parts_no_part_is_empty():
    for part in range(9):
        sampler = Sampler(_Listed(), "uniform")
        sampler.take_share(part, 9)
        assert len({PAIRS[index, 0] for index in _drawn(sampler, 20)}) == 1


def _play(sampler, score, episodes, ahead, rng):
    """Play episodes with that many drawn ahead; returns their indices."""
    waiting, played = [], []
    for _ in range(episodes):
        while len(waiting) < ahead + 1:
            waiting.append(sampler.draw(rng))
        played.append(waiting.pop(0))
        sampler.begin(drawn=True)
        sampler.note(played[-1], score(played[-1]))
    return played


def test_hard_prefers_what_scored_low():
    sampler = Sampler(_Listed(), "hard")
    played = _play(sampler, lambda index: float(index != 3), 2000, 0, np.random.default_rng(0))
    shares = _shares(played[200:])
    assert shares[3] > 0.55
    assert min(shares) > 0.003  # The easiest are seen now and then.


@pytest.mark.parametrize("ahead", [1, 3, LAG])
def test_hard_draws_the_same_however_many_are_drawn_ahead(ahead):
    def score(index):
        return index / 8

    def play(ahead, score=score):
        return _play(Sampler(_Listed(), "hard"), score, 200, ahead, np.random.default_rng(3))

    assert play(ahead) == play(0)
    assert play(ahead) != play(0, lambda index: 1 - index / 8)


@pytest.mark.parametrize("share", [(0, 1), (1, 2, 0, 1), (0, 1, 1, 2)])
@pytest.mark.parametrize("played", [0, 3, LAG + 1, 50])
def test_hard_goes_on_from_its_state(played, share):
    def score(index):
        return index / 8

    rng, sampler, other = np.random.default_rng(3), Sampler(_Listed(), "hard"), Sampler(_Listed(), "hard")
    for each in (sampler, other):
        each.take_share(*share)
    _play(sampler, score, played, 0, rng)
    other.load_state_dict(sampler.state_dict())
    resumed = np.random.default_rng()
    resumed.bit_generator.state = rng.bit_generator.state
    assert _play(other, score, 60, 0, resumed) == _play(sampler, score, 60, 0, rng)
    states = [each.state_dict() for each in (sampler, other)]
    assert all(np.array_equal(states[0][key], states[1][key]) for key in states[0])


def test_another_share_takes_over_the_scores_of_its_own_images():
    """As where a run goes on with another number of ranks: images 1, 3 and 5, of which 1 and 5 stay."""
    sampler, other = Sampler(_Listed(), "hard"), Sampler(_Listed(), "hard")
    sampler.take_share(0, 2)
    other.take_share(0, 1, 0, 4)
    played = _play(sampler, lambda index: (index + 1) / 8, 40, 0, np.random.default_rng(0))
    assert {0, 4, 6} <= set(played)
    other.load_state_dict(sampler.state_dict())

    def scores(sampler, images):
        state = sampler.state_dict()
        rows = np.flatnonzero(np.isin(PAIRS[:, 0], images))
        return {int(rows[row]): float(score) for row, score in zip(state["rows"], state["scores"], strict=True)}

    before = scores(sampler, [1, 3, 5])
    assert 4 in before
    assert scores(other, [1, 5]) == {index: score for index, score in before.items() if index != 4}


def test_a_state_leaves_out_what_is_drawn_ahead():
    rng, sampler = np.random.default_rng(3), Sampler(_Listed(), "hard")
    _play(sampler, lambda index: 0.5, 20, 0, rng)
    before = sampler.state_dict()
    for _ in range(LAG):
        sampler.draw(rng)
    after = sampler.state_dict()
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_episodes_that_were_asked_for_have_no_say():
    sampler, other = Sampler(_Listed(), "hard"), Sampler(_Listed(), "hard")
    for _ in range(30):
        sampler.begin(drawn=False)
        sampler.note(2, 1.0)
    assert _drawn(sampler, 50) == _drawn(other, 50)


def test_a_restart_forgets_the_scores():
    sampler = Sampler(_Listed(), "hard")
    _play(sampler, lambda index: index / 8, 50, 0, np.random.default_rng(0))
    sampler.restart()
    assert _drawn(sampler, 50) == _drawn(Sampler(_Listed(), "hard"), 50)


def test_absent_episodes_come_as_often_as_asked_for():
    dataset = _Listed()
    sampler = Sampler(dataset, "uniform", 0.25)
    samples = [read_sample(dataset, index) for index in _drawn(sampler)]
    kinds = Counter(each[0] for each in samples)
    assert kinds["absent"] / DRAWS == pytest.approx(0.25, abs=0.03)
    assert {each[1] for each in samples if each[0] == "absent"} == set(range(len(PAIRS)))
    assert {read_sample(dataset, index)[0] for index in _drawn(Sampler(dataset), 50)} == {"there"}


def test_an_absent_shape_is_not_on_its_scene():
    dataset = ShapesDataset("train", ["star", "ring", "heart"])
    sampler = Sampler(dataset, "uniform", 1.0)
    for index in _drawn(sampler, 20):
        sample = read_sample(dataset, index)
        names = [dataset.categories[label] for label in dataset.scene(sample.image_id - 1).labels]
        assert sample.category in ("star", "ring", "heart")
        if {"star", "ring", "heart"} - set(names):
            assert sample.category not in names
            assert len(sample.instances) == 0


@pytest.mark.parametrize(
    ("dataset", "arguments", "words"),
    [
        (_Listed(), ("fair",), "sampling 'fair' is not known; known: uniform"),
        (_Listed(), ("uniform", 1.5), "absent_rate needs a number from 0 to 1"),
        (_Listed(), ("uniform", float("nan")), "absent_rate needs a number from 0 to 1"),
        (ShapesDataset("train"), ("hard",), "sampling 'hard' needs a dataset that lists its episodes; the train split"),
    ],
)
def test_what_a_dataset_cannot_do_is_named(dataset, arguments, words):
    with pytest.raises(InputError, match=words):
        Sampler(dataset, *arguments)


def test_a_dataset_without_lists_is_asked_itself():
    dataset = ShapesDataset("train")
    sampler = Sampler(dataset)
    sampler.take_share(1, 4)
    rng = np.random.default_rng(0)
    assert _drawn(sampler, 5) == [dataset.draw(rng) for _ in range(5)]


def test_a_draw_stands_for_every_category_of_its_image_and_for_one_picture(tmp_path):
    ShapesDataset("val").write_coco(tmp_path, 2)
    dataset = CocoDataset(tmp_path, "val")
    pairs = dataset.pairs()
    index = int(np.flatnonzero(pairs[:, 0] == 1)[-1])
    samples = samples_of_draw(dataset, index)
    assert samples[0].category_id == pairs[index, 1]
    assert sorted(each.category_id for each in samples) == sorted(pairs[pairs[:, 0] == 1, 1])
    assert len(samples) > 1
    assert all(each.image is samples[0].image for each in samples)
    for each in samples:
        alone = dataset.get(int(np.flatnonzero((pairs == (1, each.category_id)).all(axis=1))[0]))
        assert np.array_equal(each.image, alone.image)
        assert np.array_equal(each.instances, alone.instances)
