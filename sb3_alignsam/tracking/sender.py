"""The process that sends a run's journal while it trains: nothing of MLflow ever waits or works in the trainer's.

Run as a module it reads its order, a line of JSON, from standard input, and sends until that is closed, as it is when
the trainer ends, however it ends. What it prints is for people.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sb3_alignsam.tracking.addresses import masked
from sb3_alignsam.tracking.journal import journal_of

if TYPE_CHECKING:
    from sb3_alignsam.tracking.sending import Sending

POLL, RETRY = 1.0, 30.0
"""Seconds between two looks at the journal, and between two tries at a server that did not answer."""
PATIENCE = 60.0
"""Seconds that the end of training waits for a server that answers; one that does not is not waited for."""


class Sender:
    """The trainer's side. :param folder: of the run. :param uri: of the store. :param report: told one line at most
    when sending fails."""

    def __init__(self, folder: Path, uri: str, report: Callable[[str], None]) -> None:
        self.folder, self.report = folder, report
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._told = False
        # In a session of its own: Ctrl-C in a terminal is for the trainer, which ends it.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sb3_alignsam.tracking.sender"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        with suppress(OSError):  # told in `close`
            self._stdin.write(json.dumps({"folder": str(folder.resolve()), "uri": uri}) + "\n")
            self._stdin.flush()

    def relay(self) -> None:
        """Tell what the process said since; in the trainer's own thread, which owns the terminal."""
        while not self._lines.empty():
            self._told = True
            self.report(self._lines.get())

    def close(self, patience: float = PATIENCE) -> None:
        """Let it send what is left and end. :param patience: seconds to wait for that."""
        with suppress(OSError):
            self._stdin.close()
        try:
            code = self._process.wait(patience)
            self._listener.join(1.0)
        except subprocess.TimeoutExpired:
            code = 1
        finally:
            self._process.kill()
            self._process.wait()
        self.relay()
        if code and not self._told:
            self.report(
                f"warning: not all that was tracked could be sent; send it with: sb3-alignsam sync {self.folder}"
            )

    @property
    def _stdin(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))


def reason_of(error: BaseException) -> str:
    """An error of MLflow's in a few words, without passwords."""
    text = " ".join(str(error).split()) or type(error).__name__
    return masked(text)[:200]


def _main() -> int:
    order = json.loads(sys.stdin.readline())
    folder, uri = Path(order["folder"]), order["uri"]
    parent, ended = os.getppid(), threading.Event()

    def watch() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    with suppress(OSError, AttributeError):
        os.nice(5)
    try:
        from sb3_alignsam.tracking.sending import Sending, only_sender

        _wait_for_journal(folder, ended)
        while True:
            try:
                with only_sender(folder):
                    return _send_until(ended, Sending(folder, uri), folder, parent)
            except BlockingIOError:  # that of a process that was killed has not ended yet
                if ended.is_set():
                    return 1
                time.sleep(POLL)
    except Exception as error:  # what MLflow raises is of no one kind, and training must hear of it in one line
        _say_failed(folder, uri, error)
        return 1


def _send_until(ended: threading.Event, sending: Sending, folder: Path, parent: int) -> int:
    failed = told = False
    while True:
        last = ended.is_set() or os.getppid() != parent
        try:
            sending.send()
            failed = False
        except Exception as error:  # likewise; it is tried again
            failed = True
            if not told:
                _say_failed(folder, sending.uri, error)
            told = True
        for line in sending.refused:
            print(f"warning: {line}", flush=True)
        sending.refused.clear()
        if last:
            return int(failed)
        ended.wait(RETRY if failed else POLL)


def _wait_for_journal(folder: Path, ended: threading.Event) -> None:
    while not journal_of(folder).is_file() and not ended.wait(POLL):
        pass


def _say_failed(folder: Path, uri: str, error: BaseException) -> None:
    print(
        f"warning: nothing can be sent to {masked(uri)} ({reason_of(error)}); training goes on, what is missed is kept "
        f"and sent later, or by: sb3-alignsam sync {folder}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(_main())
