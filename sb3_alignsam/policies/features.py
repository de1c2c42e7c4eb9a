"""What every click extractor has in common: one feature vector that is a map over the click grid and a summary."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_alignsam.errors import InputError

EPISODE_ROWS = "episode_rows"
"""Key of a minibatch that holds each episode's embedding once, (E, C, h, w): which of them a step's is, (B,) int64.
Without it each step has its own. See `DistinctEpisodeDictRolloutBuffer`."""

MAX_SIZE = 4096
"""Channels, layers or lengths beyond this are slips, and would fill the memory."""


class ClickFeaturesExtractor(BaseFeaturesExtractor):
    """Base of the extractors. Their output, (B, features_dim), is a flattened map (C, G, G) followed by a vector (P,).

    `ClickPolicy` reads the two apart by `split`; any other SB3 policy takes the features as they are.

    :param observation_space: Dict space of a click environment.
    :param required: keys that the extractor reads.
    :param map_channels: C. :param vector_dim: P.
    :raises InputError: the space is no Dict or lacks a key.
    """

    def __init__(
        self, observation_space: spaces.Dict, required: Sequence[str], map_channels: int, vector_dim: int
    ) -> None:
        for name, value in (("map_channels", map_channels), ("vector_dim", vector_dim)):
            check_size(name, value)
        if not isinstance(observation_space, spaces.Dict):
            raise InputError(f"{type(self).__name__} needs a Dict observation space, got {observation_space}")
        for key in required:
            if key not in observation_space.spaces:
                cure = "give it a text_model, such as text_model:tiny" if key.startswith("clip_") else ""
                cure = cure if key == "clip_similarity" else f"add it to its observation_keys{cure and f', and {cure}'}"
                raise InputError(f"{type(self).__name__} reads '{key}' from the environment: {cure}")
        side = shape_of(observation_space["click_map"])[1]
        super().__init__(observation_space, map_channels * side * side + vector_dim)
        self.map_shape = (map_channels, side, side)
        self.vector_dim = vector_dim

    def split(self, features: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """The map, (B, C, G, G), and the vector, (B, P), of features (B, features_dim)."""
        size = features.shape[1] - self.vector_dim
        return features[:, :size].unflatten(1, self.map_shape), features[:, size:]


def compile_extractor(extractor: ClickFeaturesExtractor, autocast: bool) -> None:
    """Compile an extractor's forward and backward pass when they are first run, which takes up to a minute.

    Names and values of its weights stay what they are.

    :param autocast: whether it runs in bfloat16.
    :raises InputError: it does; or there is no C++ compiler, which `torch.compile` needs.
    """
    if autocast:
        # Seen with torch 2.15 on a CPU with both extractors: the first backward pass is not finite.
        raise InputError("compiled and autocast do not go together: torch.compile's bfloat16 gradients are NaN")
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++", "cl")):
        raise InputError("compiled needs a C++ compiler, and there is none: install g++, or leave compiled out")
    extractor.compile(dynamic=True)


def check_size(name: str, value: int, least: int = 1) -> None:
    """:raises InputError: a size is too small, or above `MAX_SIZE`."""
    if value < least:
        raise InputError(f"{name} needs a whole number >= {least}, got {value}")
    if value > MAX_SIZE:
        raise InputError(f"{name} needs a whole number <= {MAX_SIZE}, got {value}")


def shape_of(space: spaces.Space[Any]) -> tuple[int, ...]:
    """Shape of a Box. :raises InputError: the space has none."""
    if space.shape is None:
        raise InputError(f"a Box was expected, got {space}")
    return space.shape
