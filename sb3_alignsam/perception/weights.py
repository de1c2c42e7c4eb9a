"""Weights that are not shipped: the manifest of what is known, and where they lie on this machine."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from sb3_alignsam.cache_home import cache_home
from sb3_alignsam.errors import InputError
from sb3_alignsam.keywords import unknown_name

VOCABULARY_FILES = ("vocab.json", "merges.txt")
"""What transformers' tokenizer reads from the folder of a stored vocabulary."""


@dataclass(frozen=True)
class WeightsEntry:
    """One entry of the manifest.

    :param name: as commands and messages call it. :param aliases: other names for the same.
    :param what: what it is, in a few words. :param licence: of the repository that publishes it.
    :param address: where it is published. :param file: the published file's name.
    :param format: the published file's: ``state dict`` (pickled), ``torchscript`` or ``vocabulary``.
    :param size: of the published file in bytes; None where it could not be verified.
    :param sha256: of the published file, in hexadecimal; None where it could not be verified.
    :param shapes: of some tensors, which tell the model from others of its kind.
    """

    name: str
    aliases: list[str]
    what: str
    licence: str
    address: str
    file: str
    format: str
    size: int | None
    sha256: str | None
    shapes: dict[str, list[int]]


def manifest_file() -> Path:
    """The shipped manifest: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "third_party" / "weights.json"
    return inside if inside.is_file() else package.parent / "third_party" / "weights.json"


def read_manifest() -> list[WeightsEntry]:
    """All weights that are known, in the manifest's order."""
    content = json.loads(manifest_file().read_text(encoding="utf-8"))
    return [WeightsEntry(**fields) for fields in content["weights"]]


def weights_entry(name: str) -> WeightsEntry:
    """The entry of a name or an alias.

    :raises InputError: the name is unknown.
    """
    entries = read_manifest()
    for entry in entries:
        if name == entry.name or name in entry.aliases:
            return entry
    raise unknown_name(name, [entry.name for entry in entries], "weights")


def weights_folder() -> Path:
    """The folder of stored weights; it need not exist.

    :raises InputError: neither it nor the user's home folder is known.
    """
    return cache_home() / "weights"


def stored_path(entry: WeightsEntry) -> Path:
    """Where an entry lies after import: a safetensors file, or a folder with `VOCABULARY_FILES`; it need not exist."""
    return weights_folder() / (entry.name if entry.format == "vocabulary" else f"{entry.name}.safetensors")


def is_stored(entry: WeightsEntry) -> bool:
    """Whether an entry was imported; it is not read."""
    path = stored_path(entry)
    files = [path / name for name in VOCABULARY_FILES] if entry.format == "vocabulary" else [path]
    # Unlike Path.is_file, False for a folder that may not be looked into.
    return all(os.path.isfile(file) for file in files)


def find_weights(name: str) -> Path:
    """The stored weights of a name.

    :param name: a name or an alias of the manifest.
    :return: a ``.safetensors`` file with upstream's names, or the folder of a tokenizer.
    :raises InputError: the name is unknown, or the weights are not here; the message says how to get them.
    """
    entry = weights_entry(name)
    if is_stored(entry):
        return stored_path(entry)
    raise InputError(f"weights '{entry.name}' are not in {weights_folder()}; {how_to_get([entry])}")


def how_to_get(entries: list[WeightsEntry]) -> str:
    """The commands that get weights, for one line of a message."""
    fetch = " ".join(entry.name for entry in entries)
    imports = " and ".join(
        f"sb3-alignsam weights import {entry.file} --name {entry.name}{'' if entry.sha256 else ' --sha256 HEX'}"
        for entry in entries
    )
    return f"get them with: sb3-alignsam weights fetch {fetch}; or from a file that you have: {imports}"
