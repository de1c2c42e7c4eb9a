"""Steps a second of many environments side by side, by the kind of VecEnv."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sb3_alignsam.benchmark.limits import Limit
from sb3_alignsam.benchmark.timing import Spread, about_machine, ratio
from sb3_alignsam.benchmark.workloads import run_case, workload
from sb3_alignsam.training.vec_envs import VEC_ENVS


def benchmark_env(
    segmenter: str,
    num_envs: Sequence[int],
    *,
    steps: int,
    repeats: int,
    checkpoint: str | None = None,
    root: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    step: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Play at random in every kind of VecEnv, by turns, each time in a process of its own.

    Images in files are in the feature cache already; scenes are drawn and encoded as they come.

    :param num_envs: how many environments, one row of figures each. :param steps: of every environment, in each turn.
    :param repeats: turns of each kind. :param step: is called after every turn. :param root: see `workload`.
    :return: plain values.
    :raises InputError: a keyword cannot be used. :raises RunError: a process failed.
    """
    with workload(segmenter, checkpoint, root, env_kwargs or {}) as work:
        case = {"env_id": work.env_id, "env_kwargs": work.env_kwargs, "steps": steps}
        rows = []
        for count in num_envs:
            if root is not None:  # every turn sees the same images, since it has the same seed
                run_case("env_case", {**case, "kind": "batched", "num_envs": count, "bare": False}, work)
            turns = []
            for _ in range(repeats):
                turn = {}
                for kind in VEC_ENVS:
                    bare = kind == VEC_ENVS[0]
                    turn[kind], _ = run_case("env_case", {**case, "kind": kind, "num_envs": count, "bare": bare}, work)
                    step()
                turns.append(turn)
            rows.append(_row(count, turns, drawn=root is None))
    return {
        "benchmark": "env",
        **about_machine(str((env_kwargs or {}).get("device", "cpu"))),
        "env_id": work.env_id,
        "segmenter": segmenter,
        "weights": work.weights,
        "steps": steps,
        "repeats": repeats,
        "rows": rows,
    }


def _row(count: int, turns: Sequence[Mapping[str, Any]], *, drawn: bool) -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    speeds = {kind: Spread(tuple(turn[kind]["steps_per_second"] for turn in turns)) for kind in VEC_ENVS}
    for kind in VEC_ENVS:
        shares = [turn[kind]["segment_share"] for turn in turns]
        kinds[kind] = {
            "steps_per_second": speeds[kind].figures(),
            "times_dummy": ratio(speeds[kind], speeds["dummy"]).figures(),
            "segment_share": None if None in shares else Spread(tuple(shares)).figures(),
        }
    bare = [turn[VEC_ENVS[0]]["bare"] for turn in turns]
    limit = [
        1 / Limit(**each).step_seconds(turns[0][VEC_ENVS[0]]["clicks"], drawn=drawn, encoded=drawn) for each in bare
    ]
    limit_spread = Spread(tuple(limit))
    for kind in VEC_ENVS:
        kinds[kind]["of_limit"] = ratio(speeds[kind], limit_spread).figures()
    return {"num_envs": count, "kinds": kinds, "bare": bare, "limit_steps_per_second": limit_spread.figures()}
