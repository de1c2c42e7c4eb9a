"""A small SAM of transformers', and how a file of it is changed."""

from __future__ import annotations

import json

import torch as th
from transformers import SamConfig, SamModel

SIDE = 96


def small_sam(**decoder):
    """A SAM for 96-pixel images with 6×6 patches, weights of a size that lets prompts matter."""
    config = SamConfig(
        vision_config={
            "hidden_size": 32, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_pos_feats": 16, "image_size": SIDE, "window_size": 4, "global_attn_indexes": [1], "mlp_dim": 64,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": SIDE},
        mask_decoder_config={
            "hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 4, "iou_head_hidden_dim": 32, **decoder,
        },
    )  # fmt: skip
    model = SamModel(config).eval()
    generator = th.Generator().manual_seed(0)
    with th.no_grad():
        for parameter in model.parameters():
            drawn = th.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 1 + 0.1 * drawn)
    return model


def edit_json(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
