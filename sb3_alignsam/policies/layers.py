"""Layers of the extractors. None of them mixes anything across the batch."""

from __future__ import annotations

import torch as th
from torch import nn
from torch.nn import functional as F


class Condition(nn.Module):
    """Scale and shift each channel by what is asked for (FiLM, Perez et al., AAAI 2018, section 2)."""

    def __init__(self, condition_dim: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(condition_dim, 2 * channels)

    def forward(self, features: th.Tensor, condition: th.Tensor) -> th.Tensor:
        """:param features: (B, C, H, W). :param condition: (B, D)."""
        scale, shift = self.project(condition)[..., None, None].chunk(2, dim=1)
        return features * (1 + scale) + shift


class ConditionedBlock(nn.Module):
    """A residual 3×3 convolution conditioned on what is asked for, or on the step."""

    def __init__(self, channels: int, condition_dim: int) -> None:
        super().__init__()
        # One group: statistics of one sample, so that nothing mixes across the batch.
        self.norm = nn.GroupNorm(1, channels)
        self.condition = Condition(condition_dim, channels)
        self.mix = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: th.Tensor, condition: th.Tensor) -> th.Tensor:
        return features + self.mix(F.relu(self.condition(self.norm(features), condition)))


def grid_places(side: int) -> th.Tensor:
    """x and y of each patch's centre in -1..1, (1, 2, G, G)."""
    centres = (th.arange(side) + 0.5) * 2 / side - 1
    rows, columns = th.meshgrid(centres, centres, indexing="ij")
    return th.stack([columns, rows])[None]


def to_grid(features: th.Tensor, side: int) -> th.Tensor:
    """Average or enlarge a map, (B, C, h, w), to (B, C, side, side)."""
    if features.shape[-1] == side:
        return features
    if features.shape[-1] < side:
        return F.interpolate(features, (side, side), mode="bilinear", align_corners=False)
    if features.shape[-1] % side == 0:  # the adaptive kind gives the same and is several times slower
        return F.avg_pool2d(features, features.shape[-1] // side)
    return F.adaptive_avg_pool2d(features, (side, side))


def with_summary(features: th.Tensor, condition: th.Tensor, summarise: nn.Linear) -> th.Tensor:
    """A map, flattened, and a vector that `summarise` makes of its mean, its maximum and the condition.

    :param features: (B, C, G, G). :param condition: (B, D). :return: (B, C·G·G + P).
    """
    summary = th.cat([features.mean((2, 3)), features.amax((2, 3)), condition], dim=1)
    return th.cat([features.flatten(1), F.relu(summarise(summary))], dim=1)
