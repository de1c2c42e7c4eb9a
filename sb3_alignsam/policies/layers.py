"""Layers of the extractors. None of them mixes anything across the batch."""

from __future__ import annotations

from typing import Any

import torch as th
from torch import nn
from torch.nn import functional as F

PART_BYTES = 4 * 2**20
"""Bytes of float32 embeddings that are converted at once on a processor: about what its caches hold."""
CELLS_A_PATCH = 2
"""Cells of the embedding along a patch's side that its features are made of, where there are that many."""


class Condition(nn.Module):
    """Scale and shift each channel by what is asked for (FiLM, Perez et al., AAAI 2018, section 2)."""

    def __init__(self, condition_dim: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(condition_dim, 2 * channels)

    def forward(self, features: th.Tensor, condition: th.Tensor) -> th.Tensor:
        """:param features: (B, C, H, W). :param condition: (B, D)."""
        scale, shift = self.project(condition)[..., None, None].chunk(2, dim=1)
        return features * (1 + scale) + shift


class EmbeddingReader(nn.Module):
    """Reads SAM's embedding e, weighted by the mask probability p as ``e·p + e``, into few channels on a coarse grid.

    Height and width are halved down to about two cells a patch's side; then to few channels, and by non-overlapping
    windows to about the click grid: so an update stays as cheap as a click, since the embedding is the only array here
    that is large, and it is read once. No other array has as many cells: what is made of it is on the grid already.

    :param embedding_shape: (C, h, w) of e. :param channels: it is reduced to. :param side: of the click grid.
    """

    def __init__(self, embedding_shape: tuple[int, ...], channels: int, side: int) -> None:
        super().__init__()
        embedding_channels, height, width = embedding_shape
        self.halvings = 0
        """How often the embedding's height and width are halved."""
        while (height >> self.halvings) >= 2 * CELLS_A_PATCH * side and not (height | width) >> self.halvings & 1:
            self.halvings += 1
        window = max((height >> self.halvings) // side, 1)
        self.reduce = nn.Linear(embedding_channels, channels, bias=False)
        self.gather = nn.Conv2d(channels, channels, window, stride=window)

    def forward(
        self,
        embedding: th.Tensor,
        probability: th.Tensor,
        queries: th.Tensor | None = None,
        rows: th.Tensor | None = None,
    ) -> tuple[th.Tensor, th.Tensor]:
        """:param embedding: (E, C, h, w). :param probability: (B, 1, h, w).
        :param queries: (E, Q, C), whose products with the cells of e, unweighted, are asked for too.
        :param rows: of `embedding`, which each of the B reads, (B,) int64; None: each its own, and E is B.
        :return: the reduced embedding, (B, channels, about G, about G), and the products' means over its windows,
            (B, Q, about G, about G); type: that of the weights."""
        # Both layers in one: each cell is multiplied by what its place in a window makes of it, (E, places, K, C).
        weights = (self.gather.weight.permute(2, 3, 0, 1) @ self.reduce.weight).flatten(0, 1)
        weights = weights.expand(embedding.shape[0], -1, -1, -1)
        if queries is not None:
            weights = th.cat([weights, queries[:, None].expand(-1, weights.shape[1], -1, -1)], dim=2)
        if th.is_autocast_enabled(weights.device.type):
            weights = weights.to(th.get_autocast_dtype(weights.device.type))
        if self.halvings:
            embedding = halved(embedding, self.halvings, weights.dtype)
            probability = F.avg_pool2d(probability, 2**self.halvings)
        window = self.gather.stride[0]
        cells, shape = cells_of_windows(embedding, window)
        read = products(weights.flatten(0, 1), cells.flatten(0, 1)).unflatten(0, weights.shape[:2])
        made, asked = read[:, :, : self.reduce.out_features], read[:, :, self.reduce.out_features :].mean(1)
        # A factor of each cell commutes with a sum over channels: this is what the layers make of e·p + e.
        factors = 1 + cells_of_windows(probability, window)[0].to(read.dtype)
        assert self.gather.bias is not None
        reduced = self.gather.bias[:, None].to(read.dtype)
        for place, factor in zip(made.unbind(1), factors.unbind(1), strict=True):
            reduced = reduced + (place if rows is None else place.index_select(0, rows)) * factor
        if rows is not None:
            asked = asked.index_select(0, rows)
        return reduced.unflatten(2, shape), asked.unflatten(2, shape)


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


class _Products(th.autograd.Function):
    """See `products`."""

    @staticmethod
    def forward(ctx: Any, weights: th.Tensor, embedding: th.Tensor) -> th.Tensor:
        ctx.save_for_backward(embedding)
        result = weights.new_empty(*weights.shape[:2], embedding.shape[2])
        for part in _parts(embedding):
            th.bmm(weights[part], embedding[part].to(weights.dtype), out=result[part])
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: th.Tensor) -> tuple[th.Tensor, None]:
        (embedding,), (gradient,) = ctx.saved_tensors, gradients
        result = gradient.new_empty(*gradient.shape[:2], embedding.shape[1])
        for part in _parts(embedding):
            th.bmm(gradient[part], embedding[part].to(gradient.dtype).transpose(1, 2), out=result[part])
        return result, None


@th.compiler.disable  # how many images there are changes with every minibatch: a graph would be made anew each time
def products(weights: th.Tensor, embedding: th.Tensor) -> th.Tensor:
    """``weights @ embedding`` where the embedding is large, of half precision and no parameter.

    The embedding is converted a few images at a time, forward and backward: all of it in float32 would be the largest
    array of an update by far, and on a processor writing and reading that is what an update would spend its time on.

    :param weights: (B, K, C). :param embedding: (B, C, N), of any floating-point type; gets no gradient.
    :return: (B, K, N) of the weights' type.
    """
    if th.compiler.is_exporting():  # a graph takes any number of images
        return th.bmm(weights, embedding.to(weights.dtype))
    return _Products.apply(weights, embedding)


@th.compiler.disable  # as `products`
def halved(embedding: th.Tensor, times: int, dtype: th.dtype) -> th.Tensor:
    """Height and width halved some times by averaging pairs of cells, of a few images at a time.

    Strided slices: torch's own pooling takes several times as long on a processor. Columns are averaged in `dtype`,
    which halves what is converted; a mean of two cannot overflow.

    :param embedding: (B, C, h, w), of any floating-point type; h and w are multiples of 2^times.
    :param times: 1 or more. :param dtype: of the result.
    :return: (B, C, h/2^times, w/2^times) of type `dtype`.
    """
    if th.compiler.is_exporting():  # a graph takes any number of images
        return _halved(embedding, times, dtype)
    batch, channels, height, width = embedding.shape
    result = embedding.new_empty(batch, channels, height >> times, width >> times, dtype=dtype)
    for part in _parts(embedding):
        result[part] = _halved(embedding[part], times, dtype)
    return result


def _halved(cells: th.Tensor, times: int, dtype: th.dtype) -> th.Tensor:
    for _ in range(times):
        cells = th.lerp(cells[:, :, ::2], cells[:, :, 1::2], 0.5)
    cells = cells.to(dtype)
    for _ in range(times):
        cells = th.lerp(cells[..., ::2], cells[..., 1::2], 0.5)
    return cells


def _parts(embedding: th.Tensor) -> list[slice]:
    """Images that are converted at once: all of them on an accelerator."""
    size, most = len(embedding), len(embedding)
    if embedding.device.type == "cpu":
        most = max(PART_BYTES // (4 * embedding[0].numel()), 1)
    return [slice(start, start + most) for start in range(0, size, most)]


def cells_of_windows(features: th.Tensor, size: int) -> tuple[th.Tensor, tuple[int, int]]:
    """Cells by their place in windows of size × size that do not overlap; what is left over at the ends is left out.

    :param features: (B, C, h, w). :param size: cells along a window's side.
    :return: (B, size², C, h//size · w//size), and (h//size, w//size).
    """
    height, width = features.shape[2] // size, features.shape[3] // size
    features = features[:, :, : height * size, : width * size]
    cells = features.unflatten(3, (width, size)).unflatten(2, (height, size)).permute(0, 3, 5, 1, 2, 4)
    return cells.flatten(4).flatten(1, 2), (height, width)


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


def cells_of_patches(features: th.Tensor, side: int) -> th.Tensor:
    """A map as channels of the click grid that keep `CELLS_A_PATCH` cells along a patch's side, (B, C, h, w) to
    (B, C·CELLS_A_PATCH², side, side): an average over a patch would hide what lies in only a part of it."""
    return F.pixel_unshuffle(to_grid(features, CELLS_A_PATCH * side), CELLS_A_PATCH)


def with_summary(features: th.Tensor, condition: th.Tensor, summarise: nn.Linear) -> th.Tensor:
    """A map, flattened, and a vector that `summarise` makes of its mean, its maximum and the condition.

    :param features: (B, C, G, G). :param condition: (B, D). :return: (B, C·G·G + P).
    """
    summary = th.cat([features.mean((2, 3)), features.amax((2, 3)), condition], dim=1)
    return th.cat([features.flatten(1), F.relu(summarise(summary))], dim=1)
