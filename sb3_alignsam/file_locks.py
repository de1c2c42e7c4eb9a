"""Keeps two processes from working on the same files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sb3_alignsam.errors import InputError


@contextmanager
def only_process(path: Path, refusal: str) -> Iterator[None]:
    """Keep every other process out that asks for the same file; the system lets go of it however this one ends.

    :param path: of a file that is never replaced by another; it is made where there is none.
    :param refusal: what is told where another process has it.
    :raises InputError: another process has it, or it cannot be opened.
    """
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ImportError:  # Windows
        yield
        return
    try:
        file = path.open("ab")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    with file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            raise InputError(refusal) from error
        except OSError:
            pass  # A file system without locks.
        yield
