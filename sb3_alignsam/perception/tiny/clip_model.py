"""The embedded default CLIP: transformers' `CLIPModel` at a small width behind a convolutional stem, with a tokenizer
of its own."""

from __future__ import annotations

import re

import torch as th
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from sb3_alignsam.datasets.shape_scenes import CATEGORIES
from sb3_alignsam.perception.clip_prompts import PROMPT_TEMPLATES
from sb3_alignsam.perception.tiny.encoder import CHANNELS, IMAGE_SIZE, TinyEncoder

PATCH_SIZE = 16
MAP_SIZE = 320
"""Longest side in pixels for similarity maps, and of the scenes it is trained on. Of 256, 288, 320 and 352 this pointed
best on dev when it was trained at 256."""
VISION_WIDTH = 128
TEXT_WIDTH = 64
DIMENSION = 64
"""Length of a token's and a text's feature."""
CONTEXT = 77
"""Longest text in tokens, as OpenAI's."""
BACKGROUND = "background"
"""What the training captions call the pixels of no object."""


class ConvolutionalStem(nn.Module):
    """Takes the place of a vision transformer's patch embedding, strides of 16 in all.

    A small transformer on raw patches needs far more pictures than one on a few convolutions (Xiao et al., "Early
    Convolutions Help Transformers See Better", NeurIPS 2021).
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = TinyEncoder()
        # Fused before training already: it starts from a trained encoder, and single convolutions train twice as fast.
        self.encoder.eval()
        self.encoder.fuse()
        self.project = nn.Conv2d(CHANNELS, VISION_WIDTH, 2, stride=2)

    def forward(self, pixels: th.Tensor) -> th.Tensor:
        """:param pixels: normalised, (B, 3, H, W), multiples of 16. :return: (B, 128, H/16, W/16)."""
        return self.project(self.encoder(pixels))


def tiny_tokenizer() -> CLIPTokenizer:
    """CLIP's kind of tokenizer: any text can be encoded, words of the training captions mostly as one token."""
    alphabet = sorted(ByteLevel.alphabet())
    words = [*CATEGORIES, BACKGROUND]
    for template in PROMPT_TEMPLATES:
        words += re.findall("[a-z]+", template)
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        letters = [*word[:-1], word[-1] + "</w>"]
        for end in range(1, len(letters)):
            merges["".join(letters[:end]), letters[end]] = None
    symbols = [*alphabet, *(f"{each}</w>" for each in alphabet), *("".join(pair) for pair in merges)]
    # CLIP reads a text's feature at its highest id, so the end of text comes last.
    symbols = [*dict.fromkeys(symbols), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={symbol: index for index, symbol in enumerate(symbols)}, merges=list(merges))


def tiny_clip() -> CLIPModel:
    """1.5 M parameters, not trained: 256-pixel pictures become 16×16 tokens."""
    vocabulary = len(tiny_tokenizer())
    model = CLIPModel(
        CLIPConfig(
            projection_dim=DIMENSION,
            vision_config={**_transformer(VISION_WIDTH, 3, 4), "image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE},
            text_config={
                **_transformer(TEXT_WIDTH, 2, 2),
                "vocab_size": vocabulary,
                "max_position_embeddings": CONTEXT,
                "bos_token_id": vocabulary - 2,
                "eos_token_id": vocabulary - 1,
            },
        )
    )
    model.vision_model.embeddings.patch_embedding = ConvolutionalStem()
    return model


def _transformer(width: int, layers: int, heads: int) -> dict[str, int | str]:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "projection_dim": DIMENSION,
        "hidden_act": "quick_gelu",
    }
