"""Stored weights: written whole or not at all, and read again to see that they are as they were written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch as th
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sb3_alignsam.cache_home import HOME_VARIABLE
from sb3_alignsam.errors import InputError, RunError
from sb3_alignsam.perception.checkpoints import StateDict
from sb3_alignsam.perception.weights import VOCABULARY_FILES, WeightsEntry, find_weights, stored_path, weights_folder

if sys.platform != "win32":
    import fcntl

INCOMING = ".incoming"
RECORD = "digests.json"
"""What the folder of a vocabulary says of itself; in a safetensors file the same lies in the metadata."""


@contextmanager
def incoming(say: Callable[[str], None]) -> Iterator[Path]:
    """An empty folder beside the stored weights, for one process at a time; what is left in it is removed.

    A killed process leaves its files there, for the next one to remove.

    :param say: gets a line when another process has to be waited for.
    :raises InputError: the folder of weights cannot be made or locked.
    :raises RunError: it cannot be written to, later on, as when the disk is full.
    """
    root = weights_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / ".lock").open("w")
    except OSError as error:
        raise InputError(f"{root} cannot be written: {error.strerror}; {HOME_VARIABLE} names another place") from error
    with lock:
        _lock(lock.fileno(), root, say)
        folder = root / INCOMING
        try:
            _remove(folder)
            folder.mkdir()
            yield folder
        except (OSError, SafetensorError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise RunError(f"{root} cannot be written: {reason}; {HOME_VARIABLE} names another place") from error
        finally:
            with suppress(OSError):
                _remove(folder)


def write_tensors(state: StateDict, entry: WeightsEntry, sha256: str, target: Path) -> None:
    """Write a safetensors file that says where it is from, and carries a digest of its content.

    :param state: contiguous tensors that share no memory. :param sha256: of the published file.
    """
    header = {"format": "pt", "name": entry.name, "source_sha256": sha256}
    save_file(dict(state), target, {**header, "content_sha256": _content_digest(state, header)})


def write_vocabulary(
    vocab: Mapping[str, int], merges: Sequence[str], entry: WeightsEntry, sha256: str, target: Path
) -> None:
    """Write the folder of a tokenizer in transformers' format, with the digests of its files.

    :param vocab: ids by token. :param merges: in their order. :param sha256: of the published file.
    """
    target.mkdir()
    (target / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (target / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    record = {"name": entry.name, "source_sha256": sha256, "files": _file_digests(target)}
    (target / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


def store(written: Path, entry: WeightsEntry) -> Path:
    """Move what was written below `incoming` to its place, instead of what was there before.

    :return: its place.
    """
    path, before = stored_path(entry), written.with_name("before")
    if os.path.lexists(path) and not (path.is_file() and written.is_file()):
        # A folder cannot be replaced at once. A kill between the two leaves none: then it has to be imported again.
        os.replace(path, before)
    try:
        os.replace(written, path)
    except OSError:
        if os.path.lexists(before):
            os.replace(before, path)
        raise
    return path


def check_stored(entry: WeightsEntry) -> str:
    """Read stored weights and compare them with the digest that was taken when they were written.

    :return: SHA-256 of the published file that they were made of.
    :raises InputError: they are not here, or damaged.
    """
    path = find_weights(entry.name)
    try:
        record, intact = _read_vocabulary(path) if entry.format == "vocabulary" else _read_tensors(path)
        if intact and record["name"] == entry.name:
            return record["source_sha256"]
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, RuntimeError) as error:
        raise InputError(f"weights '{entry.name}' in {path} are damaged; import or fetch them again") from error
    raise InputError(f"weights '{entry.name}' in {path} are not as they were written; import or fetch them again")


def _read_tensors(path: Path) -> tuple[dict[str, str], bool]:
    """What a file says of itself, and whether its content has the digest that was taken."""
    with safe_open(path, "pt") as file:
        header = dict(file.metadata() or {})
        # The file is no mapping: it cannot be iterated, only asked for its keys.
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    written = header.pop("content_sha256")
    return header, written == _content_digest(state, header)


def _read_vocabulary(path: Path) -> tuple[dict[str, str], bool]:
    record = json.loads((path / RECORD).read_text(encoding="utf-8"))
    return record, record["files"] == _file_digests(path)


def _content_digest(state: StateDict, header: Mapping[str, str]) -> str:
    """SHA-256 over the header and every tensor's name, type, shape and bytes, in the order of names.

    It lies in files that other versions of this package read, so it stays as it is; `fingerprint` promises no such.
    """
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for key in sorted(state):
        value = state[key]
        digest.update(json.dumps([key, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.reshape(-1).view(th.uint8).numpy().data)
    return digest.hexdigest()


def _file_digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in VOCABULARY_FILES}


def _lock(descriptor: int, root: Path, say: Callable[[str], None]) -> None:
    """Wait for other processes. The system lets go of the lock when a process ends, however it ends."""
    if sys.platform == "win32":
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another sb3-alignsam weights")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        raise InputError(f"{root} cannot be locked: {error.strerror}; {HOME_VARIABLE} names another place") from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
