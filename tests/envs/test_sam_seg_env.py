from __future__ import annotations

import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.envs import ALL_KEYS, SamSegEnv, make_env
from sb3_alignsam.envs.rendering import POSITIVE
from sb3_alignsam.errors import InputError
from tests.conftest import square_sample

SB3_IMAGE_REMARKS = ("It seems that your observation", "The minimal resolution for an image", "Treating image space")


@pytest.mark.parametrize(
    "kwargs", [{}, {"allow_stop": True, "observation_keys": ALL_KEYS, "text_model": "tiny"}, {"target": "instance"}]
)
def test_both_environment_checkers_pass(kwargs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gymnasium_check_env(gym.make("SamSegShapes-v0", render_mode="rgb_array", **kwargs).unwrapped)
        sb3_check_env(gym.make("SamSegShapes-v0", render_mode="rgb_array", **kwargs).unwrapped)
    others = [str(each.message) for each in caught if not str(each.message).startswith(SB3_IMAGE_REMARKS)]
    assert others == []


def test_the_registered_ids_make_the_environment(tmp_path):
    ShapesDataset("val").write_coco(tmp_path, 4)
    assert gym.make("SamSeg-v0").unwrapped.dataset.name == "shapes"
    assert gym.make("SamSegShapes-v0", split="val").unwrapped.dataset.split == "val"
    assert gym.make("SamSegCoco-v0", root=str(tmp_path), split="val").unwrapped.dataset.name == "coco"


def test_an_episode_ends_when_the_budget_is_used_and_is_never_truncated(env):
    env.reset(seed=0)
    ends = [env.step(action)[2:4] for action in (0, 10, 20, 30, 40)]
    assert ends == [(False, False)] * 4 + [(True, False)]


def test_stop_ends_at_once_and_earns_the_final_term():
    env = make_env(
        "SamSegShapes-v0", {"split": "dev", "allow_stop": True, "rewards": {"final": 2.0, "gain": 0.0, "hit": 0.0}}
    )
    env.reset(options={"index": 0})
    target = np.argwhere(env.episode.sample.instances[0]).mean(axis=0).astype(int)
    env.step(env.grid.action(target[0] // 16, target[1] // 16, True))
    score = env.episode.answer.score
    _, reward, terminated, _, info = env.step(env.grid.stop_action)
    assert terminated
    assert reward == pytest.approx(2 * score)
    assert info["reward_terms"]["step_cost"] == 0.0
    assert len(env.episode.clicks) == 1


def test_a_repeated_or_padded_click_uses_the_budget_and_changes_nothing(segmenter):
    env = SamSegEnv(dataset=_OneSample(square_sample((60, 120))), segmenter=segmenter, rewards={"repeat": -0.5})
    observation, _ = env.reset(seed=0)
    padded = env.grid.action(15, 0, True)
    assert not env.action_masks()[padded]
    after, reward, _, _, info = env.step(padded)
    assert reward == -0.5
    assert info["reward_terms"]["repeat"] == 1.0
    assert env.episode.clicks == []
    assert after["num_steps"] == 1
    assert np.array_equal(after["click_map"], observation["click_map"])
    env.step(env.grid.action(2, 2, True))
    assert env.step(env.grid.action(2, 2, False))[4]["reward_terms"]["repeat"] == 1.0


def test_gain_and_label_follow_the_click():
    env = make_env("SamSegShapes-v0", {"split": "dev", "rewards": {"gain": 1.0, "label": 0.25, "hit": 0.0}})
    env.reset(options={"index": 4})
    row, column = (np.argwhere(env.episode.sample.instances[0]).mean(axis=0) // 16).astype(int)
    on_target = bool(env.episode.wanted()[row * 16 + 8, column * 16 + 8])
    _, reward, _, _, info = env.step(env.grid.action(row, column, True))
    terms = info["reward_terms"]
    assert terms["label"] == (1.0 if on_target else -1.0)
    assert terms["gain"] == pytest.approx(info["iou"])
    assert reward == pytest.approx(terms["gain"] + 0.25 * terms["label"])


def test_ignored_pixels_earn_no_label_reward(segmenter):
    env = SamSegEnv(dataset=_OneSample(square_sample((64, 64), ignore=True)), segmenter=segmenter)
    env.reset(seed=0)
    info = env.step(env.grid.action(0, 15, True))[4]
    assert info["reward_terms"]["label"] == 0.0


def test_the_same_seed_gives_the_same_episodes_and_rewards():
    def run() -> list[float]:
        env = make_env("SamSegShapes-v0")
        figures = []
        for seed in (3, None):
            _, info = env.reset(seed=seed)
            figures += [info["image_id"], *(env.step(action)[1] for action in (5, 100, 200, 300, 400))]
        return figures

    assert run() == run()


def test_a_fixed_episode_can_be_asked_for(env):
    for index in (7, 3, 7):
        _, info = env.reset(options={"index": index})
        assert info["image_id"] == index + 1


def test_each_other_category_of_a_drawn_image_follows():
    env = make_env("SamSegShapes-v0", {"every_category": True})
    env.reset(seed=0)
    for _ in range(3):
        episodes = {(env.episode.sample.image_id, env.episode.sample.category)}
        expected = env.dataset.get_all(env.episode.index)
        embedding = env.episode.embedding
        for _ in expected[1:]:
            env.reset()
            episodes.add((env.episode.sample.image_id, env.episode.sample.category))
            assert env.episode.embedding is embedding  # the image is encoded once
        assert episodes == {(expected[0].image_id, each.category) for each in expected}
        env.reset()
        assert env.episode.sample.image_id != expected[0].image_id


def test_frames_of_one_environment_have_one_shape_and_show_the_clicks(env):
    env.reset(seed=1)
    before = env.render()
    env.step(200)
    after = env.render()
    assert before.shape == after.shape
    assert before.dtype == np.uint8
    assert (after == POSITIVE).all(axis=2).sum() > 30 + (before == POSITIVE).all(axis=2).sum()


def test_without_a_render_mode_there_is_no_frame():
    env = make_env("SamSegShapes-v0")
    env.reset(seed=0)
    assert env.render() is None


def test_before_reset_there_is_no_episode():
    with pytest.raises(RuntimeError, match="call reset"):
        make_env("SamSegShapes-v0").step(0)


class _OneSample:
    """A dataset of one picture."""

    name, split, categories = "one", "all", ("star", "square")

    def __init__(self, sample):
        self._sample = sample

    def __len__(self):
        return 1

    def configure_targets(self, categories):
        return [self._sample.category_id], [self._sample.image_id]

    def draw(self, rng):
        return 0

    def get(self, index):
        return self._sample


def test_a_dataset_of_ones_own_is_enough(segmenter):
    env = SamSegEnv(dataset=_OneSample(square_sample()), segmenter=segmenter, num_patches=8)
    observation, info = env.reset(seed=0)
    assert observation["target_category"] == 1
    assert info["image_id"] == 7


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"target": "object"}, "target"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_steps": "five"}, "max_steps"),
        ({"render_mode": "human"}, "render_mode 'human'"),
        ({"num_patches": 16, "patch_size": 16}, "exactly one"),
        ({"rewards": {"gian": 1.0}}, "reward term 'gian'"),
        ({"segmenter": "sam"}, "segmenter 'sam'"),
        ({"split": "test"}, "split 'test'"),
        ({"categories": ["stra"]}, "did you mean star"),
        ({"colour": "red"}, "environment keyword 'colour'"),
        ({"num_patches": "many"}, "num_patches"),
        ({"split": "dev", "sampling": "hard", "every_category": True}, "every_category"),
    ],
)
def test_every_wrong_keyword_is_named(kwargs, words):
    with pytest.raises(InputError, match=words):
        make_env("SamSegShapes-v0", kwargs)


def test_networks_can_be_named_by_paths():
    env = SamSegEnv(split="dev", segmenter=Path("tiny"), text_model=Path("tiny"))
    assert "clip_similarity" in env.reset(seed=0)[0]
