"""All that decides how training goes on beside weights and optimiser: taken between two updates, and put back."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_alignsam.envs.sam_seg_vec_env import SamSegVecEnv
from sb3_alignsam.errors import InputError
from sb3_alignsam.training.logs import RunLogger
from sb3_alignsam.training.monitors import ResumableVecMonitor
from sb3_alignsam.training.random_states import random_states

_NUMBERS = ("num_timesteps", "_n_updates", "_episode_num", "_current_progress_remaining")


def training_state(
    model: OnPolicyAlgorithm, vec_env: VecEnv, callbacks: Sequence[BaseCallback], logger: RunLogger
) -> dict[str, Any]:
    """The state between two updates, as plain data and arrays.

    :param callbacks: of those that have a ``state_dict()`` it is kept, as plain data.
    """
    starts = model._last_episode_starts
    assert starts is not None
    return {
        "model": {name: getattr(model, name) for name in _NUMBERS},
        "seconds": (time.time_ns() - model.start_time) / 1e9,
        "episode_starts": np.asarray(starts, bool),
        "episode_infos": list(model.ep_info_buffer or []),
        "successes": list(model.ep_success_buffer or []),
        "random": random_states(model),
        "environments": _environments(vec_env),
        "monitor": vec_env.state_dict() if isinstance(vec_env, ResumableVecMonitor) else None,
        "callbacks": {name: each.state_dict() for name, each in _keepers(callbacks)},
        "calls": {name: each.n_calls for name, each in _named(callbacks)},
        "pending": logger.state_dict(),
        "logs": logger.reach(),
    }


def restore_training(
    model: OnPolicyAlgorithm,
    vec_env: VecEnv,
    callbacks: Sequence[BaseCallback],
    logger: RunLogger,
    state: Mapping[str, Any],
) -> None:
    """Put a `training_state` back, all but the random states, which the first rollout begins with.

    :raises InputError: it is one of another number of environments.
    """
    environments = state["environments"]
    if len(environments) != vec_env.num_envs:
        raise InputError(
            f"the checkpoint is one of {len(environments)} environments, config.yml says {vec_env.num_envs}: "
            "put n_envs back as it was"
        )
    vec_env.set_options([{"state": each} for each in environments])
    model._last_obs = vec_env.reset()  # type: ignore[assignment]
    if isinstance(vec_env, ResumableVecMonitor):
        vec_env.load_state_dict(state["monitor"])
    model._last_episode_starts = state["episode_starts"]
    for name, value in state["model"].items():
        setattr(model, name, value)
    model.ep_info_buffer = deque(state["episode_infos"], model._stats_window_size)
    model.ep_success_buffer = deque(state["successes"], model._stats_window_size)
    for name, each in _keepers(callbacks):
        if name in state["callbacks"]:
            each.load_state_dict(state["callbacks"][name])
    for name, each in _named(callbacks):
        each.n_calls = state["calls"].get(name, 0)
    logger.load_state_dict(state["pending"])


def _environments(vec_env: VecEnv) -> list[dict[str, Any]]:
    base = vec_env.unwrapped
    return base.state_dicts() if isinstance(base, SamSegVecEnv) else vec_env.env_method("state_dict")


def _named(callbacks: Sequence[BaseCallback]) -> Iterator[tuple[str, BaseCallback]]:
    """Callbacks by the names of their classes; of two of one class the second has a number."""
    seen: dict[str, int] = {}
    for each in callbacks:
        kind = type(each).__name__
        seen[kind] = seen.get(kind, 0) + 1
        yield (kind if seen[kind] == 1 else f"{kind}_{seen[kind]}"), each


def _keepers(callbacks: Sequence[BaseCallback]) -> Iterator[tuple[str, Any]]:
    return ((name, each) for name, each in _named(callbacks) if hasattr(each, "state_dict"))
