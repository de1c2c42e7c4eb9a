"""Three ways to run many environments, `EpisodeFeatures` and `SamSegVecEnv`: to SB3 they are the same."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_alignsam.envs import SamSegVecEnv, make_env
from sb3_alignsam.envs.episode_features import EpisodeFeatures, SharingSamSegEnv
from sb3_alignsam.envs.worker_processes import TellingSubprocVecEnv

ENVS = 3
KWARGS = {"allow_stop": True, "text_model": "tiny", "max_steps": 3}


def _make(kwargs):
    """One thread in worker processes too, as training has it: sums of more are others, and so is float16's last bit."""
    th.set_num_threads(1)
    return make_env("SamSegShapes-v0", kwargs, SharingSamSegEnv)


def _makers(kwargs):
    return [partial(_make, kwargs)] * ENVS


def _batched(kwargs, workers=0):
    return SamSegVecEnv(make_env("SamSegShapes-v0", kwargs), ENVS, workers)


KINDS = {
    "plain": lambda kwargs: DummyVecEnv([partial(make_env, "SamSegShapes-v0", kwargs)] * ENVS),
    "dummy": lambda kwargs: EpisodeFeatures(DummyVecEnv(_makers(kwargs))),
    "subproc": lambda kwargs: EpisodeFeatures(TellingSubprocVecEnv(_makers(kwargs))),
    "batched": _batched,
    "batched, ahead": partial(_batched, workers=1),
}


def _play(vec_env, steps=11):
    """Everything that SB3 sees of some episodes; the first environment stops early now and then."""
    vec_env.seed(5)
    seen = [vec_env.reset()]
    rng = np.random.default_rng(0)
    for step in range(steps):
        masks = np.stack(vec_env.env_method("action_masks"))
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])
        if step % 4 == 1:
            actions[0] = masks.shape[1] - 1
        obs, rewards, dones, infos = vec_env.step(actions)
        seen += [obs, {"rewards": rewards, "dones": dones, "masks": masks}]
        for info in infos:
            seen.append({"iou": np.array(info["iou"]), "id": np.array(info["image_id"])})
            seen += [info["terminal_observation"]] if "terminal_observation" in info else []
    vec_env.close()
    return seen


@pytest.fixture(scope="module")
def plain():
    return _play(KINDS["plain"](KWARGS))


@pytest.mark.parametrize("kind", ["dummy", "subproc", "batched", "batched, ahead"])
def test_each_shows_what_plain_environments_show(kind, plain):
    found = _play(KINDS[kind](KWARGS))
    assert len(found) == len(plain)
    for ours, theirs in zip(found, plain, strict=True):
        assert set(ours) == set(theirs)
        for key, expected in theirs.items():
            if key != "rewards":  # SB3 stacks those of worker processes in float64
                assert np.asarray(ours[key]).dtype == np.asarray(expected).dtype
            assert np.asarray(ours[key]).shape == np.asarray(expected).shape
            assert np.allclose(np.asarray(ours[key], float), np.asarray(expected, float), atol=1e-4)


@pytest.mark.parametrize("kind", ["dummy", "batched"])
def test_an_observation_that_was_handed_out_is_never_written_again(kind):
    vec_env = KINDS[kind]({"max_steps": 2})
    vec_env.seed(0)
    kept = [vec_env.reset()]
    copies = [{key: value.copy() for key, value in kept[0].items()}]
    for step in range(5):
        obs, _, _, infos = vec_env.step(np.full(ENVS, 200 + 2 * step))
        for each in [obs, *(info["terminal_observation"] for info in infos if "terminal_observation" in info)]:
            kept.append(each)
            copies.append({key: np.copy(value) for key, value in each.items()})
    vec_env.close()
    for ours, before in zip(kept, copies, strict=True):
        assert all(np.array_equal(ours[key], before[key]) for key in before)


def _numbers(kind, kwargs, root):
    """What is drawn where every environment has its own share of a folder's images."""
    kwargs = {**kwargs, "dataset": "coco", "root": str(root), "split": "val", "max_steps": 1, "cache": False}
    vec_env = KINDS[kind](kwargs)
    for part in range(ENVS):
        vec_env.env_method("take_share", part, ENVS, indices=part)
    vec_env.seed(5)
    vec_env.reset()
    seen = []
    for step in range(25):
        infos = vec_env.step(np.full(ENVS, 200 + step))[3]
        seen.append([(int(info["image_id"]), info["category"], info["absent"]) for info in infos])
    vec_env.close()
    return seen


RULES = [{"sampling": "hard", "absent_rate": 0.3}, {"sampling": "balanced"}, {"sampling": "hard", "target": "instance"}]


@pytest.mark.parametrize("kwargs", RULES)
def test_the_same_episodes_are_drawn_by_every_rule(kwargs, photographs):
    expected = _numbers("dummy", kwargs, photographs)
    images = [{row[part][0] for row in expected} for part in range(ENVS)]
    assert not any(images[one] & images[other] for one, other in ((0, 1), (0, 2), (1, 2)))
    for kind in ("batched", "batched, ahead", "subproc"):
        assert _numbers(kind, kwargs, photographs) == expected


def test_several_objects_of_a_picture_follow_one_another_as_in_one_environment():
    kwargs = {"target": "instance", "max_steps": 2, "split": "dev"}
    frames = [_play(KINDS[kind](kwargs), 8) for kind in ("plain", "batched, ahead")]
    ids = [[int(each["id"]) for each in frame if "id" in each] for frame in frames]
    assert ids[0] == ids[1]
