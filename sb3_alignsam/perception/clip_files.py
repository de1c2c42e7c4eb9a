"""Where a CLIP in transformers' format lies: a folder, or the Hugging Face hub's cache."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.checkpoints import first_line

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""In the order of preference: some repositories hold the same weights in both."""


def clip_folder(name_or_folder: str | Path, weights: bool = True) -> Path:
    """The folder of a model's files; a name on the hub is fetched when it is not in the cache yet.

    The cache is looked at first, so that a model which is there needs no network, nor waits for it.

    :param name_or_folder: a folder, taken as it is, or a name on the hub.
    :param weights: the weights are needed, and not only the tokenizer.
    :raises InputError: there is neither such a folder nor such a name, or the hub cannot be reached.
    """
    if Path(name_or_folder).is_dir():
        return Path(name_or_folder)
    name = str(name_or_folder)
    try:
        cached = Path(snapshot_download(name, local_files_only=True))
        if _complete(cached, weights):
            return cached
    except (OSError, ValueError):
        # Not in the cache, or no name at all: the hub's own answer, below, says which.
        pass
    try:
        return _fetch(name, weights)
    except (OSError, ValueError) as error:
        raise InputError(
            f"CLIP '{name}' is no folder and cannot be fetched by that name: {first_line(error)}; give a folder with "
            "config.json, model.safetensors, vocab.json and merges.txt"
        ) from error


def _fetch(name: str, weights: bool) -> Path:
    small = ["config.json", *TOKENIZER_FILES]
    if not weights:
        return Path(snapshot_download(name, allow_patterns=small))
    for file in WEIGHT_FILES:
        folder = Path(snapshot_download(name, allow_patterns=[*small, file]))
        if _complete(folder, weights):
            break
    return folder


def _complete(folder: Path, weights: bool) -> bool:
    tokenizer = (folder / "tokenizer.json").is_file() or all(
        (folder / file).is_file() for file in ("vocab.json", "merges.txt")
    )
    return tokenizer and (not weights or any((folder / file).is_file() for file in WEIGHT_FILES))
