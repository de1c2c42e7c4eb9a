from __future__ import annotations

import numpy as np
import pytest

from sb3_alignsam.envs import make_env
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.protocol import state_of
from sb3_alignsam.perception import Click, oracle_click
from sb3_alignsam.policies.baselines import BASELINES, Majority, make_baseline
from sb3_alignsam.policies.clickers import STOP, AgentClicker


@pytest.fixture(scope="module")
def env():
    return make_env("SamSegShapes-v0", {"split": "dev"})


def _state(env, index=0, step=0, seed=0):
    return state_of(env, env.fixed_episode(index), step, np.random.default_rng(seed))


def test_only_the_oracles_use_ground_truth():
    with_text = make_env("SamSegShapes-v0", {"split": "dev", "text_model": "tiny"})
    uses = {name: make_baseline(name, with_text.grid, with_text.features).uses_ground_truth for name in BASELINES}
    assert {name for name, truth in uses.items() if truth} == {"oracle", "oracle_grid", "oracle_best_of_three"}


def test_random_clicks_are_valid_and_both_labels_occur(env):
    clicks = [make_baseline("random", env.grid, env.features).next_click(_state(env, seed=seed)) for seed in range(40)]
    assert {click.positive for click in clicks} == {True, False}
    assert len({(click.x, click.y) for click in clicks}) > 20
    positive = [
        make_baseline("random_positive", env.grid, env.features).next_click(_state(env, seed=seed))
        for seed in range(40)
    ]
    assert all(click.positive for click in positive)


def test_centre_is_the_middle_first_and_elsewhere_after(env):
    centre = make_baseline("centre", env.grid, env.features)
    assert centre.next_click(_state(env)) == Click(128, 128, True)
    assert centre.next_click(_state(env, step=1)) != Click(128, 128, True)


def test_oracle_grid_is_the_oracles_click_on_the_nearest_free_patch(env):
    state = _state(env, index=3)
    gt = state.episode.sample.union
    exact = oracle_click(gt, np.zeros_like(gt))
    snapped = make_baseline("oracle_grid", env.grid, env.features).next_click(state)
    assert make_baseline("oracle", env.grid, env.features).next_click(state) == exact
    assert max(abs(snapped.x - exact.x), abs(snapped.y - exact.y)) <= 8
    assert snapped.x % 16 == snapped.y % 16 == 8
    taken = env.grid.patch(snapped, 256, 256)
    state.action_mask[env.grid.action(*taken, True)] = False
    again = make_baseline("oracle_grid", env.grid, env.features).next_click(state)
    assert env.grid.patch(again, 256, 256) != taken


def test_majority_repeats_the_agents_commonest_possible_action(env):
    counts = np.zeros((2, 512), int)
    counts[0, 40], counts[0, 8], counts[1, 10] = 5, 3, 1
    majority = Majority(env.grid, counts)
    first, later = _state(env), _state(env, step=4)
    assert majority.next_clicks([first, later]) == [env.grid.click(40, 256, 256), env.grid.click(10, 256, 256)]
    first.action_mask[40] = False
    assert majority.next_clicks([first]) == [env.grid.click(8, 256, 256)]


def test_an_unknown_baseline_is_named(env):
    with pytest.raises(InputError, match="baseline 'orakle' is not known"):
        make_baseline("orakle", env.grid, env.features)


class _FixedPolicy:
    """Stands for a policy that always takes one action."""

    def __init__(self, action):
        self.action = action

    def predict(self, observation, deterministic, action_masks=None):
        return np.full(len(observation["num_steps"]), self.action), None


def test_an_agents_impossible_action_and_stop_change_nothing():
    env = make_env("SamSegShapes-v0", {"split": "dev", "allow_stop": True})
    state = _state(env)
    assert (
        AgentClicker(_FixedPolicy(9), env.grid, False).next_clicks([state, state]) == [env.grid.click(9, 256, 256)] * 2
    )
    assert AgentClicker(_FixedPolicy(env.grid.stop_action), env.grid, False).next_clicks([state]) == [STOP]
    state.action_mask[9] = False
    assert AgentClicker(_FixedPolicy(9), env.grid, False).next_clicks([state]) == [None]
