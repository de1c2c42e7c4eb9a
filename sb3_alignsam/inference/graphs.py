"""The graphs of an agent: each module with its inputs, at which it is traced and checked, and its outputs' names.

An input that has the name of another graph's output takes that one's values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn
from torch.export import Dim

from sb3_alignsam.envs.click_grid import ClickGrid
from sb3_alignsam.inference.graph_modules import ClipGraph, DecoderGraph, EncoderGraph, PolicyGraph
from sb3_alignsam.perception.segmenter import Segmenter
from sb3_alignsam.perception.similarity import SimilarityMaps

TRACED_AT = (2, 3)
"""Batch and clicks of the tensors that a graph is traced with: neither 0 nor 1, which torch takes for constants."""
CHECKED_AT = ((1, 1), (3, 5))
"""Batches and clicks at which a written graph is compared with its module."""


@dataclass(frozen=True)
class Graph:
    """One network to export.

    :param name: of its file. :param module: in evaluation mode; takes the inputs in their order, gives a tuple.
    :param inputs: example tensors by name, for a batch size and a number of clicks.
    :param outputs: names. :param dynamic: by input, which of its dimensions may have any size.
    """

    name: str
    module: nn.Module
    inputs: Callable[[int, int], dict[str, th.Tensor]]
    outputs: tuple[str, ...]
    dynamic: dict[str, dict[int, Any]]


def encoder_graph(segmenter: Segmenter, dtype: th.dtype) -> Graph:
    """SAM's image encoder, for images of any shape that lie in SAM's square."""
    side = segmenter.image_size

    def inputs(size: int, count: int) -> dict[str, th.Tensor]:
        return {"images": _bytes(size, side, side, 3), "shapes": _shapes(size)}

    module = EncoderGraph(segmenter, dtype).eval()
    return Graph("sam_encoder", module, inputs, ("sam_image_embeddings",), _batches(inputs))


def decoder_graph(segmenter: Segmenter, dtype: th.dtype) -> Graph:
    """SAM's prompt encoder and mask decoder."""
    side = segmenter.low_res_size

    def inputs(size: int, count: int) -> dict[str, th.Tensor]:
        return {
            "sam_image_embeddings": _noise(size, *segmenter.embedding_shape).half(),
            "points": 100 * th.rand(size, count, 2, generator=_drawn(size)),
            "labels": th.arange(size * count).reshape(size, count) % 2,
            "previous": 5 * _noise(size, 1, side, side),
            "refining": th.arange(size) % 2 == 0,
            "shapes": _shapes(size),
        }

    dynamic = _batches(inputs)
    dynamic["points"][1] = dynamic["labels"][1] = Dim("clicks")
    outputs = ("low_res", "predicted_iou", "sam_pred_mask_prob")
    return Graph("sam_decoder", DecoderGraph(segmenter, dtype).eval(), inputs, outputs, dynamic)


def clip_graph(maps: SimilarityMaps, names: Sequence[str], keys: Sequence[str], side: int, dtype: th.dtype) -> Graph:
    """CLIP Surgery for these names, for any number of patches; parameters as in `ClipGraph`."""
    patch = maps.clip.patch_size
    most = maps.clip.map_size // patch

    def inputs(size: int, count: int) -> dict[str, th.Tensor]:
        height, width = patch * most, patch * max(most - count, 1)
        shapes = th.tensor([[height, width - row] for row in range(size)])
        return {
            "images": _bytes(size, height, width, 3),
            "target_category": th.arange(size) % len(names),
            "shapes": shapes,
        }

    dynamic = _batches(inputs)
    dynamic["images"] |= {1: patch * Dim("rows", max=most), 2: patch * Dim("columns", max=most)}
    return Graph("clip", ClipGraph(maps, names, keys, side, dtype).eval(), inputs, tuple(keys), dynamic)


def policy_graph(
    policy: ActorCriticPolicy | MaskableActorCriticPolicy, grid: ClickGrid, keys: Sequence[str], maskable: bool
) -> Graph:
    """The policy, reading these observations; parameters as in `PolicyGraph`."""
    assert isinstance(policy.observation_space, spaces.Dict)
    module = PolicyGraph(policy, grid, keys, maskable).eval()
    clicks = spaces.Box(0, 1, (2, grid.num_patches, grid.num_patches), np.uint8)
    chosen = {"click_map": clicks, **{key: policy.observation_space[key] for key in keys}}

    def inputs(size: int, count: int) -> dict[str, th.Tensor]:
        drawn = {name: _drawn_from(space, size) for name, space in chosen.items()} | {"shapes": _shapes(size)}
        return {name: drawn[name] for name in module.inputs}

    outputs = ("action", "logits", "point", "label", "placed", "next_click_map")
    return Graph("policy", module, inputs, outputs, _batches(inputs))


def _batches(inputs: Callable[[int, int], dict[str, th.Tensor]]) -> dict[str, dict[int, Any]]:
    """Every input's first dimension is the batch."""
    batch = Dim("batch")
    return {name: {0: batch} for name in inputs(*TRACED_AT)}


def _drawn(seed: int) -> th.Generator:
    return th.Generator().manual_seed(seed)


def _noise(*shape: int) -> th.Tensor:
    return th.randn(*shape, generator=_drawn(shape[0]))


def _bytes(*shape: int) -> th.Tensor:
    return th.randint(256, shape, generator=_drawn(shape[0])).to(th.uint8)


def _shapes(size: int) -> th.Tensor:
    """Of photographs, upright and lying."""
    return th.tensor([[427, 896], [900, 651], [480, 640], [3, 700]])[th.arange(size) % 4]


def _drawn_from(space: spaces.Space[Any], size: int) -> th.Tensor:
    """Values of a space, as an environment sends them, stacked."""
    if isinstance(space, spaces.Discrete):
        return th.arange(size) % int(space.n)
    assert isinstance(space, spaces.Box)
    drawn = th.rand(size, *space.shape, generator=_drawn(size))
    if space.high.max() > 1 and space.dtype != "uint8":  # embeddings: of no bound, and about this large
        drawn = 2 * drawn - 1
    return (drawn * (255 if space.high.max() == 255 else 1)).to(th.from_numpy(space.low).dtype)
