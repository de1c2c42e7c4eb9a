"""The processes that `benchmark data` measures; each does one thing, so that its memory is that thing's."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sb3_alignsam.benchmark.cases import answer

WARM_UP = 3
"""Samples before those that are timed."""


def play(what: str, root: str, split: str, **values: Any) -> dict[str, Any]:
    """:param what: ``open``, ``workers`` or ``samples``. :param root: folder of COCO data. :param split: of it."""
    cases: dict[str, Callable[..., dict[str, Any]]] = {"open": _open, "workers": _workers, "samples": _samples}
    return cases[what](root, split, **values)


def _open(root: str, split: str) -> dict[str, Any]:
    """Seconds, seconds of the processor and the most memory of this whole process, libraries included, in bytes."""
    from sb3_alignsam.datasets.coco import CocoDataset

    start, cpu = time.perf_counter(), time.process_time()
    dataset = CocoDataset(root, split)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": _of_status("VmHWM"),
        "episodes": len(dataset),
    }


def _workers(root: str, split: str, count: int) -> dict[str, Any]:
    """Memory that each worker process needs of its own for an opened dataset."""
    import multiprocessing
    import pickle

    from sb3_alignsam.datasets.coco import CocoDataset

    dataset = CocoDataset(root, split)
    pickled = pickle.dumps(dataset)
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        grown = pool.map(_private_growth, [pickled] * count, chunksize=1)
    return {"workers": count, "pickled_bytes": len(pickled), "private_bytes": grown}


def _private_growth(pickled: bytes) -> int:
    """Memory that no other process shares: after the dataset has come and every column was read, less before."""
    import pickle

    # Not used, but what unpickling would import: its memory is not the dataset's.
    import sb3_alignsam.datasets.coco  # noqa: F401

    before = _private()
    dataset = pickle.loads(pickled)
    for column in dataset.table.columns[1:]:
        column.sum()
    return _private() - before


def _samples(root: str, split: str, count: int, size: int) -> dict[str, Any]:
    """Seconds of each of `count` samples: photograph, masks, and the photograph as SAM's input of side `size`."""
    import numpy as np

    from sb3_alignsam.datasets.coco import CocoDataset
    from sb3_alignsam.perception.geometry import letterbox

    dataset = CocoDataset(root, split)
    indices = np.random.default_rng(0).integers(len(dataset), size=count + WARM_UP)
    seconds, masks = [], []
    for index in indices.tolist():
        start = time.perf_counter(), time.process_time()
        sample = dataset.get(index)
        letterbox(sample.image, size)
        seconds.append((time.perf_counter() - start[0], time.process_time() - start[1]))
        masks.append(len(sample.instances))
    wall, cpu = zip(*seconds[WARM_UP:], strict=True)
    return {"seconds": wall, "cpu_seconds": cpu, "instances": sum(masks[WARM_UP:]) / count}


def _of_status(key: str) -> int | None:
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return 1024 * int(line.split()[1])
    return None


def _private() -> int:
    with suppress(OSError, ValueError):
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return 0


if __name__ == "__main__":
    answer(play)
