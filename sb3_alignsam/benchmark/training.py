"""A training run beside the least that it could cost: steps a second, memory, sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sb3_alignsam.benchmark.limits import Limit
from sb3_alignsam.benchmark.memory import Peak
from sb3_alignsam.benchmark.timing import Spread, about_machine
from sb3_alignsam.benchmark.workloads import run_case, workload


def benchmark_train(
    segmenter: str,
    *,
    algo: str,
    agent: str,
    vec_env: str,
    iterations: int,
    hyperparams: Mapping[str, Any] | None = None,
    checkpoint: str | None = None,
    root: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    device: str = "cpu",
    step: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Train as `sb3-alignsam train` does, in a process of its own.

    Scenes are drawn and encoded as they come. Images in files are trained on twice: every image new, then every image
    in the feature cache.

    :param iterations: rollouts with their updates that are measured; one comes before. :param root: see `workload`.
    :param hyperparams: replace those of the shipped YAML file. :param device: of the policy.
    :param step: is called after every run.
    :return: plain values.
    :raises InputError: a keyword or a hyperparameter cannot be used. :raises RunError: the process failed.
    """
    with workload(segmenter, checkpoint, root, env_kwargs or {}) as work:
        case = {
            "env_id": work.env_id,
            "algo": algo,
            "agent": agent,
            "hyperparams": dict(hyperparams or {}),
            "iterations": iterations,
            "vec_env": vec_env,
            "device": device,
            "logs": str(work.folder / "logs"),
        }

        def run(kwargs: dict[str, Any]) -> tuple[dict[str, Any], Peak]:
            figures, peak = run_case("train_case", {**case, "env_kwargs": kwargs}, work)
            step()
            return figures, peak

        if root is None:
            rows = [_row("drawn", *run(work.env_kwargs), drawn=True, encoded=True)]
        else:
            rows = [_row("new", *run({**work.env_kwargs, "cache": False}), drawn=False, encoded=True)]
            run(work.env_kwargs)  # the same seed draws the same images: it fills the cache for the next one
            rows.append(_row("cached", *run(work.env_kwargs), drawn=False, encoded=False))
    return {
        "benchmark": "train",
        **about_machine(device),
        "env_id": work.env_id,
        "segmenter": segmenter,
        "weights": work.weights,
        "algo": algo,
        "agent": agent,
        "vec_env": vec_env,
        "iterations": iterations,
        "hyperparams": dict(hyperparams or {}),
        "rows": rows,
    }


def _row(images: str, figures: Mapping[str, Any], peak: Peak, *, drawn: bool, encoded: bool) -> dict[str, Any]:
    steps = figures["steps"]
    rollout, update, segment = (
        np.array(figures[f"{name}_seconds"]) / steps for name in ("rollout", "update", "segment")
    )
    limit = Limit(**figures["bare"]).step_seconds(figures["clicks"], drawn=drawn, encoded=encoded)
    return {
        "images": images,
        "num_envs": figures["num_envs"],
        "steps": steps * (len(rollout) + 1),
        "wall_seconds": figures["wall_seconds"],
        "steps_per_second": _spread(1 / (rollout + update)),
        "rollout_seconds_per_step": _spread(rollout),
        "update_seconds_per_step": _spread(update),
        "segment_share_of_rollout": _spread(segment / rollout),
        "bare": figures["bare"],
        "limit_steps_per_second": 1 / limit,
        "of_limit": _spread(limit / (rollout + update)),
        "peak_pss_bytes": peak.pss_bytes,
        "processes": peak.processes,
        "stored_bytes_per_step": figures["stored_bytes_per_step"],
        "policy_bytes": figures["policy_bytes"],
        "zip_bytes": figures["zip_bytes"],
    }


def _spread(values: np.ndarray) -> dict[str, Any]:
    return Spread(tuple(values.tolist())).figures()
