"""Environments side by side, as SB3 takes them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch as th
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_alignsam.errors import InputError
from sb3_alignsam.registration import register_envs

VEC_ENVS: dict[str, type[DummyVecEnv] | type[SubprocVecEnv]] = {"dummy": DummyVecEnv, "subproc": SubprocVecEnv}
INFO_KEYWORDS = ("iou", "predicted_iou", "image_id", "category")
"""Taken from the last info of an episode into its monitor row."""


class OneLineErrors(gym.Wrapper):
    """In a worker process: a file that cannot be used is one line on standard error, not a traceback."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        try:
            return super().reset(**kwargs)
        except InputError as error:
            print(f"Error in a worker process: {error}", file=sys.stderr, flush=True)
            raise SystemExit(2) from None


def make_vec_env(
    env_id: str, env_kwargs: Mapping[str, Any], n_envs: int, seed: int, kind: str, monitor_folder: Path | None
) -> VecEnv:
    """Make `n_envs` monitored environments; environment i is seeded with ``seed + i``.

    :param kind: ``dummy``: one after the other in this process; ``subproc``: each in a process with one thread.
    :param monitor_folder: where ``<i>.monitor.csv`` goes; None: nothing is written.
    """
    makers: list[Callable[[], gym.Env]] = [
        partial(
            _make_one,
            env_id,
            dict(env_kwargs),
            kind == "subproc",
            None if monitor_folder is None else str(monitor_folder / str(index)),
        )
        for index in range(n_envs)
    ]
    vec_env = VEC_ENVS[kind](makers)
    vec_env.seed(seed)
    return vec_env


def _make_one(env_id: str, env_kwargs: dict[str, Any], own_process: bool, monitor_file: str | None) -> gym.Env:
    if own_process:
        # Several processes that each use every core are slower than one; set before the first torch call.
        th.set_num_threads(1)
        register_envs()
    env = gym.make(env_id, disable_env_checker=True, **env_kwargs)
    if own_process:
        env = OneLineErrors(env)
    return Monitor(env, monitor_file, info_keywords=INFO_KEYWORDS)
