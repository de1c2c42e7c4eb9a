"""The processes that `benchmark distributed` measures: updates by one rank and by all, in turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sb3_alignsam.benchmark.cases import answer
from sb3_alignsam.benchmark.spans import Span, seconds_inside, watched


def update_in_turns(
    env_id: str, env_kwargs: dict[str, Any], algo: str, agent: str, hyperparams: dict[str, Any], repeats: int
) -> dict[str, Any]:
    """Update by the rollouts of all environments on the leader alone, then by those of each rank's own on all ranks.

    :param hyperparams: replace those of the shipped YAML file. :param repeats: of each, after one to warm up.
    :return: on the leader seconds of each update, and of those on all ranks the seconds spent on waiting and sending.
    """
    import os

    import torch as th

    from sb3_alignsam.training.config import agent_env_kwargs, read_hyperparams, shipped_config
    from sb3_alignsam.training.distributed import ALONE, Ranks, joined
    from sb3_alignsam.training.learning import check_ranks
    from sb3_alignsam.training.settings import RunSettings

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [sorted(os.sched_getaffinity(0))[int(os.environ["LOCAL_RANK"])]])
    th.set_num_threads(1)
    env_kwargs = agent_env_kwargs(agent, env_id, env_kwargs)
    params = read_hyperparams(shipped_config(algo, agent), env_id, algo, hyperparams)
    settings = RunSettings(algo, env_id, env_kwargs)
    with joined() as ranks:
        check_ranks(settings, params, "cpu", ranks)
        alone = _ready(settings, params, ALONE) if ranks.leader else (lambda: None)
        together = _ready(settings, params, ranks)
        seconds: dict[str, list[float]] = {"alone": [], "together": [], "waiting": []}
        for turn in range(repeats + 1):
            first = _timed(alone, ranks)
            # The others' cores come out of idleness now, and are slow at first; in a run they come from a rollout.
            together()
            with watched(Ranks, "end_sum") as sums:
                second = _timed(together, ranks)
            if turn:
                seconds["alone"].append(first.seconds)
                seconds["together"].append(second.seconds)
                seconds["waiting"].append(seconds_inside(sums, second))
        return {
            **{f"{name}_seconds": values for name, values in seconds.items()},
            "steps": params.algorithm["n_steps"] * params.n_envs,
            "num_envs": params.n_envs,
        }


def _ready(settings: Any, params: Any, ranks: Any) -> Callable[[], None]:
    """An update by a rollout that has been played; it may be called again and again."""
    from contextlib import closing

    from stable_baselines3.common.logger import Logger

    from sb3_alignsam.envs.making import make_env
    from sb3_alignsam.envs.sam_seg_vec_env import SamSegVecEnv
    from sb3_alignsam.training.learning import make_model

    env = make_env(settings.env_id, settings.env_kwargs)
    with closing(SamSegVecEnv(env, len(ranks.part(params.n_envs)), num_workers=0)) as vec_env:
        model: Any = make_model(settings, params, vec_env, "cpu", ranks)
        model.set_logger(Logger(None, []))
        ranks.share_weights(model.policy)
        _, callback = model._setup_learn(params.n_timesteps)
        model.collect_rollouts(vec_env, callback, model.rollout_buffer, model.n_steps)
    return lambda: model.train()


def _timed(call: Callable[[], None], ranks: Any) -> Span:
    """From when all ranks are ready until all are done."""
    import time

    ranks.all(True)
    start = time.perf_counter()
    call()
    ranks.all(True)
    return Span(start, time.perf_counter())


if __name__ == "__main__":
    answer(update_in_turns)
