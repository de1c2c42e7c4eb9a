from __future__ import annotations

import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, VecVideoRecorder

from sb3_alignsam.envs import SamSegVecEnv, make_env
from sb3_alignsam.errors import InputError


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


@pytest.mark.parametrize("every_category", [False, True])
def test_workers_that_idle_between_images_are_left_no_core(every_category):
    vec_env = SamSegVecEnv(make_env("SamSegShapes-v0", {"every_category": every_category}), 1, num_workers=1)
    assert vec_env.computing_workers == (0 if every_category else 1)
    vec_env.close()


@pytest.mark.parametrize(("num_envs", "workers"), [(0, 0), (1, -1)])
def test_numbers_that_are_too_small_are_named(num_envs, workers):
    with pytest.raises(InputError, match="needs a whole number"):
        SamSegVecEnv(make_env("SamSegShapes-v0"), num_envs, workers)
