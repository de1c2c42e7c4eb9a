"""The journal of a tracked run: one JSON object a line, only ever appended to."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

FOLDER = "tracking"
"""In a run's folder; holds the journal and what has been sent of it."""
JOURNAL = "journal.jsonl"


def journal_of(folder: Path) -> Path:
    """A run's journal. :param folder: of the run."""
    return folder / FOLDER / JOURNAL


def read_entries(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any] | None, int]]:
    """Entries behind an offset in bytes, each with the offset behind it.

    A last line that a kill has torn is left for later; a line that is no JSON object is given as None.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            yield (entry if isinstance(entry, dict) else None), offset


class Journal:
    """Appends to a journal. It never raises where the disk is full or gone: entries wait in memory for the next try.

    Each line is on its way to the disk when `append` returns, so that a kill of the process loses none.

    :param path: of the journal; folders are made. :param report: told once, until writing works again, that it fails.
    """

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        self.path, self.report = path, report
        self._file: BinaryIO | None = None
        self._waiting: list[bytes] = []
        self._failed = False

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write one entry, and those that wait before it."""
        self._waiting.append(json.dumps(entry).encode() + b"\n")
        try:
            self._write()
        except OSError as error:
            if not self._failed:
                self.report(f"warning: {self.path} cannot be written ({error.strerror or error}); training goes on, "
                            "what it tracks waits for room")  # fmt: skip
            self._failed = True
        else:
            self._failed = False

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self) -> None:
        file = self._file = self._file or self._opened()
        while self._waiting:
            end = file.seek(0, os.SEEK_END)
            written = 0
            try:
                written = file.write(self._waiting[0])
                if written != len(self._waiting[0]):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                with suppress(OSError):
                    file.truncate(end)
                raise
            self._waiting.pop(0)

    def _opened(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+b", buffering=0)
        file.truncate(_whole(self.path))
        return file


def _whole(path: Path) -> int:
    """Bytes of a journal up to the end of its last whole line."""
    content = path.read_bytes()
    return content.rfind(b"\n") + 1
