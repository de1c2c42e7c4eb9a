"""Where reports go: checked before long work, written at once after it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sb3_alignsam.errors import InputError


def check_writable(path: Path) -> None:
    """Find out before long work whether a file can be written.

    :raises InputError: it cannot; the message says why.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    if path.is_dir():
        raise InputError(f"{path} cannot be written: it is a folder")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary file to write to, which then takes the place of `path`; a kill leaves the previous file as it was.

    :raises InputError: it cannot be written; the message says why.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(report: Any, path: Path) -> None:
    """Write figures; a kill leaves the previous file as it was."""
    write_text(json.dumps(report, indent=1), path)


def write_text(text: str, path: Path) -> None:
    """Write a text; a kill leaves the previous file as it was."""
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
