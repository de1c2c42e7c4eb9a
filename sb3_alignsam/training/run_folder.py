"""The folder of one run, laid out as rl-zoo3 lays it out: ``<logs>/<algo>/<ENV_ID>_<N>/``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sb3_alignsam.errors import InputError


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
    """Write ``config.yml`` (hyperparameters), ``args.yml`` (the command's options) and ``command.txt``."""
    inner = folder / env_id
    (inner / "config.yml").write_text(yaml.safe_dump(dict(hyperparams), sort_keys=False), encoding="utf-8")
    (inner / "args.yml").write_text(yaml.safe_dump(dict(arguments), sort_keys=False), encoding="utf-8")
    (inner / "command.txt").write_text(shlex.join(command) + "\n", encoding="utf-8")
