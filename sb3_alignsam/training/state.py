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
from sb3_alignsam.training.distributed import Ranks
from sb3_alignsam.training.logs import RunLogger
from sb3_alignsam.training.monitors import ResumableVecMonitor
from sb3_alignsam.training.random_states import random_states

_NUMBERS = ("num_timesteps", "_n_updates", "_episode_num", "_current_progress_remaining")


def rank_state(model: OnPolicyAlgorithm, vec_env: VecEnv, sizes: Mapping[str, int]) -> dict[str, Any]:
    """What a rank alone knows of the state between two updates, as plain data and arrays.

    :param sizes: of the monitor files that it writes, in bytes by name.
    """
    starts = model._last_episode_starts
    assert starts is not None
    return {
        "episode_starts": np.asarray(starts, bool),
        "random": random_states(model),
        "environments": _environments(vec_env),
        "monitor": vec_env.state_dict() if isinstance(vec_env, ResumableVecMonitor) else None,
        "sizes": dict(sizes),
    }


def training_state(
    model: OnPolicyAlgorithm,
    of_ranks: Sequence[Mapping[str, Any]],
    callbacks: Sequence[BaseCallback],
    logger: RunLogger,
) -> dict[str, Any]:
    """The state between two updates, as plain data and arrays.

    :param of_ranks: `rank_state` of each.
    :param callbacks: of those that have a ``state_dict()`` it is kept, as plain data.
    """
    logs = logger.reach()
    for each in of_ranks:
        # The other ranks may be writing again already.
        logs["sizes"] |= each["sizes"]
    return {
        "model": {name: getattr(model, name) for name in _NUMBERS},
        "seconds": (time.time_ns() - model.start_time) / 1e9,
        "episode_infos": list(model.ep_info_buffer or []),
        "successes": list(model.ep_success_buffer or []),
        **_together(of_ranks),
        "callbacks": {name: each.state_dict() for name, each in _keepers(callbacks)},
        "calls": {name: each.n_calls for name, each in _named(callbacks)},
        "pending": logger.state_dict(),
        "logs": logs,
    }


def _together(ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Environments one rank's behind the other's, as one process would have them."""
    first = ranks[0]
    monitor = first["monitor"] and {
        "returns": np.concatenate([each["monitor"]["returns"] for each in ranks]),
        "lengths": np.concatenate([each["monitor"]["lengths"] for each in ranks]),
        "count": sum(each["monitor"]["count"] for each in ranks),
    }
    return {
        "episode_starts": np.concatenate([each["episode_starts"] for each in ranks]),
        "random": first["random"],
        "random_of_others": [each["random"] for each in ranks[1:]],
        "environments": [environment for each in ranks for environment in each["environments"]],
        "monitor": monitor,
    }


def state_of_rank(state: Mapping[str, Any], ranks: Ranks, n_envs: int) -> dict[str, Any]:
    """A `training_state` as one rank goes on from it. Where there were fewer ranks before, those that are new have None
    as ``random``: they draw from generators of their own.

    :param n_envs: of all ranks together.
    :raises InputError: the state is one of another number of environments.
    """
    found = len(state["environments"])
    if found != n_envs:
        raise InputError(
            f"the checkpoint is one of {found} environments, config.yml says {n_envs}: put n_envs back as it was"
        )
    part = ranks.part(n_envs)
    own = slice(part.start, part.stop)
    randoms = dict(enumerate([state["random"], *state.get("random_of_others", [])]))
    monitor = state["monitor"] and {
        "returns": state["monitor"]["returns"][own],
        "lengths": state["monitor"]["lengths"][own],
        "count": state["monitor"]["count"] if ranks.leader else 0,
    }
    return {
        **state,
        **({} if ranks.leader else {"episode_infos": [], "successes": []}),  # the leader has those of all
        "episode_starts": state["episode_starts"][own],
        "random": randoms.get(ranks.rank),
        "environments": state["environments"][own],
        "monitor": monitor,
    }


def restore_training(
    model: OnPolicyAlgorithm, vec_env: VecEnv, callbacks: Sequence[BaseCallback], state: Mapping[str, Any]
) -> None:
    """Put a `training_state` back, all but what waits to be logged, and the random states, which the first rollout
    begins with.

    :param state: the rank's own.
    """
    vec_env.set_options([{"state": each} for each in state["environments"]])
    model._last_obs = vec_env.reset()  # type: ignore[assignment]  # SB3's own type leaves tuples out
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
