"""CLIP Surgery: a CLIP whose image tokens can be compared with texts, one similarity map per text.

Li et al., "A Closer Look at the Explainability of Contrastive Language-Image Pre-training", 2023: their
architecture surgery (`ClipSurgery.image_tokens`) and feature surgery (`ClipSurgery.surgery`). No weight is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTokenizer

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.checkpoints import StateDict, read_state_dict
from sb3_alignsam.perception.clip_loading import load_clip
from sb3_alignsam.perception.clip_prompts import PROMPT_TEMPLATES, tokenize
from sb3_alignsam.perception.clip_weights import openai_clip
from sb3_alignsam.perception.fingerprints import fingerprint

SURGERY_BLOCKS = 6
"""The last blocks of the image encoder that get a second path; all blocks where there are fewer."""
PROMPTS_KEPT = 10_000
"""Names whose text features are kept, more than any vocabulary has; with ViT-B/16, 20 MB."""
MAP_SIZE = 512
"""Longest side in pixels at which photographs are looked at, as in CLIP Surgery's own demonstration."""


class ClipSurgery:
    """A frozen CLIP with the second path of CLIP Surgery. It never trains; of calls it keeps categories' features only.

    :param model: transformers' CLIP with a vision transformer.
    :param tokenizer: CLIP's tokenizer; without one texts are given as token ids.
    :param device: where it runs. :param dtype: floating-point type of its weights and activations.
    :param map_size: longest side in pixels to which a photograph is scaled for its similarity maps, rounded to whole
        patches.
    :raises InputError: model and tokenizer have vocabularies of different sizes.
    """

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: CLIPTokenizer | None = None,
        *,
        device: str | th.device = "cpu",
        dtype: th.dtype = th.float32,
        map_size: int = MAP_SIZE,
    ) -> None:
        text = model.config.text_config
        if tokenizer is not None and len(tokenizer) != text.vocab_size:
            raise InputError(f"CLIP's tokenizer has {len(tokenizer)} entries, its text model {text.vocab_size}")
        self.device = th.device(device)
        self.dtype = dtype
        self.patch_size: int = model.config.vision_config.patch_size
        # Whole patches: cells of a map must be pieces of SAM's square.
        self.map_size = max(round(map_size / self.patch_size), 1) * self.patch_size
        self.context_length: int = text.max_position_embeddings
        # Convolutions of the tiny CLIP's stem take three quarters of the time in this layout.
        layout = th.channels_last
        self._model = model.eval().requires_grad_(False).to(self.device, dtype, memory_format=layout)
        self._tokenizer = tokenizer
        self._prompted: dict[tuple[str, ...], th.Tensor] = {}

    @classmethod
    def from_openai_state_dict(
        cls,
        state_dict: StateDict,
        *,
        tokenizer: CLIPTokenizer | None = None,
        device: str | th.device = "cpu",
        dtype: th.dtype = th.float32,
    ) -> ClipSurgery:
        """Take a vision transformer's weights by the names of OpenAI's own code.

        Sizes follow from the shapes; the activation is OpenAI's quick GELU.

        :param state_dict: tensors or arrays by OpenAI's names.
        :param tokenizer: from `load_tokenizer`; a state dict has none.
        :raises InputError: a key is missing, unexpected or of another shape; the message names the first.
        """
        source, state = read_state_dict(state_dict)
        return cls(openai_clip(state, source), tokenizer, device=device, dtype=dtype)

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path, *, device: str | th.device = "cpu", dtype: th.dtype = th.float32
    ) -> ClipSurgery:
        """Load model and tokenizer.

        :param name_or_folder: a folder in transformers' format, or a name as `load_clip` takes it, such as
            ``openai/clip-vit-base-patch16``.
        :raises InputError: a file is missing or damaged, or the tokenizer's vocabulary is not CLIP's.
        """
        return cls(*load_clip(name_or_folder), device=device, dtype=dtype)

    @property
    def model(self) -> CLIPModel:
        """transformers' CLIP; for export. It is not to be changed."""
        return self._model

    @property
    def size_bytes(self) -> int:
        """Bytes of its weights."""
        return sum(each.numel() * each.element_size() for each in self._model.parameters())

    @cached_property
    def fingerprint(self) -> str:
        """Names what decides tokens and text features: both networks, their weights, the surgery and the vocabulary.

        The same on every device. A photograph's `map_size` and a text's sentences are no part of it.
        """
        words = None if self._tokenizer is None else sorted(self._tokenizer.get_vocab().items())
        return fingerprint(self._model, SURGERY_BLOCKS, words, str(self.dtype))

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 over all its weights; the same on every device."""
        return fingerprint(self._model.state_dict())

    @th.inference_mode()
    def image_tokens(self, pixel_values: th.Tensor) -> th.Tensor:
        """Encode images; CLS comes from the untouched path, the patches from the path of value-value attention.

        :param pixel_values: normalised as CLIP asks, (B, 3, H, W), H and W multiples of the patch size, any grid.
        :return: tokens of unit length, CLS first, patches row-major, (B, 1+N, D) float32.
        :raises ValueError: the shape is another.
        """
        shape = tuple(pixel_values.shape)
        if len(shape) != 4 or shape[1] != 3 or any(not side or side % self.patch_size for side in shape[2:]):
            raise ValueError(f"pixel values are (B, 3, H, W), H and W multiples of {self.patch_size}; got {shape}")
        return dual_path_tokens(self._model, pixel_values.to(self.device, self.dtype))

    @th.inference_mode()
    def text_features(self, token_ids: th.Tensor) -> th.Tensor:
        """Encode texts.

        :param token_ids: (T, L) integers, L at most the context length; the end of text is the highest id, as in CLIP.
        :return: features of unit length, (T, D) float32.
        """
        return encode_texts(self._model, token_ids.to(self.device, th.int64))

    def ensemble_features(self, token_ids: th.Tensor) -> th.Tensor:
        """Average the features of several sentences on each category.

        :param token_ids: P sentences on each of T categories, (T, P, L) integers.
        :return: features of unit length, (T, D) float32.
        """
        # One category at a time: its features do not depend on what else is asked, and memory stays small.
        means = [self.text_features(sentences).mean(dim=0) for sentences in token_ids]
        return F.normalize(th.stack(means), dim=-1)

    def prompt_features(self, names: Sequence[str], templates: Sequence[str] = PROMPT_TEMPLATES) -> th.Tensor:
        """Text features of category names, averaged over sentences.

        :param names: T of them, at least one; the empty name gives what all texts share, the `redundant` of `surgery`.
        :param templates: sentences with ``{}`` for the name.
        :return: features of unit length, (T, D) float32.
        :raises InputError: there is no tokenizer, or a name is too long.
        """
        known = self._prompted
        if len(known) > PROMPTS_KEPT:  # A server may be asked for ever new names.
            known.clear()
        for name in names:
            if (name, *templates) not in known:  # many environments ask one text model for the same names
                ids = self.token_ids([sentence.format(name) for sentence in templates])
                known[name, *templates] = self.ensemble_features(ids[None])[0]
        return th.stack([known[name, *templates] for name in names])

    def token_ids(self, texts: Sequence[str]) -> th.Tensor:
        """Token ids of texts, padded with zeros, (T, context length) int64.

        :raises InputError: there is no tokenizer, or a text is too long.
        """
        if self._tokenizer is None:
            raise InputError("this CLIP has no tokenizer: load it from a folder or name with tokenizer files")
        return tokenize(self._tokenizer, texts, self.context_length)

    @staticmethod
    def surgery(tokens: th.Tensor, texts: th.Tensor, redundant: th.Tensor | None = None) -> th.Tensor:
        """Similarity of image tokens and texts without what all texts share (feature surgery).

        Without `redundant`, S = w·(F·Tᵀ) less its mean over the texts, where w is how much likelier than the average
        the CLS token finds each text; the sum over channels is taken first, which is the same and needs D times less
        memory. The scores of one text depend on the others, and with a single text all are 0: give `redundant` then.

        :param tokens: of unit length, CLS first, (B, 1+N, D). :param texts: of unit length, (T, D).
        :param redundant: features to subtract from each text instead, as those of the empty name, (1, D) or (T, D).
        :return: (B, 1+N, T).
        """
        if redundant is not None:
            return tokens @ (texts - redundant).T
        similarity = tokens @ texts.T
        weight = (2 * similarity[:, :1]).softmax(dim=-1) * len(texts)
        weighted = weight * similarity
        return weighted - weighted.mean(dim=-1, keepdim=True)

    @staticmethod
    def similarity_map(scores: th.Tensor, size: tuple[int, int]) -> th.Tensor:
        """Stretch each map to 0..1 and enlarge it bilinearly.

        :param scores: of patches only, row-major on a square grid, (B, N, T).
        :param size: H, W of the map in pixels.
        :return: (B, H, W, T) in 0..1; a constant map gives zeros.
        :raises ValueError: N is no square.
        """
        side = _side(scores.shape[1])
        grid = stretch(scores).transpose(1, 2).unflatten(2, (side, side))
        return F.interpolate(grid, size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)

    @staticmethod
    def points(
        scores: th.Tensor, size: tuple[float, float], threshold: float = 0.8, grid: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Clicks for SAM from one map, at the centres of cells of the grid halved bilinearly.

        As many positive as negative ones: n = min(cells at or above `threshold` of the stretched map, cells // 2).

        :param scores: of patches only, row-major, (N,).
        :param size: H, W in pixels of what the grid covers.
        :param threshold: in 0..1.
        :param grid: rows and columns; None: as many of one as of the other.
        :return: x, y in pixels, (2n, 2) int64, the n highest in ascending order, then the n lowest; labels, (2n,)
            uint8, 1 for the first n and 0 for the rest. A constant map gives no clicks.
        :raises ValueError: N is no square and no grid is given.
        """
        side = grid or (_side(len(scores)), _side(len(scores)))
        rows, columns = (max(length // 2, 1) for length in side)
        halved = F.interpolate(scores.float().reshape(1, 1, *side), (rows, columns), mode="bilinear")
        cells = stretch(halved.reshape(1, -1, 1)).flatten()
        count = min(int((cells >= threshold).sum()), len(cells) // 2)
        order = cells.argsort(stable=True)
        chosen = th.cat([order[len(cells) - count :], order[:count]])
        # In float32, as upstream: a coordinate that is a whole number must fall on the same side of it.
        x = ((chosen % columns + 0.5) * (size[1] / columns)).clamp(max=size[1] - 1)
        y = ((chosen // columns + 0.5) * (size[0] / rows)).clamp(max=size[0] - 1)
        labels = np.repeat(np.array([1, 0], np.uint8), count)
        return th.stack([x, y], dim=1).long().cpu().numpy(), labels


def dual_path_tokens(model: CLIPModel, pixels: th.Tensor) -> th.Tensor:
    """Tokens of both paths, as `ClipSurgery.image_tokens` returns them; with gradient, for training.

    :param pixels: normalised, (B, 3, H, W), of the model's type and device. :return: (B, 1+N, D) float32.
    """
    vision = model.vision_model
    surgical = vision.pre_layrnorm(_embed(vision.embeddings, pixels))
    start = max(len(vision.encoder.layers) - SURGERY_BLOCKS, 0)
    for layer in vision.encoder.layers[:start]:
        surgical = layer(surgical, None)
    untouched = surgical
    *layers, last = vision.encoder.layers[start:]
    for layer in layers:
        surgical, untouched = _dual_block(layer, surgical, untouched)
    # Of what the untouched path says in the end, CLS alone is asked for.
    surgical, untouched = _dual_block(last, surgical, untouched, slice(1))
    tokens = vision.post_layernorm(th.cat([untouched, surgical[:, 1:]], dim=1))
    return F.normalize(model.visual_projection(tokens).float(), dim=-1)


def encode_texts(model: CLIPModel, token_ids: th.Tensor) -> th.Tensor:
    """Features of texts, as `ClipSurgery.text_features` returns them; with gradient, for training.

    :param token_ids: (T, L) int64 on the model's device. :return: of unit length, (T, D) float32.
    """
    # Attention is causal, so nothing behind a text's end can change its feature: most of 77 columns are left out.
    used = int(token_ids.argmax(dim=-1).max()) + 1
    text = model.text_model(token_ids[:, :used])
    return F.normalize(model.text_projection(text.pooler_output).float(), dim=-1)


def _embed(embeddings: Any, pixels: th.Tensor) -> th.Tensor:
    """Patch embeddings with CLS first and positions added, (B, 1+N, W).

    Positions are interpolated for this call (bilinear, as in CLIP Surgery; transformers' own way is bicubic): the table
    stays as it is, so that a result does not depend on the sizes of images before.
    """
    patches = embeddings.patch_embedding(pixels)
    table = embeddings.position_embedding.weight
    side = isqrt(len(table) - 1)
    positions = table[1:].T.unflatten(1, (side, side))[None]
    # Also where the sizes are the same, and nothing changes: an exported graph takes all of them.
    positions = F.interpolate(positions, patches.shape[-2:], mode="bilinear", align_corners=False)
    cls = (embeddings.class_embedding + table[0]).expand(patches.shape[0], 1, -1)
    return th.cat([cls, (patches + positions).flatten(2).transpose(1, 2)], dim=1)


def _dual_block(
    layer: Any, surgical: th.Tensor, untouched: th.Tensor, kept: slice = slice(None)
) -> tuple[th.Tensor, th.Tensor]:
    """One block of both paths, each (B, 1+N, W): both attend to the untouched path's values, only that has the MLP.

    :param kept: which tokens of the untouched path are computed.
    """
    attention = layer.self_attn
    normed = layer.layer_norm1(untouched)
    query, key, value = (
        project(tokens).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for project, tokens in (
            (attention.q_proj, normed[:, kept]),
            (attention.k_proj, normed),
            (attention.v_proj, normed),
        )
    )
    surgical = surgical + _attend(attention.out_proj, value, value, value)
    untouched = untouched[:, kept] + _attend(attention.out_proj, query, key, value)
    return surgical, untouched + layer.mlp(layer.layer_norm2(untouched))


def _attend(out_proj: Any, query: th.Tensor, key: th.Tensor, value: th.Tensor) -> th.Tensor:
    return out_proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


def stretch(scores: th.Tensor) -> th.Tensor:
    """Map each column of (B, N, T) linearly to 0..1; a constant column to zeros."""
    lowest, highest = scores.amin(dim=1, keepdim=True), scores.amax(dim=1, keepdim=True)
    spread = highest - lowest
    return (scores - lowest) / spread.where(spread > 0, 1)


def _side(cells: int) -> int:
    side = isqrt(cells)
    if not side or side**2 != cells:
        raise ValueError(f"scores are of patches on a square grid, without CLS; got {cells}")
    return side
