"""CLIP's weights: OpenAI's own state dict under transformers' names, or a model in transformers' format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isqrt
from pathlib import Path

import torch as th
from transformers import CLIPConfig, CLIPModel

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.checkpoints import StateDict, first_line, load_strict, read_state_dict
from sb3_alignsam.perception.hub_files import UNBUILDABLE, read_config, weight_file

HEAD_WIDTH = 64
"""OpenAI's code has one attention head for every 64 channels; no checkpoint stores the number (`clip/model.py`)."""
NO_WEIGHTS = frozenset({"input_resolution", "context_length", "vocab_size"})
"""Sizes that OpenAI's published archives carry beside the weights; the same follow from the weights' shapes."""
TRANSPOSED = frozenset({"visual.proj", "text_projection"})
"""OpenAI multiplies by these from the right, transformers keeps them as linear layers."""
BLOCK_NAMES = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def openai_clip(state: StateDict, source: str) -> CLIPModel:
    """Build transformers' model from OpenAI's state dict of a vision transformer; all sizes follow from the shapes.

    :param state: tensors by OpenAI's names, of any floating-point type; they are copied as float32.
    :param source: what messages call the state dict.
    :raises InputError: a key is missing, unexpected or of another shape; the message names the first.
    """
    model = CLIPModel(_config(state, source))
    own = model.state_dict()
    names = openai_names(_depth(state, "visual.transformer", source), _depth(state, "transformer", source))
    shapes = {theirs: _openai_shape(theirs, [own[name].shape for name in ours]) for theirs, ours in names.items()}
    faults = [f"'{key}' is missing" for key in names if key not in state]
    faults += [f"'{key}' is not expected" for key in state if key not in names and key not in NO_WEIGHTS]
    faults += [
        f"'{key}' has shape {tuple(state[key].shape)}, not {shape}"
        for key, shape in shapes.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise InputError(f"{source} does not hold the weights of an OpenAI CLIP: {faults[0]}{more}")
    model.load_state_dict({name: value for key in names for name, value in _parts(key, names[key], state[key])})
    return model


def pretrained_clip(folder: Path) -> CLIPModel:
    """Load a model in transformers' format, float32.

    :param folder: with ``config.json`` and ``model.safetensors`` (or ``pytorch_model.bin``, of which nothing but
        tensors is unpickled).
    :raises InputError: a file is missing or damaged, or belongs to another network.
    """
    path = folder / "config.json"
    values = read_config(path, "clip", "CLIP")
    try:
        # Not from_pretrained: it draws weights that it does not find, and prints pages where shapes differ.
        config = CLIPConfig.from_dict(values)
        config._attn_implementation = "sdpa"
        model = CLIPModel(config)
    except UNBUILDABLE as error:
        raise InputError(f"{path} describes no CLIP: {first_line(error)}") from error
    source, state = read_state_dict(weight_file(folder))
    # Older checkpoints hold their positions' numbers too, which are no weights.
    weights = {key: value for key, value in state.items() if not key.endswith(".position_ids")}
    load_strict(model, weights, source, f"CLIP '{folder}'")
    return model


def openai_names(vision_layers: int, text_layers: int) -> dict[str, tuple[str, ...]]:
    """transformers' names for each key of OpenAI's; where there are several, the rows are divided evenly among them."""
    names: dict[str, tuple[str, ...]] = {
        "logit_scale": ("logit_scale",),
        "text_projection": ("text_projection.weight",),
        "token_embedding.weight": ("text_model.embeddings.token_embedding.weight",),
        "positional_embedding": ("text_model.embeddings.position_embedding.weight",),
        "visual.proj": ("visual_projection.weight",),
        "visual.conv1.weight": ("vision_model.embeddings.patch_embedding.weight",),
        "visual.class_embedding": ("vision_model.embeddings.class_embedding",),
        "visual.positional_embedding": ("vision_model.embeddings.position_embedding.weight",),
    }
    modules = [
        ("visual.ln_pre", "vision_model.pre_layrnorm"),
        ("visual.ln_post", "vision_model.post_layernorm"),
        ("ln_final", "text_model.final_layer_norm"),
    ]
    for tower, ours, layers in (("visual.", "vision_model", vision_layers), ("", "text_model", text_layers)):
        for layer in range(layers):
            theirs, block = f"{tower}transformer.resblocks.{layer}", f"{ours}.encoder.layers.{layer}"
            modules += [(f"{theirs}.{each}", f"{block}.{name}") for each, name in BLOCK_NAMES.items()]
            for kind in ("weight", "bias"):
                names[f"{theirs}.attn.in_proj_{kind}"] = tuple(f"{block}.self_attn.{p}_proj.{kind}" for p in "qkv")
    for theirs, ours in modules:
        names |= {f"{theirs}.{kind}": (f"{ours}.{kind}",) for kind in ("weight", "bias")}
    return names


def _config(state: StateDict, source: str) -> CLIPConfig:
    width, _, patch, _ = _shape(state, "visual.conv1.weight", 4, source)
    positions, _ = _shape(state, "visual.positional_embedding", 2, source)
    text_width, dimension = _shape(state, "text_projection", 2, source)
    vocabulary, _ = _shape(state, "token_embedding.weight", 2, source)
    context, _ = _shape(state, "positional_embedding", 2, source)
    side = isqrt(max(positions - 1, 0))
    if not side or side**2 != positions - 1:
        raise InputError(f"{source}: 'visual.positional_embedding' has {positions} rows, not 1 and a square")
    return CLIPConfig(
        projection_dim=dimension,
        vision_config={
            **_transformer(width, _depth(state, "visual.transformer", source), dimension, source),
            "image_size": side * patch,
            "patch_size": patch,
        },
        text_config={
            **_transformer(text_width, _depth(state, "transformer", source), dimension, source),
            "vocab_size": vocabulary,
            "max_position_embeddings": context,
            # OpenAI reads a text's feature at the token of the highest id, the last of the vocabulary.
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
        },
    )


def _transformer(width: int, depth: int, dimension: int, source: str) -> dict[str, int | str]:
    if not width or width % HEAD_WIDTH:
        raise InputError(f"{source}: a CLIP of width {width} has no whole number of heads of {HEAD_WIDTH} channels")
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": depth,
        "num_attention_heads": width // HEAD_WIDTH,
        "projection_dim": dimension,
        "hidden_act": "quick_gelu",
    }


def _shape(state: StateDict, key: str, dimensions: int, source: str) -> tuple[int, ...]:
    if key not in state:
        raise InputError(f"{source} does not hold the weights of an OpenAI vision transformer: '{key}' is missing")
    shape = tuple(state[key].shape)
    if len(shape) != dimensions:
        raise InputError(f"{source}: '{key}' has shape {shape}, not {dimensions} dimensions")
    return shape


def _depth(state: StateDict, transformer: str, source: str) -> int:
    pattern = re.compile(re.escape(transformer) + r"\.resblocks\.(\d+)\.")
    blocks = {int(match[1]) for match in map(pattern.match, state) if match}
    if not blocks:
        raise InputError(
            f"{source} does not hold the weights of an OpenAI vision transformer: '{transformer}.resblocks' is missing"
        )
    # Not the highest index: a stray one would ask for a network of that depth.
    return len(blocks)


def _openai_shape(key: str, shapes: list[th.Size]) -> tuple[int, ...]:
    shape = (sum(each[0] for each in shapes), *shapes[0][1:]) if shapes[0] else ()
    return shape[::-1] if key in TRANSPOSED else shape


def _parts(key: str, names: tuple[str, ...], value: th.Tensor) -> Iterator[tuple[str, th.Tensor]]:
    if key in TRANSPOSED:
        value = value.T
    return zip(names, value.chunk(len(names)) if len(names) > 1 else [value], strict=True)
