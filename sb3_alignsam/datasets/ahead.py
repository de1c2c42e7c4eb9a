"""Loading in worker processes before it is asked for. Workers import no more than what they are given needs."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

import cv2

from sb3_alignsam.errors import InputError, RunError

Loaded = TypeVar("Loaded")
MOST_WORKERS = 8
NICENESS = 10
"""How far workers stand back behind the process that they work for, where the system knows of that."""


class Ahead(Generic[Loaded]):
    """What a function gives for an index, computed in the background from the moment it is asked for.

    An error of a worker, such as a photograph that cannot be read, is raised where the result is taken, with the
    worker's own traceback. Workers end with the process that started them, even where that is killed.

    As with SB3's `SubprocVecEnv`, a script that makes one needs ``if __name__ == "__main__":`` around what it runs.

    :param load: such as a dataset's ``get``; can be pickled where there are workers.
    :param num_workers: processes; 0: it is called in this one, when the result is taken.
    """

    def __init__(self, load: Callable[[int], Loaded], num_workers: int) -> None:
        self._load = load
        self._pool: ProcessPoolExecutor | None = None
        if num_workers:
            # As SB3 starts its workers: a fork of this process would inherit its threads' locks.
            method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
            context = multiprocessing.get_context(method)
            self._pool = ProcessPoolExecutor(num_workers, context, initializer=_start, initargs=(load,))

    def ask(self, index: int) -> Callable[[], Loaded]:
        """Begin to load what `index` stands for; what is returned waits for it.

        :raises InputError: `load` cannot be sent to workers.
        :raises RunError: a worker was killed.
        """
        if self._pool is None:
            return partial(self._load, index)
        try:
            return partial(_result, self._pool.submit(_call, index))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise InputError(
                f"the dataset cannot be sent to worker processes ({error}); use num_workers=0, or a class that can be "
                "pickled"
            ) from error
        except BrokenProcessPool as error:
            raise _killed() from error

    def close(self) -> None:
        """End the workers; what they were loading is dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def default_workers(processes: int = 1) -> int:
    """Half of this process's cores, since the networks need some too; at least 1, at most `MOST_WORKERS`.

    :param processes: how many share the cores, this one among them.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores // processes // 2, MOST_WORKERS))


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise _killed() from error


def _killed() -> RunError:
    return RunError("a process that loads samples was killed; is there too little memory?")


_loader: Callable[[int], Any] | None = None


def _start(load: Callable[[int], Any]) -> None:
    """Make a fresh worker ready."""
    global _loader
    _loader = load
    cv2.setNumThreads(1)
    if hasattr(os, "nice"):
        # What is needed later must not hold up what is needed now: a loop of torch ends with its slowest thread.
        os.nice(NICENESS)
    # Ctrl-C reaches every process of a terminal; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _call(index: int) -> Any:
    assert _loader is not None
    return _loader(index)
