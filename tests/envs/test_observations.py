from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sb3_alignsam.envs import ALL_KEYS, DEFAULT_KEYS, make_env
from sb3_alignsam.errors import InputError


@pytest.fixture(scope="module")
def env():
    return make_env("SamSegShapes-v0", {"split": "dev", "text_model": "tiny", "observation_keys": list(ALL_KEYS)})


def test_every_key_lies_in_its_space_throughout_an_episode(env):
    observation, _ = env.reset(options={"index": 0})
    assert set(observation) == set(ALL_KEYS)
    for action in (0, 101, 300):
        assert env.observation_space.contains(observation)
        observation = env.step(action)[0]
    assert env.observation_space.contains(observation)


def test_the_photograph_is_not_sent_unless_asked_for():
    assert "image" not in DEFAULT_KEYS
    assert set(make_env("SamSegShapes-v0", {"text_model": "tiny"}).observation_space.spaces) == set(DEFAULT_KEYS)
    assert set(make_env("SamSegShapes-v0").observation_space.spaces) == set(DEFAULT_KEYS) - {"clip_similarity"}


def test_the_text_is_the_targets_own_and_of_unit_length(env):
    by_category = {}
    for index in range(10):
        observation, info = env.reset(options={"index": index})
        text = by_category.setdefault(info["category"], observation["clip_text"])
        assert np.array_equal(text, observation["clip_text"])
        assert np.linalg.norm(text) == pytest.approx(1, abs=1e-5)
    assert len({text.tobytes() for text in by_category.values()}) == len(by_category) == 8


def test_clicks_show_on_the_map_by_label(env):
    env.reset(options={"index": 0})
    env.step(env.grid.action(2, 3, True))
    observation = env.step(env.grid.action(5, 1, False))[0]
    assert np.argwhere(observation["click_map"]).tolist() == [[0, 2, 3], [1, 5, 1]]


def test_mask_probability_is_a_half_at_first_and_high_on_the_mask_after(env):
    observation, _ = env.reset(options={"index": 0})
    assert (observation["sam_pred_mask_prob"] == 0.5).all()
    rows, columns = np.nonzero(env.episode.sample.instances[0])
    patch = env.grid.num_patches * int(rows.mean()) // 256, env.grid.num_patches * int(columns.mean()) // 256
    probability = env.step(env.grid.action(*patch, True))[0]["sam_pred_mask_prob"][0]
    inside = env.episode.last.mask.reshape(32, 8, 32, 8).mean((1, 3)) == 1
    assert probability[inside].mean() > 0.7 > 0.3 > probability[~inside].mean()


def test_steps_saturate_so_that_a_policy_can_go_beyond_its_budget(env):
    env.reset(options={"index": 0})
    assert [env.observations.of(env.episode, steps)["num_steps"] for steps in (0, 5, 9)] == [0, 5, 5]


def test_objects_already_found_show_as_excluded():
    env = make_env("SamSegShapes-v0", {"split": "dev", "target": "instance", "max_steps": 1})
    index = next(i for i in range(40) if len(env.dataset.get(i).instances) >= 2)
    observation, _ = env.reset(options={"index": index})
    assert not observation["excluded_mask"].any()
    env.episode.answer = replace(env.episode.answer, mask=env.episode.sample.instances[0])
    observation, info = env.reset()
    assert info["image_id"] == env.dataset.get(index).image_id
    share = env.episode.sample.instances[0].reshape(32, 8, 32, 8).mean((1, 3))
    assert np.allclose(observation["excluded_mask"][0], share, atol=1e-5)


def test_what_is_constant_is_made_once_an_episode_for_each_who_observes_it(env):
    other = make_env("SamSegShapes-v0", {"split": "dev", "observation_keys": ["excluded_mask"]})
    episode = env.fixed_episode(0)
    first = env.observations.constants(episode)
    assert env.observations.constants(episode)["image"] is first["image"]
    assert set(other.observations.constants(episode)) == {"excluded_mask"}
    assert set(env.observations.constants(episode)) == set(first)
    following = replace(episode.fresh(), excluded=np.ones(episode.image_size, bool))
    # The padding is no part of the photograph.
    assert env.observations.constants(following)["excluded_mask"].max() == 1
    assert not first["excluded_mask"].any()


def test_an_array_that_was_handed_out_is_never_written_again(env):
    observation, _ = env.reset(options={"index": 0})
    kept = {key: np.copy(value) for key, value in observation.items()}
    env.step(40)
    env.step(80)
    for key, value in kept.items():
        assert np.array_equal(observation[key], value)


@pytest.mark.parametrize(("keys", "words"), [(["click_maps"], "'click_maps' is not known"), ([], "is empty")])
def test_wrong_keys_are_named(keys, words):
    with pytest.raises(InputError, match=words):
        make_env("SamSegShapes-v0", {"observation_keys": keys})
