"""An agent's networks, and what surrounds them, as modules of tensors alone: no branch of theirs depends on a value.

All of them know a photograph by its height and width in pixels, ``shapes`` (B, 2) int64.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch as th
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn
from torch.nn import functional as F

from sb3_alignsam.envs.click_grid import ClickGrid
from sb3_alignsam.inference.graph_geometry import cells_inside, click_places, to_square
from sb3_alignsam.perception.clip_surgery import dual_path_tokens
from sb3_alignsam.perception.frozen_decoder import FrozenDecoder
from sb3_alignsam.perception.segmenter import Segmenter
from sb3_alignsam.perception.similarity import SimilarityMaps, clip_pixels
from sb3_alignsam.policies.click_policy import ClickHead, greedy_actions

MASKED_LOGIT = -1e8
"""Logit of an action that is masked out, as sb3-contrib's `MaskableCategorical` sets it."""


class EncoderGraph(nn.Module):
    """SAM's preprocessing and image encoder.

    In: images scaled to the square's side S and padded, (B, S, S, 3) uint8; shapes. Out: image embeddings (B, C, h, w)
    float16, rounded as in training.
    """

    def __init__(self, segmenter: Segmenter, dtype: th.dtype) -> None:
        super().__init__()
        self.encoder, self.dtype = deepcopy(segmenter.encoder).to("cpu", dtype), dtype
        self.mean, self.std = (th.from_numpy(each)[:, None, None] for each in segmenter.pixel_statistics)

    def forward(self, images: th.Tensor, shapes: th.Tensor) -> tuple[th.Tensor]:
        # Channels in front from the start: broadcast over them, the same arithmetic takes five times as long.
        pixels = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        side = images.shape[1]
        pixels = pixels.where(cells_inside(shapes, side, side, side, side)[:, None], 0)
        return (self.encoder(pixels.to(self.dtype)).to(th.float16),)


class DecoderGraph(nn.Module):
    """SAM's prompt encoder and mask decoder, see `FrozenDecoder.best`, and what a policy observes of the mask.

    In: embeddings float16; points in pixels of the photograph, x, y (B, N, 2) float32; labels (B, N) int64; the mask
    before, logits (B, 1, 4h, 4w) float32; whether it is to be refined, (B,) bool; shapes. Out: logits likewise; their
    predicted IoU, (B,) float32; the mask's probability by cell, (B, 1, h, w) float32.
    """

    def __init__(self, segmenter: Segmenter, dtype: th.dtype) -> None:
        super().__init__()
        self.decoder = deepcopy(segmenter.decoder).cast(th.device("cpu"), dtype)
        self.image_size, self.cell = segmenter.image_size, segmenter.low_res_size // segmenter.embedding_shape[1]
        self._frozen, self.dtype = FrozenDecoder(self.decoder), dtype

    def forward(
        self,
        embeddings: th.Tensor,
        points: th.Tensor,
        labels: th.Tensor,
        previous: th.Tensor,
        refining: th.Tensor,
        shapes: th.Tensor,
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        points = to_square(points, shapes, self.image_size)
        low_res, iou = self._frozen.best(
            embeddings.to(self.dtype), points, labels, previous.to(self.dtype), refining
        )  # fmt: skip
        low_res = low_res.float()
        return low_res, iou[:, 0].float(), F.avg_pool2d(low_res.sigmoid(), self.cell).clamp(0, 1)


class ClipGraph(nn.Module):
    """CLIP Surgery for a fixed list of names: its preprocessing, image encoder and similarity maps.

    In: images scaled to `ClipSurgery.map_size` and padded to whole patches, (B, H, W, 3) uint8; the category, an index
    of the names, (B,) int64; shapes. Out: the chosen ones of `TEXT_KEYS`, as `Observations` makes them.

    :param maps: for the vocabulary. :param names: the vocabulary and others behind it.
    :param keys: of `TEXT_KEYS`, in the order of the outputs. :param side: of the maps, that of SAM's embedding.
    """

    def __init__(
        self, maps: SimilarityMaps, names: Sequence[str], keys: Sequence[str], side: int, dtype: th.dtype
    ) -> None:
        super().__init__()
        self.model, self.dtype = deepcopy(maps.clip.model).to("cpu", dtype), dtype
        self.map_size, self.patch = maps.clip.map_size, maps.clip.patch_size
        self.keys, self.side, self.vocabulary = tuple(keys), side, len(maps.categories)
        self.texts = th.stack([maps.text_features(name) for name in names])
        self.redundant = maps.clip.prompt_features([""]).cpu()

    def forward(self, images: th.Tensor, target: th.Tensor, shapes: th.Tensor) -> tuple[th.Tensor, ...]:
        height, width = images.shape[1:3]
        inside = cells_inside(shapes, self.map_size, self.map_size, height, width)[:, None]
        pixels = clip_pixels(images).where(inside, 0)
        tokens = dual_path_tokens(self.model, pixels.to(self.dtype)).to(th.float16)
        found = {"clip_text": self.texts[target]}
        grid = tokens[:, 1:].transpose(1, 2).unflatten(2, (height // self.patch, width // self.patch))
        patches = self.map_size // self.patch
        found["clip_tokens"] = F.pad(grid, (0, patches - grid.shape[3], 0, patches - grid.shape[2]))
        both = self._scores(tokens.float(), target).unflatten(2, grid.shape[2:])
        # The edge goes on into the padding, see `SimilarityMaps`.
        rows, columns = (th.arange(patches).clamp(max=count - 1) for count in grid.shape[2:])
        maps = F.interpolate(both[:, :, rows][..., columns], (self.side, self.side), mode="bilinear")
        seen = cells_inside(shapes, self.map_size, self.side, self.side, self.side)
        found["clip_similarity"] = (maps * seen[:, None]).to(th.float16)
        return tuple(found[key] for key in self.keys)

    def _scores(self, tokens: th.Tensor, target: th.Tensor) -> th.Tensor:
        """The target's scores and the strongest other name's of each patch, stretched, (B, 2, N); see
        `SimilarityMaps.maps` and `ClipSurgery.surgery`."""
        index = th.arange(len(self.texts))
        asked = (index == target[:, None])[:, None]
        among = (index < self.vocabulary) | asked  # names that a map is made against
        count = among.sum(dim=2, keepdim=True)
        likeness = tokens @ self.texts.T
        weighted = (2 * likeness[:, :1]).masked_fill(~among, -th.inf).softmax(dim=2) * count * likeness
        scores = (weighted - weighted.sum(dim=2, keepdim=True) / count)[:, 1:]
        alone = (tokens[:, 1:] * (self.texts[target] - self.redundant)[:, None]).sum(dim=2)
        own = scores.gather(2, target[:, None, None].expand(-1, scores.shape[1], 1))[..., 0]
        own = own.where(count[:, 0] > 1, alone)
        low, spread = own.amin(dim=1, keepdim=True), own.amax(dim=1, keepdim=True) - own.amin(dim=1, keepdim=True)
        rival = scores.masked_fill(~among | asked, -th.inf).amax(dim=2).maximum(low)
        both = (th.stack([own, rival], dim=1) - low[:, None]) / spread.where(spread > 0, 1)[:, None]
        return both.clamp(0, 1) * (spread > 0)[:, None]


class PolicyGraph(nn.Module):
    """A policy's greedy action and the click that it is.

    In: observations, each with the batch in front; ``click_map``, also where it is none of them; shapes. Out: the
    action (B,) int64; the logits without action mask (B, num_actions) float32; the click's x, y in pixels of the
    photograph (B, 2) int64; its label (B,) int64, 1 positive; whether the action places it (B,) bool; the click map
    with it (B, 2, G, G) uint8.

    :param policy: SB3's or contrib's, in evaluation mode. :param grid: the click grid that it was trained with.
    :param keys: names of the observations. :param maskable: whether it takes action masks.
    """

    def __init__(
        self,
        policy: ActorCriticPolicy | MaskableActorCriticPolicy,
        grid: ClickGrid,
        keys: Sequence[str],
        maskable: bool,
    ) -> None:
        super().__init__()
        self.policy, self.grid, self.keys, self.maskable = policy, grid, tuple(keys), maskable
        self.inputs = (*dict.fromkeys((*keys, "click_map")), "shapes")
        """Names of what `forward` is given."""
        head = policy.mlp_extractor
        self.allow_stop = isinstance(head, ClickHead) and head.stop_logit is not None

    def forward(self, *tensors: th.Tensor) -> tuple[th.Tensor, ...]:
        given = dict(zip(self.inputs, tensors, strict=True))
        observation = {key: given[key] for key in self.keys}
        features = self.policy.extract_features(observation, self.policy.pi_features_extractor)
        assert isinstance(features, th.Tensor)  # a pair only where no extractor is named
        logits = self.policy.action_net(self.policy.mlp_extractor.forward_actor(features))
        clicked = given["click_map"]
        pixels, valid = click_places(given["shapes"], self.grid)
        mask = self._action_mask(clicked.amax(dim=1) > 0, valid)
        masked = logits.where(mask, MASKED_LOGIT) if self.maskable else logits
        action = greedy_actions(masked.softmax(dim=1), self.allow_stop)
        side = self.grid.num_patches
        negative, row, column = action % 2, (action // 2 // side).clamp(max=side - 1), action // 2 % side
        point = th.cat([pixels[:, 1].gather(1, column[:, None]), pixels[:, 0].gather(1, row[:, None])], dim=1)
        placed = mask.gather(1, action[:, None])[:, 0] & (action < 2 * side**2)
        along = th.arange(side)
        here = (row[:, None] == along)[:, None, :, None] & (column[:, None] == along)[:, None, None, :]
        here = here & (negative[:, None] == th.arange(2))[:, :, None, None] & placed[:, None, None, None]
        return action, logits, point, 1 - negative, placed, clicked.maximum(here.to(clicked.dtype))

    def _action_mask(self, clicked: th.Tensor, valid: th.Tensor) -> th.Tensor:
        """See `ClickGrid.action_mask`; (B, num_actions) bool."""
        free = valid & ~clicked
        # Written without `where`, which onnxruntime does not have for booleans.
        patches = (free | valid & ~free.any(dim=(1, 2), keepdim=True)).flatten(1)
        mask = patches[:, :, None].expand(-1, -1, 2).flatten(1)
        return F.pad(mask, (0, 1), value=True) if self.grid.allow_stop else mask
