"""Scores of a mask against ground truth, and the reward as a weighted sum of named terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from sb3_alignsam.errors import InputError

Score = Literal["iou", "dice"]
GainAgainst = Literal["best", "last"]


@dataclass(frozen=True)
class MaskScores:
    """How well a mask agrees with ground truth, each in [0, 1]; 1 where both are empty."""

    iou: float
    dice: float


def mask_scores(mask: np.ndarray, gt: np.ndarray, ignore: np.ndarray) -> MaskScores:
    """IoU and Dice of a mask, ignored pixels left out.

    :param mask: (H, W) bool. :param gt: (H, W) bool. :param ignore: (H, W) bool.
    """
    if ignore.any():
        mask, gt = mask & ~ignore, gt & ~ignore
    overlap = int(np.count_nonzero(mask & gt))
    total = int(np.count_nonzero(mask)) + int(np.count_nonzero(gt))
    if total == 0:
        return MaskScores(1.0, 1.0)
    return MaskScores(overlap / (total - overlap), 2 * overlap / total)


@dataclass(frozen=True)
class RewardWeights:
    """Weight of each term of the reward. `from_mapping` reads the environment's ``rewards`` keyword.

    :param gain: change of the answer's score, see `gain_term`.
    :param hit: 1 where a positive click finds a part of the target that the latest mask misses, see `hit_term`.
    :param label: +1 the click agrees with ground truth, -1 it does not, 0 on ignored pixels (AlignSAM, Huang et al.,
        CVPR 2024, section 3.3).
    :param repeat: 1 where the action changes nothing: an invalid or an already clicked patch. Usually negative.
    :param step_cost: 1 for every click. Usually negative.
    :param final: score of the answer at the end of the episode.
    """

    gain: float = 1.0
    hit: float = 0.5
    label: float = 0.0
    repeat: float = -0.1
    step_cost: float = 0.0
    final: float = 0.0

    @classmethod
    def from_mapping(cls, weights: Mapping[str, float] | None) -> RewardWeights:
        """:raises InputError: a term is unknown or its weight is no finite number."""
        known = [field.name for field in fields(cls)]
        for name, value in (weights or {}).items():
            if name not in known:
                raise InputError(f"reward term '{name}' is not known; known: {', '.join(known)}")
            if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
                raise InputError(f"reward term '{name}' needs a finite number, got {value!r}")
        return cls(**dict(weights or {}))

    def total(self, terms: Mapping[str, float]) -> float:
        """Weighted sum of the terms, which are named as the weights."""
        return float(sum(getattr(self, name) * value for name, value in terms.items()))


def gain_term(score: float, last: float, best: float, against: GainAgainst) -> float:
    """Change of the answer's score by one step, in [-1, 1].

    :param score: of the answer now. :param last: before this step. :param best: highest before this step.
    :param against: ``last``: the plain difference, which sums to the final score; ``best``: what it rises above the
        best so far and never below 0, which sums to the best score.
    """
    return score - last if against == "last" else max(score - best, 0.0)


def hit_term(positive: bool, on_target: bool, in_mask: bool, ignored: bool) -> float:
    """1 for a positive click on a pixel of the target that the latest mask misses, else 0.

    Unlike `label_term` it pays nothing for negative clicks: on plain background they are always right and never help,
    and an agent that is paid for them learns to make no others. Paid for taking surplus away, an agent learns to make
    surplus first. What a negative click is worth, `gain_term` says.

    :param in_mask: whether the latest mask, before this click, holds the pixel.
    """
    return float(positive and on_target and not in_mask and not ignored)


def label_term(positive: bool, on_target: bool, ignored: bool) -> float:
    """Whether a click's label agrees with ground truth: 1 yes, -1 no, 0 on an ignored pixel."""
    if ignored:
        return 0.0
    return 1.0 if positive == on_target else -1.0
