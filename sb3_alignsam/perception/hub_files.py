"""Where a model in transformers' format lies: a folder, or the Hugging Face hub's cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.checkpoints import first_line

# What transformers was seen to raise on values that fit no network of its kind.
UNBUILDABLE = (StrictDataclassError, ArithmeticError, AttributeError, KeyError, RuntimeError, TypeError, ValueError)
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""In the order of preference: some repositories hold the same weights in both."""


def model_folder(
    name_or_folder: str | Path,
    kind: str,
    files: Sequence[str],
    complete: Callable[[Path], bool],
    wanted: str,
    weights: bool = True,
) -> Path:
    """The folder of a model's files; a name on the hub is fetched when it is not in the cache yet.

    The cache is looked at first, so that a model which is there needs no network, nor waits for it.

    :param name_or_folder: a folder, taken as it is, or a name on the hub.
    :param kind: what messages call the model, such as ``CLIP``.
    :param files: the small files to fetch, those of them that there are.
    :param complete: whether a folder of the cache holds what is needed.
    :param wanted: the files that a folder should hold, for messages.
    :param weights: one of `WEIGHT_FILES` is needed too.
    :raises InputError: there is neither such a folder nor such a name, or the hub cannot be reached.
    """
    if Path(name_or_folder).is_dir():
        return Path(name_or_folder)
    name = str(name_or_folder)
    try:
        cached = Path(snapshot_download(name, local_files_only=True))
        if complete(cached):
            return cached
    except (OSError, ValueError):
        # Not in the cache, or no name at all: the hub's own answer, below, says which.
        pass
    try:
        return _fetch(name, files, complete, weights)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{kind} '{name}' is no folder and cannot be fetched by that name: {first_line(error)}; give a folder with "
            f"{wanted}"
        ) from error


def _fetch(name: str, files: Sequence[str], complete: Callable[[Path], bool], weights: bool) -> Path:
    if not weights:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    for file in WEIGHT_FILES:
        folder = Path(snapshot_download(name, allow_patterns=[*files, file]))
        if complete(folder):
            break
    return folder


def weight_file(folder: Path) -> Path:
    """The file of a folder's weights. :raises InputError: there is none."""
    for file in WEIGHT_FILES:
        if (folder / file).is_file():
            return folder / file
    raise InputError(f"{folder} holds no weights: neither {' nor '.join(WEIGHT_FILES)} is there")


def read_config(path: Path, model_type: str, name: str) -> dict[str, Any]:
    """What a ``config.json`` says of a model.

    :param model_type: transformers' name of its kind, such as ``clip``. :param name: what messages call it.
    :raises InputError: there is no such file, or it describes another kind of model.
    """
    values = read_json(path)
    if values is None:
        raise InputError(f"{path} does not exist; give a folder with a {name} in transformers' format")
    if values.get("model_type") != model_type:
        found = values.get("model_type")
        raise InputError(f"{path} describes no {name}: its model_type is '{found}', not '{model_type}'")
    return values


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file's mapping, None where there is no such file. :raises InputError: it holds no mapping."""
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no mapping")
    return values
