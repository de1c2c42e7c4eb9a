"""Memory of a process and of all that it has started, as Linux counts it: what several share is divided among them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SECONDS_APART = 0.2
_PROC = Path("/proc")


@dataclass
class Peak:
    """The most that was seen. :param pss_bytes: proportional set size of all processes together; None: the system does
    not say. :param processes: how many there were then."""

    pss_bytes: int | None = None
    processes: int = 0


@contextmanager
def peak_of(pid: int) -> Iterator[Peak]:
    """Look at a process and its descendants some times a second until the block ends."""
    peak, done = Peak(), threading.Event()

    def look() -> None:
        while True:
            size, processes = memory_of(pid)
            if size > (peak.pss_bytes or 0):
                peak.pss_bytes, peak.processes = size, processes
            if done.wait(SECONDS_APART):
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def memory_of(pid: int) -> tuple[int, int]:
    """Bytes of a process and its descendants now, what they share counted once, and how many they are; 0 where the
    system does not say."""
    sizes = [size for each in _tree(pid) if (size := _pss(each))]
    return sum(sizes), len(sizes)


def _tree(pid: int) -> list[int]:
    found = [pid]
    # A process may end while it is looked at.
    with suppress(OSError, ValueError):
        for task in (_PROC / str(pid) / "task").iterdir():
            with suppress(OSError, ValueError):
                for child in (task / "children").read_text().split():
                    found += _tree(int(child))
    return found


def _pss(pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0
