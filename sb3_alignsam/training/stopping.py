"""SIGTERM and Ctrl-C during training: when they take effect, and with which exit code."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from sb3_alignsam.errors import FULL_DISK, RunError, RunStopped
from sb3_alignsam.training.distributed import ALONE, Ranks

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE = 10.0
"""Seconds that a signal may go unheeded while other ranks are waited for."""


class StopSignal(BaseException):
    """A signal asked to stop."""


class Stops:
    """Raises `StopSignal` for the first signal, at once or where `check` is called; for a second `KeyboardInterrupt`.

    Worker processes may just be answering: one that is interrupted between asking and hearing waits for ever at the
    end. So a signal is held back while the environments are stepped, and takes effect after the step.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        """Of the signal that came; None: none did."""
        self._held = False

    def hold(self) -> None:
        """From here on a signal waits for `check`."""
        self._held = True

    def release(self) -> None:
        """From here on a signal takes effect at once."""
        self._held = False
        self.check()

    def check(self) -> None:
        """:raises StopSignal: a signal came."""
        if self.number is not None:
            self._held = False
            raise StopSignal

    @property
    def exit_code(self) -> int:
        """As shells tell a process that a signal has ended."""
        return 128 + (self.number or 0)

    def came(self, number: int, frame: FrameType | None) -> Any:
        """The handler of `SIGNALS`."""
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
        if not self._held:
            raise StopSignal


@contextmanager
def stops() -> Iterator[Stops]:
    """Handle `SIGNALS` until the block ends; outside of the main thread, where Python cannot, nothing changes."""
    handler = Stops()
    if threading.current_thread() is not threading.main_thread():
        yield handler
        return
    # A job that a shell started in the background, or under nohup, is to ignore Ctrl-C.
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler.came) for number in heeded}
    try:
        yield handler
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def held_to_time(save: Callable[[], None], message: str, ranks: Ranks, grace: float = GRACE) -> Iterator[None]:
    """Where a signal comes and the block does not end in time, save and end the process from a second thread: the main
    one may wait in a call of C code for another rank that is gone, where Python's handlers never run. One rank alone
    waits for nobody.

    :param message: what to say then. :param grace: seconds; ``torchrun`` kills after 30.
    """
    if ranks.size == 1 or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, told = socket.socketpair()
    told.setblocking(False)
    done = threading.Event()

    def watch() -> None:
        while (number := heard.recv(1)) and number[0] not in SIGNALS:
            pass
        if number and not done.wait(grace):
            save()
            print(f"Stopped: {message}", file=sys.stderr, flush=True)
            os._exit(128 + number[0])

    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, name="sb3-alignsam-stopping", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(before)
        told.close()  # ends the thread
        thread.join()
        heard.close()


@contextmanager
def told_in_one_line(stop: Stops, folder: Path, ranks: Ranks = ALONE) -> Iterator[None]:
    """Turn what ends training early into an error that says in one line how to go on; of a signal, which comes to all
    ranks, only the leader speaks.

    :param folder: of the run.
    :raises RunStopped: a signal came. :raises RunError: a worker died, or the disk is full.
    """
    go_on = f"go on with: {ranks.command} train --resume {folder}"
    stopped = go_on
    if ranks.size > 1:
        stopped = f"torchrun asked all ranks to, as it also does when one of them has ended; {go_on}"
    shown = threading.excepthook
    # TensorBoard writes in a thread; what fails there is raised here, at the next write.
    threading.excepthook = lambda args: None if _is_full(args.exc_value) else shown(args)
    try:
        yield
    except BaseException as error:
        # A signal that reaches the whole process group ends workers too, and that may be noticed first.
        if stop.number is not None:
            raise RunStopped(stopped if ranks.leader else "", stop.exit_code) from error
        if isinstance(error, RunError):
            raise RunError(f"{error}; what was learnt is in {folder}; {go_on}") from error
        if isinstance(error, OSError) and _is_full(error):
            where = f" ({error.filename})" if error.filename else ""
            raise RunError(f"{error.strerror}{where}; make room, then {go_on}") from error
        raise
    finally:
        threading.excepthook = shown


def _is_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in FULL_DISK
