"""From category names to CLIP's token ids: the prompt ensemble and the tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch as th
from transformers import CLIPTokenizer

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.checkpoints import first_line
from sb3_alignsam.perception.clip_files import TOKENIZER_FILES, clip_folder

VOCABULARY = 49_408
"""Entries of CLIP's vocabulary: 256 bytes, each also as a word's end, 48,894 merges, start and end of text."""

PROMPT_TEMPLATES = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)
"""The sentences over which a category's text features are averaged, as CLIP Surgery does.

The 80 sentences for ImageNet of OpenAI's CLIP (notebook `Prompt_Engineering_for_ImageNet`), in their order, and five
about a scene that CLIP Surgery adds (`clip/clip.py`, `encode_text_with_prompt_ensemble`).
"""


def load_tokenizer(name_or_folder: str | Path) -> CLIPTokenizer:
    """Load CLIP's tokenizer.

    :param name_or_folder: a folder with ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``, or a name on the
        Hugging Face hub.
    :raises InputError: the files are missing or damaged, or the vocabulary is not CLIP's.
    """
    folder = clip_folder(name_or_folder, weights=False)
    needed = "the tokenizer needs tokenizer.json, or vocab.json and merges.txt"
    try:
        for file in folder.iterdir():
            # Read here first: on damaged JSON the tokenizers library raises a bare Exception.
            if file.name in TOKENIZER_FILES and file.suffix == ".json":
                json.loads(file.read_bytes())
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(f"CLIP '{folder}': the tokenizer cannot be read: {first_line(error)}") from error
    # Without files transformers returns a tokenizer of two entries and no error.
    if len(tokenizer) != VOCABULARY:
        raise InputError(f"CLIP '{folder}': {len(tokenizer)} tokens instead of {VOCABULARY}; {needed}")
    return tokenizer


def tokenize(tokenizer: CLIPTokenizer, texts: Sequence[str], context: int) -> th.Tensor:
    """Token ids as OpenAI's `clip.tokenize` lays them: start of text, words, end of text, zeros.

    :param texts: T of them. :param context: the model's longest text in tokens, 77 for OpenAI's.
    :return: (T, context) int64.
    :raises InputError: a text is longer than the model can read.
    """
    ids = th.zeros(len(texts), context, dtype=th.int64)
    for row, tokens in enumerate(tokenizer(list(texts)).input_ids if texts else ()):
        if len(tokens) > context:
            raise InputError(f"text '{texts[row][:60]}' is too long for CLIP: {len(tokens)} tokens, {context} at most")
        ids[row, : len(tokens)] = th.tensor(tokens)
    return ids
