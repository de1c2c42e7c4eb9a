"""Three ways to run many environments: to SB3 they are the same."""

from __future__ import annotations

import os
import signal
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecVideoRecorder

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.datasets.ahead import Ahead
from sb3_alignsam.envs import SamSegVecEnv, make_env
from sb3_alignsam.envs.episode_features import HANDLE, EpisodeFeatures, SharingSamSegEnv
from sb3_alignsam.envs.worker_processes import TellingSubprocVecEnv, WorkerError
from sb3_alignsam.errors import InputError, RunError

ENVS = 3
KWARGS = {"allow_stop": True, "text_model": "tiny", "max_steps": 3}


def _makers(kwargs):
    return [partial(make_env, "SamSegShapes-v0", kwargs, SharingSamSegEnv)] * ENVS


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


def test_nothing_large_goes_through_the_pipe():
    vec_env = TellingSubprocVecEnv(_makers({}))
    obs = vec_env.reset()
    assert set(obs) == {"sam_pred_mask_prob", "click_map", "num_steps"}
    assert all(len(info[HANDLE]) < 30 for info in vec_env.reset_infos)
    vec_env.close()


def test_the_batched_one_has_what_sb3_calls(tmp_path):
    env = make_env("SamSegShapes-v0", {"split": "dev", "render_mode": "rgb_array", "max_steps": 2})
    vec_env = SamSegVecEnv(env, 2, 0)
    assert vec_env.get_attr("max_steps", [1]) == [2]
    assert vec_env.has_attr("action_masks")
    assert not vec_env.has_attr("no_such_thing")
    assert vec_env.env_is_wrapped(Monitor) == [False, False]
    vec_env.set_attr("marker", 3, [0])
    assert vec_env.get_attr("marker", [0]) == [3]
    monitored = VecMonitor(vec_env, str(tmp_path / "0"))
    recorder = VecVideoRecorder(monitored, str(tmp_path), lambda step: step == 0, 3)
    recorder.set_options([{"index": 4}, {"index": 7}])
    recorder.reset()
    assert [each.episode.sample.image_id for each in vec_env.envs] == [5, 8]
    for _ in range(4):
        infos = recorder.step(np.array([200, 100]))[3]
    assert all(info["episode"]["l"] == 2 for info in infos)
    recorder.close()
    assert len(list(tmp_path.glob("*.mp4"))) == 1
    assert (tmp_path / "0.monitor.csv").is_file()


def test_several_objects_of_a_picture_follow_one_another_as_in_one_environment():
    kwargs = {"target": "instance", "max_steps": 2, "split": "dev"}
    frames = [_play(KINDS[kind](kwargs), 8) for kind in ("plain", "batched, ahead")]
    ids = [[int(each["id"]) for each in frame if "id" in each] for frame in frames]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(("num_envs", "workers"), [(0, 0), (1, -1)])
def test_numbers_that_are_too_small_are_named(num_envs, workers):
    with pytest.raises(InputError, match="needs a whole number"):
        SamSegVecEnv(make_env("SamSegShapes-v0"), num_envs, workers)


class _Failing(gym.Env):
    observation_space, action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)

    def __init__(self, where="step", error=ValueError):
        if where == "making":
            raise error("no luck")
        self.where, self.error = where, error

    def reset(self, **kwargs):
        return 0, {}

    def step(self, action):
        if self.where == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise self.error("no luck")

    def ask(self):
        raise self.error("no luck")


@pytest.mark.parametrize("where", ["making", "step", "ask"])
def test_an_error_in_a_worker_comes_with_its_own_traceback(where):
    with pytest.raises(WorkerError, match=r"(?s)in worker process 0:.*in _?(step|ask|__init__).*ValueError: no luck"):
        _provoke(where, ValueError)


def test_a_mistake_of_the_users_in_a_worker_is_one_line():
    with pytest.raises(InputError, match=r"^no luck$"):
        _provoke("step", InputError)


def test_a_worker_that_is_killed_is_told():
    with pytest.raises(RunError, match="a worker process was killed"):
        _provoke("killed", ValueError)


def _provoke(where, error):
    vec_env = TellingSubprocVecEnv([partial(_Failing, where, error)])
    try:
        vec_env.reset()
        vec_env.env_method("ask") if where == "ask" else vec_env.step(np.zeros(1, int))
    finally:
        vec_env.close()


def test_samples_are_loaded_in_another_process_and_errors_come_back():
    dataset = ShapesDataset("dev")
    ahead = Ahead(dataset.get, 1)
    waiting = [ahead.ask(index) for index in (3, 1, 500)]
    assert [waiting[place]().image_id for place in (1, 0)] == [2, 4]
    with pytest.raises(IndexError, match="index 500"):
        waiting[2]()
    ahead.close()


def test_a_dataset_that_cannot_be_sent_is_named():
    ahead = Ahead(lambda index: index, 1)
    with pytest.raises(InputError, match="cannot be sent to worker processes"):
        ahead.ask(0)()
    ahead.close()
