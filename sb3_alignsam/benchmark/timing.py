"""Timing on machines that others use too: calls take turns, and what is told is medians and quartiles."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch as th


@dataclass(frozen=True)
class Spread:
    """Measurements in the order they were made; their median and quartiles."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of all values."""
        return float(np.median(self.values))

    @property
    def quartiles(self) -> tuple[float, float]:
        """Half of the values lie between these, interpolated linearly."""
        low, high = np.percentile(self.values, (25, 75))
        return float(low), float(high)

    def figures(self) -> dict[str, Any]:
        """In plain values, for JSON."""
        return {"median": self.median, "quartiles": list(self.quartiles), "values": list(self.values)}


def take_turns(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    finish: Callable[[], object] = lambda: None,
    step: Callable[[], object] = lambda: None,
) -> dict[str, Spread]:
    """Time each call `repeats` times, a b a b …, so that a busy moment of the machine falls on all of them.

    :param calls: by name; each is called once before, to warm up.
    :param finish: waits until an accelerator has done what it was given. :param step: is called after every round.
    :return: seconds of each call's repeats, by the same names.
    """
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            finish()
            start = time.perf_counter()
            call()
            finish()
            seconds[name].append(time.perf_counter() - start)
        step()
    return {name: Spread(tuple(each)) for name, each in seconds.items()}


def ratio(slow: Spread, fast: Spread) -> Spread:
    """How many times faster, of each round on its own: what slows a whole round down cancels out."""
    return Spread(tuple(a / b for a, b in zip(slow.values, fast.values, strict=True)))


def waiting(device: str) -> Callable[[], object]:
    """What waits until a device has done its work; on a CPU there is nothing to wait for."""
    if device.startswith("cuda"):
        return lambda: th.cuda.synchronize(device)
    return th.mps.synchronize if device.startswith("mps") else lambda: None


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use that many threads for a while."""
    before = th.get_num_threads()
    th.set_num_threads(count)
    try:
        yield
    finally:
        th.set_num_threads(before)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory() -> int | None:
    """The most memory that this process has held so far, in bytes; None where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def about_machine(device: str) -> dict[str, Any]:
    """Where figures come from, in plain values. :param device: as torch names it."""
    return {
        "processor": processor_name(),
        "cores": cores(),
        "device": th.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "torch": th.__version__,
    }


def processor_name() -> str:
    """The processor's model, as the system calls it."""
    info = Path("/proc/cpuinfo")
    lines: Sequence[str] = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else ()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
