from __future__ import annotations

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_alignsam.envs import SamSegVecEnv, make_env

KWARGS = {"split": "dev", "max_steps": 4, "target": "instance"}


def _play(env, count, seed=0):
    """Observations, rewards and infos of valid actions drawn from a seed; the last observation as well."""
    rng, trace = np.random.default_rng(seed), []
    for _ in range(count):
        action = np.int64(rng.choice(np.flatnonzero(env.action_masks())))
        observation, reward, done, _, info = env.step(action)
        if done:
            observation, _ = env.reset()
        trace.append((observation, reward, info))
    return trace


def _assert_equal(one, two):
    for (first, reward, info), (second, other, other_info) in zip(one, two, strict=True):
        assert reward == other
        assert info == other_info
        assert all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("steps", [0, 1, 3, 6, 9])
def test_an_environment_goes_on_from_another_ones_state(steps):
    env = make_env("SamSegShapes-v0", KWARGS)
    env.reset(seed=3)
    _play(env, steps)
    state = env.state_dict()
    other = make_env("SamSegShapes-v0", KWARGS)
    observation, info = other.reset(options={"state": state})
    assert info == env.info()
    assert all(np.array_equal(value, env.observe()[key]) for key, value in observation.items())
    assert np.array_equal(other.action_masks(), env.action_masks())
    _assert_equal(_play(env, 13, seed=1), _play(other, 13, seed=1))


def test_objects_that_were_found_stay_excluded():
    env = make_env("SamSegShapes-v0", KWARGS)
    env.reset(seed=3)
    env.episode.found[:] = True
    env.episode.excluded[10:20, 5:9] = True
    other = make_env("SamSegShapes-v0", KWARGS)
    observation, _ = other.reset(options={"state": env.state_dict()})
    assert np.array_equal(observation["excluded_mask"], env.observe()["excluded_mask"])
    assert observation["excluded_mask"].any()
    assert other.episode.found.all()


def test_one_that_was_asked_for_goes_on_as_itself_and_alone():
    kwargs = {"every_category": True, "max_steps": 2}
    env, other = make_env("SamSegShapes-v0", kwargs), make_env("SamSegShapes-v0", kwargs)
    env.reset(seed=0)
    env.reset(options={"index": 5})
    assert len(env.dataset.get_all(5)) > 1
    state = env.state_dict()
    for each in (env, other):
        if each is other:
            each.reset(options={"state": state})
        assert each.episode.sample.category == env.dataset.get(5).category
        image_id = each.episode.sample.image_id
        each.reset()
        assert each.episode.sample.image_id != image_id


def test_an_episode_of_no_dataset_has_no_state(env, segmenter):
    env.reset(seed=0)
    sample = env.episode.sample
    env.begin([env.new_episode(sample, env.features.of(sample.image))])
    with pytest.raises(RuntimeError, match="no dataset numbers"):
        env.state_dict()


def _steps(vec_env, count):
    """Rewards, images and categories of the first valid actions."""
    found = []
    for _ in range(count):
        masks = vec_env.env_method("action_masks")
        actions = np.array([np.flatnonzero(mask)[7] for mask in masks])
        _, rewards, _, infos = vec_env.step(actions)
        found.append((rewards.tolist(), [(info["image_id"], info["category"]) for info in infos]))
    return found


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("every_category", [False, True])
def test_episodes_that_wait_do_not_count_as_drawn(num_workers, every_category):
    """So a batched environment goes on with the same episodes, however far it had drawn ahead, and a plain one too."""
    kwargs = {"max_steps": 2, "every_category": every_category}
    vec_env = SamSegVecEnv(make_env("SamSegShapes-v0", kwargs), 2, num_workers)
    vec_env.seed(0)
    vec_env.reset()
    _steps(vec_env, 3)
    states = vec_env.state_dicts()
    expected = _steps(vec_env, 7)
    others = [
        SamSegVecEnv(make_env("SamSegShapes-v0", kwargs), 2, num_workers),
        DummyVecEnv([lambda: make_env("SamSegShapes-v0", kwargs)] * 2),
    ]
    for other in others:
        other.set_options([{"state": state} for state in states])
        other.reset()
        found = _steps(other, 7)
        assert [images for _, images in found] == [images for _, images in expected]
        assert np.allclose([rewards for rewards, _ in found], [rewards for rewards, _ in expected], atol=1e-4)
    for each in (vec_env, *others):
        each.close()
