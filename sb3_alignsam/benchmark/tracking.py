"""What keeping a run costs: training with MLflow, films and checkpoints beside training without."""

from __future__ import annotations

from typing import Any

from sb3_alignsam.benchmark.timing import Spread, about_machine, ratio
from sb3_alignsam.benchmark.workloads import run_case, workload


def benchmark_tracking(*, algo: str, blocks: int, seconds: float, freq: int) -> dict[str, Any]:
    """Train on drawn scenes in a process of its own, by turns with everything that is kept of a run and with nothing.

    :param blocks: of each kind. :param seconds: of a block.
    :param freq: steps between two checkpoints, two films and two evaluations; the time of these last does not count.
    :return: plain values.
    :raises RunError: the process failed.
    """
    with workload("tiny", None, None, {}) as work:
        case = {
            "env_id": work.env_id,
            "env_kwargs": work.env_kwargs,
            "algo": algo,
            "blocks": blocks,
            "seconds": seconds,
            "freq": freq,
            "logs": str(work.folder / "logs"),
        }
        rows, _ = run_case("tracking_case", case, work)
    speeds = {name: Spread(tuple(row["steps"] / row["seconds"] for row in each)) for name, each in rows.items()}
    return {
        "benchmark": "tracking",
        **about_machine("cpu"),
        "env_id": work.env_id,
        "segmenter": "tiny",
        "weights": work.weights,
        "algo": algo,
        "blocks": blocks,
        "seconds": seconds,
        "freq": freq,
        "ratio": ratio(speeds["on"], speeds["off"]).figures(),
        **{name: {"steps_per_second": speeds[name].figures(), **_sums(each)} for name, each in rows.items()},
    }


def _sums(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of blocks: how long the end of each took, and what was written in all of them."""
    ends = Spread(tuple(row["end_seconds"] for row in rows)).figures()
    return {"end_seconds": ends, **{name: sum(row[name] for row in rows) for name in ("steps", "films", "checkpoints")}}
