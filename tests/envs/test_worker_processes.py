from __future__ import annotations

import os
import signal
from functools import partial

import gymnasium as gym
import numpy as np
import pytest

from sb3_alignsam.envs.worker_processes import TellingSubprocVecEnv, WorkerError
from sb3_alignsam.errors import InputError, RunError


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
