"""Writing results: whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from sb3_alignsam.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; a kill or a full disk leaves a previous one as it was.

    :raises InputError: it cannot be written; the message says why.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise InputError(f"{path} cannot be written ({error.strerror}); make room or choose another place") from error


def as_json(value: Any) -> bytes:
    """A value as JSON text, the same bytes for the same value."""
    return (json.dumps(value, indent=1) + "\n").encode()
