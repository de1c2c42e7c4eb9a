"""RepViT-SAM at full size: timm's RepViT-M2.3 with SAM's neck, and the names of the weights in its checkpoint.

Wang et al., "RepViT-SAM: Towards Real-Time Segmenting Anything", 2023; upstream is `sam/` of THU-MIG/RepViT.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import timm
import torch as th
from timm.layers import LayerNorm2d
from torch import nn

from sb3_alignsam.perception.decoder import ClickDecoder

IMAGE_SIZE = 1024
EMBEDDING_SIZE = 64
CHANNELS = 256
DEPTH = (6, 6, 34, 2)
"""Blocks of each stage of RepViT-M2.3, those of the downsampling layers not counted."""


class RepvitEncoder(nn.Module):
    """RepViT-M2.3 whose last stage keeps its resolution, for a stride of 16, and SAM's neck; 23 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = timm.create_model("repvit_m2_3", pretrained=False, num_classes=0)
        # timm refuses output_stride for RepViT; the convolution's weights are the same at either stride.
        self.backbone.stages[3].downsample.spatial_downsample.c.stride = (1, 1)
        self.neck = nn.Sequential(
            nn.Conv2d(self.backbone.num_features, CHANNELS, 1, bias=False),
            LayerNorm2d(CHANNELS, eps=1e-6),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
            LayerNorm2d(CHANNELS, eps=1e-6),
        )

    def forward(self, pixels: th.Tensor) -> th.Tensor:
        """:param pixels: normalised, (B, 3, 1024, 1024). :return: image embeddings, (B, 256, 64, 64)."""
        return self.neck(self.backbone.forward_features(pixels))

    def fuse(self) -> None:
        """Fold BatchNorms and parallel branches into single convolutions; for inference only."""
        self.backbone.fuse()


class RepvitSam(nn.Module):
    """Encoder and click decoder of RepViT-SAM, 27 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = RepvitEncoder()
        self.decoder = ClickDecoder.of_size(CHANNELS, EMBEDDING_SIZE, IMAGE_SIZE)


def upstream_key(key: str) -> str:
    """Upstream's name of a parameter or buffer of `RepvitSam`.

    Every name of upstream's has its counterpart, so none is left over: also the embeddings of box corners and the
    BatchNorms' counters, which clicks and inference never read. Mean and standard deviation of the pixels are no part
    of the checkpoint.
    """
    names = _upstream_modules()
    module = key
    while module not in names:
        module = module.rpartition(".")[0]
    return names[module] + key[len(module) :]


@cache
def _upstream_modules() -> dict[str, str]:
    """Upstream's name by ours, for each module or parameter below which the two agree."""
    return dict([*_backbone_names(), *_prompt_names(), *_decoder_names(), ("encoder.neck", "image_encoder.neck")])


def _backbone_names() -> Iterator[tuple[str, str]]:
    """Upstream numbers stem, blocks and downsampling layers through; timm has stages."""
    ours, theirs = "encoder.backbone", "image_encoder.features"
    yield f"{ours}.stem.conv1", f"{theirs}.0.0"
    yield f"{ours}.stem.conv2", f"{theirs}.0.2"
    index = 1
    for stage, depth in enumerate(DEPTH):
        if stage:
            down = f"{ours}.stages.{stage}.downsample"
            yield from _block_names(f"{down}.pre_block", f"{theirs}.{index}")
            yield f"{down}.spatial_downsample", f"{theirs}.{index + 1}.token_mixer.0"
            yield f"{down}.channel_downsample", f"{theirs}.{index + 1}.token_mixer.2"
            yield from _mixer_names(f"{down}.ffn", f"{theirs}.{index + 1}")
            index += 2
        for block in range(depth):
            yield from _block_names(f"{ours}.stages.{stage}.blocks.{block}", f"{theirs}.{index}")
            index += 1


def _block_names(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.token_mixer", f"{theirs}.token_mixer.0"
    yield f"{ours}.se", f"{theirs}.token_mixer.1"
    yield from _mixer_names(f"{ours}.channel_mixer", theirs)


def _mixer_names(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.conv1", f"{theirs}.channel_mixer.m.0"
    yield f"{ours}.conv2", f"{theirs}.channel_mixer.m.2"


def _prompt_names() -> Iterator[tuple[str, str]]:
    """Names of transformers' prompt encoder and of Segment Anything's."""
    ours, theirs = "decoder.prompt_encoder", "prompt_encoder"
    yield f"{ours}.shared_embedding.positional_embedding", f"{theirs}.pe_layer.positional_encoding_gaussian_matrix"
    yield f"{ours}.point_embed", f"{theirs}.point_embeddings"
    for same in ("not_a_point_embed", "no_mask_embed"):
        yield f"{ours}.{same}", f"{theirs}.{same}"
    for layer, index in {"conv1": 0, "layer_norm1": 1, "conv2": 3, "layer_norm2": 4, "conv3": 6}.items():
        yield f"{ours}.mask_embed.{layer}", f"{theirs}.mask_downscaling.{index}"


def _decoder_names() -> Iterator[tuple[str, str]]:
    """Names of transformers' mask decoder and of Segment Anything's."""
    ours, theirs = "decoder.mask_decoder", "mask_decoder"
    for same in ("iou_token", "mask_tokens", "transformer"):
        yield f"{ours}.{same}", f"{theirs}.{same}"
    yield f"{ours}.transformer.layer_norm_final_attn", f"{theirs}.transformer.norm_final_attn"
    for block in ("transformer.layers.0", "transformer.layers.1"):
        for norm in range(1, 5):
            yield f"{ours}.{block}.layer_norm{norm}", f"{theirs}.{block}.norm{norm}"
    for layer, index in {"upscale_conv1": 0, "upscale_layer_norm": 1, "upscale_conv2": 3}.items():
        yield f"{ours}.{layer}", f"{theirs}.output_upscaling.{index}"
    for mlp in ("iou_prediction_head", *(f"output_hypernetworks_mlps.{mask}" for mask in range(4))):
        for mine, index in {"proj_in": 0, "layers.0": 1, "proj_out": 2}.items():
            yield f"{ours}.{mlp}.{mine}", f"{theirs}.{mlp}.layers.{index}"
