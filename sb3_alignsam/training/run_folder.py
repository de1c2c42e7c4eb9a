"""The folder of one run, laid out as rl-zoo3 lays it out: ``<logs>/<algo>/<ENV_ID>_<N>/``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from sb3_alignsam.errors import InputError
from sb3_alignsam.file_locks import only_process
from sb3_alignsam.tracking.addresses import masked

ARGS = "args.yml"
LAUNCH = "launch.txt"
"""Beside it: the name of the ``torchrun`` that the run belongs to."""
FINISHED = "finished"
"""Beside ``args.yml``: empty, written when all steps have been trained."""


def new_run_folder(logs: Path, algo: str, env_id: str) -> Path:
    """Create the next free ``<ENV_ID>_<N>``, N from 1; two runs that start at once get two folders.

    :raises InputError: the folder cannot be created.
    """
    parent = logs / algo
    try:
        parent.mkdir(parents=True, exist_ok=True)
        taken = [each.name.rpartition("_")[2] for each in parent.glob(f"{env_id}_*")]
        number = max((int(each) for each in taken if each.isdigit()), default=0) + 1
        while True:
            folder = parent / f"{env_id}_{number}"
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
                continue
            (folder / env_id).mkdir()
            return folder
    except OSError as error:
        raise InputError(f"log folder {logs} cannot be written: {error.strerror}; choose another with -f") from error


def write_configuration(
    folder: Path, env_id: str, hyperparams: Mapping[str, Any], arguments: Mapping[str, Any], command: Sequence[str]
) -> None:
    """Write ``config.yml`` (hyperparameters), ``args.yml`` (the command's options) and ``command.txt``; passwords in
    addresses of the command are hidden."""
    inner = folder / env_id
    (inner / "command.txt").write_text(shlex.join(masked(word) for word in command) + "\n", encoding="utf-8")
    _write_yaml(inner / "config.yml", hyperparams)
    _write_yaml(inner / ARGS, arguments)  # Last: a folder that has it can be resumed.


def write_launch(folder: Path, env_id: str, name: str | None) -> None:
    """Note which ``torchrun`` a run belongs to, see `launched_run`. :param name: None: none."""
    if name is not None:
        (folder / env_id / LAUNCH).write_text(name + "\n", encoding="utf-8")


def launched_run(logs: Path, algo: str, env_id: str, name: str | None) -> Path | None:
    """The newest run folder that `write_launch` has noted a name in; None: there is none."""
    ours = [path for path in _notes_of(logs, algo, env_id, name) if path.with_name(ARGS).is_file()]
    return max(ours, key=lambda path: path.stat().st_mtime).parents[1] if ours else None


def forget_launches(logs: Path, algo: str, env_id: str, name: str | None) -> None:
    """Have `launched_run` find no run that is there already: of an earlier ``torchrun`` of the same name.

    :raises InputError: a note cannot be removed.
    """
    for path in _notes_of(logs, algo, env_id, name):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"{path} is of an earlier torchrun '{name}' and cannot be removed: {error.strerror}; give torchrun "
                "another --rdzv-id, or choose another log folder with -f"
            ) from error


def is_finished(inner: Path) -> bool:
    """Whether a run was trained to its end."""
    return (inner / FINISHED).is_file()


def mark_finished(folder: Path, env_id: str) -> None:
    """Note that a run was trained to its end."""
    (folder / env_id / FINISHED).touch()


@contextmanager
def alone(folder: Path, env_id: str) -> Iterator[None]:
    """Keep every other process from training in a run folder; the system lets go of it however this one ends.

    :raises InputError: another process does.
    """
    refusal = f"another process is training in {folder}; stop it, or wait until it is done"
    with only_process(folder / env_id / ARGS, refusal):
        yield


def _notes_of(logs: Path, algo: str, env_id: str, name: str | None) -> list[Path]:
    """The files that `write_launch` has noted a name in."""
    notes = []
    for path in [] if name is None else (logs / algo).glob(f"{env_id}_*/{env_id}/{LAUNCH}"):
        with suppress(FileNotFoundError):  # another torchrun may be removing its own
            if path.read_text(encoding="utf-8") == f"{name}\n":
                notes.append(path)
    return notes


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")
    os.replace(temporary, path)
