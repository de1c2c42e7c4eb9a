"""An agent's networks as modules of tensors alone, which can be exported: no branch of theirs depends on a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn
from torch.export import Dim

from sb3_alignsam.perception.clip_surgery import ClipSurgery, dual_path_tokens
from sb3_alignsam.perception.frozen_decoder import FrozenDecoder
from sb3_alignsam.perception.segmenter import Segmenter
from sb3_alignsam.policies.click_policy import ClickHead, greedy_actions

MASKED_LOGIT = -1e8
"""Logit of an action that is masked out, as sb3-contrib's `MaskableCategorical` sets it."""
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


class EncoderGraph(nn.Module):
    """Normalised pixels (B, 3, S, S) float32 to image embeddings (B, C, h, w) float16, rounded as in training."""

    def __init__(self, encoder: nn.Module, dtype: th.dtype) -> None:
        super().__init__()
        self.encoder, self.dtype = encoder, dtype

    def forward(self, pixels: th.Tensor) -> tuple[th.Tensor]:
        return (self.encoder(pixels.to(self.dtype)).to(th.float16),)


class DecoderGraph(nn.Module):
    """See `FrozenDecoder.best`; embeddings are float16, logits float32."""

    def __init__(self, segmenter: Segmenter, dtype: th.dtype) -> None:
        super().__init__()
        self.decoder = deepcopy(segmenter.decoder).cast(th.device("cpu"), dtype)
        self._frozen, self.dtype = FrozenDecoder(self.decoder), dtype

    def forward(
        self, embeddings: th.Tensor, points: th.Tensor, labels: th.Tensor, previous: th.Tensor, refining: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor]:
        low_res, iou = self._frozen.best(
            embeddings.to(self.dtype), points, labels, previous.to(self.dtype), refining
        )  # fmt: skip
        return low_res.float(), iou[:, 0].float()


class TokensGraph(nn.Module):
    """CLIP's normalised pixels (B, 3, H, W) float32 to tokens (B, 1+N, D) float16, see `ClipSurgery.image_tokens`."""

    def __init__(self, clip: ClipSurgery, dtype: th.dtype) -> None:
        super().__init__()
        self.model, self.dtype = deepcopy(clip.model).to("cpu", dtype), dtype

    def forward(self, pixels: th.Tensor) -> tuple[th.Tensor]:
        return (dual_path_tokens(self.model, pixels.to(self.dtype)).to(th.float16),)


class PolicyGraph(nn.Module):
    """Observations, each with the batch in front, and with `maskable` the action mask, to the greedy action (B,) int64
    and the logits without the mask (B, num_actions) float32.

    :param policy: SB3's or contrib's, in evaluation mode. :param keys: names of the observations, in their order.
    """

    def __init__(
        self, policy: ActorCriticPolicy | MaskableActorCriticPolicy, keys: Sequence[str], maskable: bool
    ) -> None:
        super().__init__()
        self.policy, self.keys, self.maskable = policy, tuple(keys), maskable
        head = policy.mlp_extractor
        self.allow_stop = isinstance(head, ClickHead) and head.stop_logit is not None

    def forward(self, *tensors: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        observation = dict(zip(self.keys, tensors, strict=False))
        features = self.policy.extract_features(observation, self.policy.pi_features_extractor)
        assert isinstance(features, th.Tensor)  # a pair only where no extractor is named
        logits = self.policy.action_net(self.policy.mlp_extractor.forward_actor(features))
        masked = logits.where(tensors[-1], MASKED_LOGIT) if self.maskable else logits
        return greedy_actions(masked.softmax(dim=1), self.allow_stop), logits


def encoder_graph(segmenter: Segmenter, dtype: th.dtype) -> Graph:
    """SAM's image encoder."""
    side = segmenter.image_size
    module = EncoderGraph(deepcopy(segmenter.encoder).to("cpu", dtype), dtype)
    return Graph(
        "sam_encoder", module.eval(), lambda batch, _: {"pixels": _noise(batch, 3, side, side)},
        ("embeddings",), {"pixels": {0: Dim("batch")}},
    )  # fmt: skip


def decoder_graph(segmenter: Segmenter, dtype: th.dtype) -> Graph:
    """SAM's prompt encoder and mask decoder."""
    batch, clicks, side = Dim("batch"), Dim("clicks"), segmenter.low_res_size

    def inputs(size: int, count: int) -> dict[str, th.Tensor]:
        return {
            "embeddings": _noise(size, *segmenter.embedding_shape).half(),
            "points": segmenter.image_size * th.rand(size, count, 2, generator=_drawn(size)),
            "labels": th.arange(size * count).reshape(size, count) % 2,
            "previous": 5 * _noise(size, 1, side, side),
            "refining": th.arange(size) % 2 == 0,
        }

    dynamic: dict[str, dict[int, Any]] = {name: {0: batch} for name in inputs(1, 1)}
    dynamic["points"][1] = dynamic["labels"][1] = clicks
    module = DecoderGraph(segmenter, dtype).eval()
    return Graph("sam_decoder", module, inputs, ("low_res", "predicted_iou"), dynamic)


def tokens_graph(clip: ClipSurgery, dtype: th.dtype) -> Graph:
    """CLIP Surgery's image encoder, for any number of patches."""
    patch = clip.patch_size
    most = clip.map_size // patch

    def inputs(size: int, count: int) -> dict[str, th.Tensor]:
        return {"pixels": _noise(size, 3, patch * most, patch * max(most - count, 1))}

    shape = {0: Dim("batch"), 2: patch * Dim("rows", max=most), 3: patch * Dim("columns", max=most)}
    return Graph("clip_tokens", TokensGraph(clip, dtype).eval(), inputs, ("tokens",), {"pixels": shape})


def policy_graph(policy: ActorCriticPolicy | MaskableActorCriticPolicy, maskable: bool, keys: Sequence[str]) -> Graph:
    """The policy, reading these observations."""
    assert isinstance(policy.observation_space, spaces.Dict)
    chosen = {key: policy.observation_space[key] for key in keys}
    actions = int(policy.action_space.n)  # type: ignore[attr-defined]  # always Discrete

    def inputs(size: int, count: int) -> dict[str, th.Tensor]:
        drawn = {name: _drawn_from(space, size) for name, space in chosen.items()}
        if maskable:
            drawn["action_mask"] = th.rand(size, actions, generator=_drawn(size)) < 0.5
        return drawn

    module = PolicyGraph(policy, keys, maskable).eval()
    dynamic: dict[str, dict[int, Any]] = {name: {0: Dim("batch")} for name in inputs(1, 1)}
    return Graph("policy", module, inputs, ("action", "logits"), dynamic)


def _drawn(seed: int) -> th.Generator:
    return th.Generator().manual_seed(seed)


def _noise(*shape: int) -> th.Tensor:
    return th.randn(*shape, generator=_drawn(shape[0]))


def _drawn_from(space: spaces.Space[Any], size: int) -> th.Tensor:
    """Values of a space, as an environment sends them, stacked."""
    if isinstance(space, spaces.Discrete):
        return th.arange(size) % int(space.n)
    assert isinstance(space, spaces.Box)
    drawn = th.rand(size, *space.shape, generator=_drawn(size))
    if space.high.max() > 1 and space.dtype != "uint8":  # embeddings: of no bound, and about this large
        drawn = 2 * drawn - 1
    return (drawn * (255 if space.high.max() == 255 else 1)).to(th.from_numpy(space.low).dtype)
