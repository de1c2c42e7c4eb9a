"""Checkpoints: SB3's zip with all that training needs to go on as if it had never stopped; found, checked, read."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from sb3_alignsam.callbacks.checkpoint import CHECKPOINT_NAME
from sb3_alignsam.errors import InputError
from sb3_alignsam.training.plain_data import pack, unpack

STATE, ARRAYS, DIGESTS = "resume.json", "resume.npz", "digests.json"
"""Members beside SB3's: the state as plain data, its arrays, and the SHA-256 of every other member."""
FORMAT = 1
"""Of the state. Raise it with every change after which an earlier state would not be read as it was meant; checkpoints
that name none are of format 1."""
_PARAMETERS = {"policy": "policy.pth", "policy.optimizer": "policy.optimizer.pth"}


class UnknownFormatError(InputError):
    """A checkpoint is whole, but was written by a version whose state means something else."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    :param path: of the zip. :param parameters: by SB3's names, for `set_parameters`.
    :param state: everything else, see `sb3_alignsam.training.state`.
    """

    path: Path
    parameters: dict[str, Any]
    state: dict[str, Any]


def add_state(zipped: io.BytesIO, state: Mapping[str, Any]) -> None:
    """Add the state to an SB3 zip that is in memory.

    :param state: plain data, see `pack`.
    """
    plain, arrays = pack(state)
    stored = io.BytesIO()
    np.savez(stored, **arrays)  # type: ignore[arg-type]  # mypy takes a name for savez's own `allow_pickle`
    with zipfile.ZipFile(zipped, "a") as archive:
        archive.writestr(ARRAYS, stored.getvalue())
        archive.writestr(STATE, json.dumps({"format": FORMAT, **plain}))


def write_checkpoint(zipped: io.BytesIO, path: Path) -> None:
    """Write a zip that `add_state` has completed, with its digests. It has its name once all of it is on the disk.

    :raises OSError: it cannot be written; a previous file is as it was.
    """
    whole = io.BytesIO(zipped.getvalue())
    with zipfile.ZipFile(whole, "a") as archive:
        archive.writestr(DIGESTS, json.dumps(_digests(archive), indent=1))
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(whole.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing is unpickled.

    :raises InputError: it is damaged, or is a zip without a state to go on from.
    :raises UnknownFormatError: it is of another format than this version's.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if DIGESTS not in archive.namelist():
                raise InputError(f"{path} holds no state to go on from")
            if json.loads(archive.read(DIGESTS)) != _digests(archive):
                raise InputError(f"{path} is damaged: its content is not what was written")
            plain = json.loads(archive.read(STATE))
            _check_format(path, plain.pop("format", 1))
            with np.load(io.BytesIO(archive.read(ARRAYS)), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            parameters = {
                name: th.load(io.BytesIO(archive.read(member)), map_location="cpu", weights_only=True)
                for name, member in _PARAMETERS.items()
            }
        return Checkpoint(path, parameters, unpack(plain, arrays))
    except InputError:
        raise
    # What damaged bytes make of zip, deflate, JSON, NumPy's and torch's formats is not of one kind.
    except Exception as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())[:150]}") from error


def newest_checkpoint(folder: Path, report: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint of a run that can be used; None: there is no file of that name at all. `report` is told of
    each newer one that cannot, which is renamed to ``….damaged`` and out of the way of the next.

    :raises InputError: there are some, and none can be used.
    :raises UnknownFormatError: the newest whole one is of another format; nothing is renamed then.
    """
    paths = checkpoints_of(folder)
    refused: list[tuple[Path, InputError]] = []
    for path in reversed(paths):
        try:
            found = read_checkpoint(path)
        except UnknownFormatError:
            raise
        except InputError as error:
            refused.append((path, error))
            continue
        for other, reason in refused:
            report(f"warning: {reason}; the checkpoint before it is used")
            os.replace(other, other.with_name(other.name + ".damaged"))
        return found
    if not refused:
        return None
    raise InputError(f"{folder} has no checkpoint that can be used: {refused[0][1]}")


def checkpoints_of(folder: Path) -> list[Path]:
    """All files of a run that have a checkpoint's name, the oldest first."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := CHECKPOINT_NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def _check_format(path: Path, found: object) -> None:
    if found != FORMAT:
        raise UnknownFormatError(
            f"{path} is a checkpoint of format {found!r}, and this version of sb3-alignsam reads {FORMAT}; go on with "
            "the version that wrote it, which the run's versions.yml names"
        )


def _digests(archive: zipfile.ZipFile) -> dict[str, str]:
    names = sorted(set(archive.namelist()) - {DIGESTS})
    return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names}
