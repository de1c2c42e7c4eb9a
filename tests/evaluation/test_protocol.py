from __future__ import annotations

import numpy as np
import pytest

from sb3_alignsam.envs import make_env
from sb3_alignsam.evaluation.agents import load_agent
from sb3_alignsam.evaluation.protocol import evaluate, fit_majority, spread
from sb3_alignsam.policies.baselines import make_baseline
from sb3_alignsam.policies.clickers import STOP


@pytest.fixture(scope="module")
def env():
    return make_env("SamSegShapes-v0", {"split": "dev"})


def test_every_clicker_plays_the_same_episodes(env):
    clickers = [make_baseline(name, env.grid, env.features) for name in ("random", "oracle")]
    done = []
    ids, records = evaluate(env, clickers, [4, 2, 9], 3, done.append)
    assert [each.index for each in ids] == [4, 2, 9]
    assert [each.image_id for each in ids] == [5, 3, 10]
    assert [record.name for record in records] == ["random", "oracle"]
    assert all(record.answer_iou.shape == record.last_iou.shape == (3, 3) for record in records)
    assert sum(done) == 3


def test_the_oracle_beats_chance_by_far(env):
    clickers = [make_baseline(name, env.grid, env.features) for name in ("random", "oracle")]
    _, (random, oracle) = evaluate(env, clickers, range(16), 3)
    assert oracle.answer_iou[:, -1].mean() > random.answer_iou[:, -1].mean() + 0.3


def test_results_repeat_and_do_not_depend_on_who_else_plays_or_on_the_batch(env):
    random = make_baseline("random", env.grid, env.features)
    _, (alone,) = evaluate(env, [random], [5, 6], 3)
    _, (_, beside) = evaluate(env, [make_baseline("oracle", env.grid, env.features), random], list(range(20)), 3)
    assert np.allclose(alone.answer_iou, beside.answer_iou[5:7], atol=1e-3)


def test_an_agent_scores_as_it_does_in_its_environment(run_folder):
    agent = load_agent(run_folder)
    _, (record,) = evaluate(agent.env, [agent.clicker], [0, 1], 5)
    for row, index in enumerate((0, 1)):
        observation, _ = agent.env.reset(options={"index": index})
        for step in range(5):
            masks = agent.env.action_masks()
            action, _ = agent.clicker.policy.predict(observation, deterministic=True, action_masks=masks)
            observation, _, _, _, info = agent.env.step(int(action))
            assert record.answer_iou[row, step] == pytest.approx(info["iou"], abs=1e-3)
            assert record.last_iou[row, step] == pytest.approx(info["last_iou"], abs=1e-3)


def test_majority_counts_the_agents_actions(run_folder):
    agent = load_agent(run_folder, split="dev")
    majority = fit_majority(agent.env, agent.clicker, [0, 1, 2], 2)
    assert majority.counts.shape == (2, 512)
    assert majority.counts.sum(axis=1).tolist() == [3, 3]


def test_clicks_may_go_beyond_the_budget_of_training(run_folder):
    agent = load_agent(run_folder)
    _, (record,) = evaluate(agent.env, [agent.clicker], [0], 8)
    assert record.answer_iou.shape == (1, 8)


@pytest.mark.parametrize(("total", "count", "wanted"), [(5, 9, [0, 1, 2, 3, 4]), (9, 3, [0, 4, 8]), (500, 2, [0, 499])])
def test_episodes_are_spread_over_the_split(total, count, wanted):
    assert spread(total, count) == wanted


class _StopsAfterOne:
    """Clicks the first patch, then stops."""

    name, uses_ground_truth = "stops", False

    def __init__(self, grid):
        self.grid, self.asked = grid, []

    def next_clicks(self, states):
        self.asked.append(len(states))
        first = [state.step == 0 for state in states]
        return [self.grid.click(0, 256, 256) if each else STOP for each in first]


def test_an_episode_that_was_stopped_keeps_its_answer_and_is_not_asked_again(env):
    clicker = _StopsAfterOne(env.grid)
    _, (record,) = evaluate(env, [clicker], [0, 1, 2], 5)
    assert clicker.asked == [3, 3]
    assert (record.answer_iou == record.answer_iou[:, :1]).all()
