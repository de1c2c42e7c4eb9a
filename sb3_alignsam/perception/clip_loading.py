"""From a CLIP's name or folder to its model and tokenizer: imported weights, a folder, or the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from transformers import CLIPModel, CLIPTokenizer

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.checkpoints import read_state_dict
from sb3_alignsam.perception.clip_files import clip_folder
from sb3_alignsam.perception.clip_prompts import load_tokenizer
from sb3_alignsam.perception.clip_weights import openai_clip, pretrained_clip
from sb3_alignsam.perception.weights import WeightsEntry, how_to_get, is_stored, stored_path, weights_entry

CLIP_NAME = "clip-vit-base-patch16"
"""The manifest's name of the CLIP that CLIP Surgery uses."""


def load_clip(name_or_folder: str | Path) -> tuple[CLIPModel, CLIPTokenizer]:
    """Load model and tokenizer.

    :param name_or_folder: a folder in transformers' format; ``clip-vit-base-patch16`` or
        ``openai/clip-vit-base-patch16``, for which weights and vocabulary that `sb3-alignsam weights` stored are taken
        when both are there; or another name on the Hugging Face hub.
    :raises InputError: a file is missing or damaged, the vocabulary is not CLIP's, or the hub cannot be reached; the
        message says how to get weights that the manifest knows.
    """
    entries = [] if Path(name_or_folder).is_dir() else _entries(str(name_or_folder))
    missing = [entry for entry in entries if not is_stored(entry)]
    if entries and not missing:
        weights, vocabulary = entries
        source, state = read_state_dict(stored_path(weights))
        return openai_clip(state, source), load_tokenizer(stored_path(vocabulary))
    try:
        folder = clip_folder(entries[0].aliases[0] if entries else name_or_folder)
    except InputError as error:
        raise (InputError(f"{error}; or {how_to_get(missing)}") if missing else error) from error
    tokenizer = load_tokenizer(folder)
    return pretrained_clip(folder), tokenizer


def _entries(name: str) -> list[WeightsEntry]:
    """Weights and vocabulary of a name that the manifest has; none for other names."""
    weights, vocabulary = weights_entry(CLIP_NAME), weights_entry("clip-bpe-vocabulary")
    return [weights, vocabulary] if name in (weights.name, *weights.aliases) else []
