from __future__ import annotations

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer

from sb3_alignsam.policies.features import EPISODE_ROWS
from sb3_alignsam.training.buffers import (
    DistinctEpisodeDictRolloutBuffer,
    EpisodeDictRolloutBuffer,
    MaskableDistinctEpisodeDictRolloutBuffer,
    MaskableEpisodeDictRolloutBuffer,
)

SPACE = spaces.Dict(
    {
        "sam_image_embeddings": spaces.Box(-9, 9, (6, 4, 4), np.float16),
        "target_category": spaces.Discrete(3),
        "excluded_mask": spaces.Box(0, 1, (1, 4, 4), np.float32),
        "click_map": spaces.Box(0, 1, (2, 4, 4), np.uint8),
        "num_steps": spaces.Discrete(6),
    }
)
ACTIONS = spaces.Discrete(32)
STEPS, ENVS = 7, 3
PAIRS = [(DictRolloutBuffer, EpisodeDictRolloutBuffer), (MaskableDictRolloutBuffer, MaskableEpisodeDictRolloutBuffer)]


def _fill(buffers, seed, maskable):
    """The same rollout into each: episodes of two steps and more, of which some are going on when it begins."""
    rng = np.random.default_rng(seed)
    constants = [_draw(rng) for _ in range(ENVS)]
    starts = np.array([True, False, True])
    for step in range(STEPS):
        for row in np.flatnonzero(starts):
            constants[row] = _draw(rng)
        obs = {key: np.stack([each[key] for each in constants]) for key in constants[0]}
        obs["click_map"] = rng.integers(0, 2, (ENVS, 2, 4, 4)).astype(np.uint8)
        obs["num_steps"] = rng.integers(0, 6, ENVS)
        step_of = (rng.integers(0, 32, (ENVS, 1)), rng.normal(size=ENVS), starts, *th.randn(2, ENVS))
        masks = {"action_masks": rng.integers(0, 2, (ENVS, 32)).astype(bool)} if maskable else {}
        for buffer in buffers:
            buffer.add({key: value.copy() for key, value in obs.items()}, *step_of, **masks)
        starts = np.array([step % 3 == 1, step % 2 == 0, False])
    for buffer in buffers:
        buffer.compute_returns_and_advantage(th.zeros(ENVS), np.zeros(ENVS, bool))


def _draw(rng):
    return {
        "sam_image_embeddings": rng.normal(size=(6, 4, 4)).astype(np.float16),
        "target_category": rng.integers(3),
        "excluded_mask": rng.random((1, 4, 4), np.float32),
    }


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_minibatches_are_sb3s_own_number_for_number(theirs, ours):
    buffers = [each(STEPS, SPACE, ACTIONS, "cpu", n_envs=ENVS) for each in (theirs, ours)]
    for rollout in range(2):  # a second rollout shows that nothing of the first is left
        for buffer in buffers:
            buffer.reset()
        _fill(buffers, rollout, "Maskable" in ours.__name__)
        for batch_size in (4, 4, None):  # two epochs, and one batch of everything
            epochs = []
            for buffer in buffers:
                np.random.seed(rollout)
                epochs.append(list(buffer.get(batch_size)))
            assert len(epochs[0]) == len(epochs[1]) == (1 if batch_size is None else 6)
            for expected, found in zip(*epochs, strict=True):
                _assert_equal(found, expected)


def _assert_equal(found, expected):
    assert type(found) is type(expected)
    assert found.observations.keys() == expected.observations.keys()
    pairs = [(found.observations[key], expected.observations[key]) for key in expected.observations]
    pairs += [(a, b) for a, b in zip(found[1:], expected[1:], strict=True)]
    for ours, theirs in pairs:
        assert ours.dtype == theirs.dtype
        assert th.equal(ours, theirs)


def test_an_episodes_constants_are_kept_once_and_apart_from_what_was_handed_in():
    buffer = EpisodeDictRolloutBuffer(STEPS, SPACE, ACTIONS, "cpu", n_envs=ENVS)
    _fill([buffer], 0, False)
    # The first environment starts 3 episodes, the second 4 and the third 1; the one that went on counts too.
    assert len(buffer.episodes) == len(np.unique(buffer.episode_of_step)) == 8
    assert all(each["sam_image_embeddings"].dtype == th.float16 for each in buffer.episodes)
    assert all(each["sam_image_embeddings"].untyped_storage().nbytes() == 6 * 4 * 4 * 2 for each in buffer.episodes)
    assert set(buffer.observations) == {"target_category", "click_map", "num_steps"}


@pytest.mark.parametrize(
    ("plain", "distinct"),
    [
        (EpisodeDictRolloutBuffer, DistinctEpisodeDictRolloutBuffer),
        (MaskableEpisodeDictRolloutBuffer, MaskableDistinctEpisodeDictRolloutBuffer),
    ],
)
def test_a_minibatch_may_hold_each_embedding_once(plain, distinct):
    buffers = [each(STEPS, SPACE, ACTIONS, "cpu", n_envs=ENVS) for each in (plain, distinct)]
    _fill(buffers, 0, "Maskable" in plain.__name__)
    epochs = []
    for buffer in buffers:
        np.random.seed(0)
        epochs.append(list(buffer.get(8)))
    saved = 0
    for expected, found in zip(*epochs, strict=True):
        observations = dict(found.observations)
        rows, embeddings = observations.pop(EPISODE_ROWS), observations["sam_image_embeddings"]
        assert sorted(set(rows.tolist())) == list(range(len(embeddings)))
        saved += len(rows) - len(embeddings)
        _assert_equal(found._replace(observations={**observations, "sam_image_embeddings": embeddings[rows]}), expected)
    assert saved > 3


def test_other_keys_can_be_the_constant_ones():
    buffer = EpisodeDictRolloutBuffer(STEPS, SPACE, ACTIONS, "cpu", n_envs=ENVS, constant_keys=["excluded_mask"])
    _fill([buffer], 0, False)
    assert set(buffer.episodes[0]) == {"excluded_mask"}
    assert "sam_image_embeddings" in buffer.observations
