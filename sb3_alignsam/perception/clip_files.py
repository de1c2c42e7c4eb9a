"""Where a CLIP in transformers' format lies, with its tokenizer."""

from __future__ import annotations

from pathlib import Path

from sb3_alignsam.perception.hub_files import WEIGHT_FILES, model_folder

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


def clip_folder(name_or_folder: str | Path, weights: bool = True) -> Path:
    """The folder of a model's files; a name on the hub is fetched when it is not in the cache yet.

    :param name_or_folder: a folder, taken as it is, or a name on the hub.
    :param weights: the weights are needed, and not only the tokenizer.
    :raises InputError: there is neither such a folder nor such a name, or the hub cannot be reached.
    """

    def complete(folder: Path) -> bool:
        return _has_tokenizer(folder) and (not weights or any((folder / file).is_file() for file in WEIGHT_FILES))

    return model_folder(
        name_or_folder,
        "CLIP",
        ("config.json", *TOKENIZER_FILES),
        complete,
        "config.json, model.safetensors, vocab.json and merges.txt",
        weights,
    )


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or all(
        (folder / file).is_file() for file in ("vocab.json", "merges.txt")
    )
