"""What a second rank brings: the update phase of one process beside that of several, each on a core of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sb3_alignsam.benchmark.timing import Spread, about_machine, cores, ratio
from sb3_alignsam.benchmark.workloads import run_ranks, workload
from sb3_alignsam.errors import InputError


def benchmark_distributed(
    *, size: int, algo: str, agent: str, hyperparams: Mapping[str, Any], repeats: int
) -> dict[str, Any]:
    """Time updates on drawn scenes, by turns on one rank, by all environments' rollouts, and on all ranks together.

    :param size: ranks. :param hyperparams: replace those of the shipped YAML file. :param repeats: turns.
    :return: plain values.
    :raises InputError: there are fewer cores than ranks, or a hyperparameter cannot be used.
    :raises RunError: a process failed.
    """
    if size > cores():
        raise InputError(f"--ranks {size} needs as many cores; this process may use {cores()}")
    with workload("tiny", None, None, {}) as work:
        case = {
            "env_id": work.env_id,
            "env_kwargs": work.env_kwargs,
            "algo": algo,
            "agent": agent,
            "hyperparams": dict(hyperparams),
            "repeats": repeats,
        }
        found = run_ranks("distributed_case", case, work, size)
    alone, together = (Spread(tuple(found[f"{name}_seconds"])) for name in ("alone", "together"))
    waiting = Spread(tuple(a / b for a, b in zip(found["waiting_seconds"], together.values, strict=True)))
    return {
        "benchmark": "distributed",
        **about_machine("cpu"),
        "env_id": work.env_id,
        "segmenter": "tiny",
        "weights": work.weights,
        "algo": algo,
        "agent": agent,
        "hyperparams": dict(hyperparams),
        "ranks": size,
        "repeats": repeats,
        "steps": found["steps"],
        "num_envs": found["num_envs"],
        "alone_seconds": alone.figures(),
        "together_seconds": together.figures(),
        "waiting_share": waiting.figures(),
        "ratio": ratio(alone, together).figures(),
    }
