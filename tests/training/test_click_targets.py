from __future__ import annotations

import numpy as np
import pytest

from sb3_alignsam.envs import make_env
from sb3_alignsam.policies.baselines import OracleGrid
from sb3_alignsam.policies.clickers import State
from sb3_alignsam.training.click_targets import LEAST_GAIN, click_targets, worth_clicking


@pytest.fixture(scope="module")
def env():
    return make_env("SamSegShapes-v0", {"split": "dev", "allow_stop": True, "answer": "last"})


def _targets(env, episode):
    return click_targets(episode, env.grid, env.action_masks_of(episode))


def test_targets_prefer_what_is_missed_and_never_what_is_right(env):
    episode = env.fixed_episode(0)
    targets = _targets(env, episode)
    assert targets.shape == (env.grid.num_actions - 1,)
    assert targets.sum() == pytest.approx(1, abs=1e-5)
    for action in np.flatnonzero(targets):
        click = env.grid.click(int(action), *episode.image_size)
        assert click.positive  # nothing is in the mask yet, so nothing is too much
        assert episode.sample.union[click.y, click.x]
    assert np.count_nonzero(targets) > 1


def test_surplus_asks_for_negative_clicks(env):
    episode = env.fixed_episode(1)
    union = episode.sample.union
    episode.last = episode._answer(np.ones_like(union), 0.5)
    targets = _targets(env, episode)
    for action in np.flatnonzero(targets):
        click = env.grid.click(int(action), *episode.image_size)
        assert not click.positive
        assert not union[click.y, click.x]


def test_where_no_patch_centre_is_wrong_the_nearest_to_the_oracles_click_is_asked_for(env):
    episode = env.fixed_episode(2)
    mask = episode.sample.union.copy()
    columns, rows = env.grid.centres(*episode.image_size)
    # Two wrong pixels between the centres of four patches.
    mask[rows[3] + 8, columns[3] + 8 : columns[3] + 10] ^= True
    episode.last = episode._answer(mask, 0.5)
    targets = _targets(env, episode)
    state = State(episode, {}, env.action_masks_of(episode), 0, np.random.default_rng(0))
    click = OracleGrid(env.grid).next_click(state)
    assert np.count_nonzero(targets) == 1
    assert env.grid.click(int(targets.argmax()), *episode.image_size) == click


def test_a_patch_that_was_clicked_is_not_asked_for_again(env):
    episode = env.fixed_episode(3)
    first = int(_targets(env, episode).argmax())
    episode.click(env.grid.click(first, *episode.image_size), env.segmenter)
    assert _targets(env, episode)[first] == 0


def test_a_click_is_worth_its_while_where_the_answer_gets_better_by_it(env):
    episodes = [env.fixed_episode(index) for index in range(6)]
    for _ in range(3):
        actions = [int(_targets(env, episode).argmax()) for episode in episodes]
        worth = worth_clicking(episodes, actions, env.grid, env.segmenter)
        before = [episode.answer.score for episode in episodes]
        for episode, action in zip(episodes, actions, strict=True):
            episode.click(env.grid.click(action, *episode.image_size), env.segmenter)
        gains = np.array([episode.answer.score for episode in episodes]) - before
        nothing_to_lose = np.array(before) == 0
        # Batched and single calls of the segmenter differ by rounding, and so may a pixel at an edge.
        clear = (np.abs(gains - LEAST_GAIN) > 1e-3) & ~nothing_to_lose
        assert (worth == (gains >= LEAST_GAIN))[clear].all()
        assert worth[nothing_to_lose].all()
    assert not worth.all()


def test_trying_a_click_leaves_the_episode_as_it_was(env):
    episode = env.fixed_episode(4)
    worth_clicking([episode], [int(_targets(env, episode).argmax())], env.grid, env.segmenter)
    assert episode.clicks == []
    assert episode.low_res is None
    assert not episode.answer.mask.any()
