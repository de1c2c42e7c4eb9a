"""Any SAM in transformers' format, such as ``facebook/sam-vit-base``, behind the one interface to segmenters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from torch import nn
from transformers import SamConfig, SamModel
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.checkpoints import StateDict, first_line, load_strict, read_state_dict
from sb3_alignsam.perception.decoder import LAYER_NORM_EPS, ClickDecoder
from sb3_alignsam.perception.hub_files import (
    UNBUILDABLE,
    WEIGHT_FILES,
    model_folder,
    read_config,
    read_json,
    weight_file,
)
from sb3_alignsam.perception.segmenter import Segmenter
from sb3_alignsam.perception.tiny.model import PIXEL_MEAN, PIXEL_STD

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
"""Where mean and standard deviation of the pixels stand; the first is what transformers 5 writes, and reads first."""
SHARED_ENCODING = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
"""One tensor under two names: a .safetensors file holds one of them, a .bin file both."""


class SamImageEncoder(nn.Module):
    """transformers' ViT and neck, from normalised pixels (B, 3, S, S) to the bare embeddings (B, C, h, w)."""

    def __init__(self, vision_encoder: SamVisionEncoder) -> None:
        super().__init__()
        self.vision_encoder = vision_encoder

    def forward(self, pixels: th.Tensor) -> th.Tensor:
        """:param pixels: (B, 3, S, S). :return: (B, C, h, w)."""
        return self.vision_encoder(pixels, return_dict=True).last_hidden_state


def pretrained_sam(name_or_folder: str, device: str | th.device = "cpu", dtype: th.dtype = th.float32) -> Segmenter:
    """Load a SAM in transformers' format.

    :param name_or_folder: a folder with ``config.json`` and ``model.safetensors`` (or ``pytorch_model.bin``, of which
        nothing but tensors is unpickled), or a name on the Hugging Face hub.
    :param device: where it runs. :param dtype: its floating-point type.
    :raises InputError: a file is missing or damaged, or belongs to another network.
    """
    wanted = "config.json and model.safetensors"
    folder = model_folder(name_or_folder, "segmenter", ("config.json", *PROCESSOR_FILES), _complete, wanted)
    config = _read_config(folder / "config.json")
    source, state = read_state_dict(weight_file(folder))
    try:
        model = SamModel(config)
    except UNBUILDABLE as error:
        raise InputError(f"{folder / 'config.json'} describes no SAM: {first_line(error)}") from error
    load_strict(model, _with_both_encodings(state, source), source, f"segmenter '{name_or_folder}'")
    mean, std = _pixel_statistics(folder, config.vision_config.image_size)
    side = config.prompt_encoder_config.image_embedding_size
    return Segmenter(
        name_or_folder,
        SamImageEncoder(model.vision_encoder),
        ClickDecoder(model.prompt_encoder, model.mask_decoder),
        image_size=config.vision_config.image_size,
        embedding_shape=(config.vision_config.output_channels, side, side),
        pixel_mean=mean,
        pixel_std=std,
        device=device,
        dtype=dtype,
    )


def _complete(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any((folder / file).is_file() for file in WEIGHT_FILES)


def _read_config(path: Path) -> SamConfig:
    values = read_config(path, "sam", "SAM")
    try:
        config = SamConfig.from_dict(values)
        fault = _fault(config)
    except UNBUILDABLE as error:
        raise InputError(f"{path} describes no SAM: {first_line(error)}") from error
    if fault:
        raise InputError(f"{path} describes no SAM that clicks can be used with: {fault}")
    config._attn_implementation = "sdpa"
    decoder = config.mask_decoder_config
    if decoder.layer_norm_eps == SamMaskDecoderConfig().layer_norm_eps:
        # transformers' default, which its conversions of SAM carry too; the weights were trained with SAM's own.
        decoder.layer_norm_eps = LAYER_NORM_EPS
    return config


def _fault(config: SamConfig) -> str:
    """What does not fit together, in words; the empty text for nothing."""
    vision, prompt, decoder = config.vision_config, config.prompt_encoder_config, config.mask_decoder_config
    side, patch = vision.image_size, vision.patch_size
    if not isinstance(side, int) or not isinstance(patch, int) or patch < 1 or side < patch or side % patch:
        return f"an image of {side} pixels is no square of patches of {patch} pixels"
    grid = (prompt.image_size, prompt.image_embedding_size)
    if grid != (side, side // patch):
        return (
            f"its image encoder takes {side} pixels to {side // patch} cells, its prompt encoder {grid[0]} to {grid[1]}"
        )
    widths = (vision.output_channels, prompt.hidden_size, decoder.hidden_size, 2 * vision.num_pos_feats)
    if len(set(widths)) > 1:
        return f"image embedding, prompts, mask decoder and positional encoding have widths {widths}"
    if vision.num_channels != 3 or decoder.num_multimask_outputs != 3 or prompt.num_point_embeddings < 2:
        return "it has not 3 channels of colour, 3 candidate masks and 2 kinds of clicks"
    return ""


def _with_both_encodings(state: StateDict, source: str) -> StateDict:
    """The state dict with the positional encoding under both of its names."""
    found = [state[key] for key in SHARED_ENCODING if key in state]
    if len(found) == 2 and not th.equal(found[0], found[1]):
        raise InputError(f"{source} holds two different positional encodings: {' and '.join(SHARED_ENCODING)}")
    return {**state, **{key: found[0] for key in SHARED_ENCODING if found}}


def _pixel_statistics(folder: Path, image_size: int) -> tuple[list[float], list[float]]:
    """RGB mean and standard deviation in 0..255; SAM's where the folder does not name them."""
    path, values = _processor(folder)
    try:
        longest = dict(values.get("size") or {}).get("longest_edge", image_size)
        scale = float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1.0
        mean, std = np.zeros(3), np.ones(3)
        if values.get("do_normalize", True):
            mean = np.asarray(values.get("image_mean", np.asarray(PIXEL_MEAN) / 255), float)
            std = np.asarray(values.get("image_std", np.asarray(PIXEL_STD) / 255), float)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} cannot be used: {first_line(error)}") from error
    if mean.shape != (3,) or std.shape != (3,) or not np.isfinite([mean, std]).all() or std.min() <= 0:
        raise InputError(f"{path} cannot be used: image_mean and image_std need three numbers each, image_std above 0")
    if not 0 < scale < np.inf:
        raise InputError(f"{path} cannot be used: rescale_factor needs a number above 0, got {scale}")
    if longest != image_size:
        raise InputError(f"{path} scales images to {longest} pixels, but the image encoder takes {image_size}")
    return (mean / scale).tolist(), (std / scale).tolist()


def _processor(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file that describes the preprocessing, and what it says; an empty mapping where there is none."""
    for file in PROCESSOR_FILES:
        values = read_json(folder / file)
        if values is not None and file == "processor_config.json":
            values = values.get("image_processor")
        if isinstance(values, dict):
            return folder / file, values
    return folder, {}
