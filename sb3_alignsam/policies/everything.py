"""Everything mode: SAM segments whatever it finds, and a text model says which of it is the category."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch as th
from torch.nn import functional as F

from sb3_alignsam.envs.episode import ClickEpisode
from sb3_alignsam.perception.clicks import Click, Clicks
from sb3_alignsam.perception.frozen_features import FrozenFeatures
from sb3_alignsam.perception.geometry import cells_inside
from sb3_alignsam.perception.segmenter import MASK_THRESHOLD
from sb3_alignsam.policies.clickers import STOP, NextClick, Proposal, State, maps_of

POINTS = 12
"""Points a side of the grid over the picture. Segment Anything's own everything mode has 32, seven times the calls."""
MIN_PREDICTED_IOU = 0.5
"""Masks that SAM is less sure of are dropped. Segment Anything's own 0.88 leaves nothing of a small model's masks."""
DUPLICATE_IOU = 0.7
"""Overlap from which the mask of lower predicted IoU is dropped, that of Segment Anything's `box_nms_thresh`; taken
between masks and not between their boxes, since two rings in each other have one box."""


class Everything:
    """Segment Anything's everything mode (Kirillov et al., 2023, section 4 and appendix B), then a choice by category.

    Each point of a grid is clicked alone and gives its candidate of highest predicted IoU; unsure masks are dropped,
    and of those that overlap the surest stays. The answer is the union of those on which the target's similarity map
    is, on average, above the strongest other category's; where there is none, the one that comes nearest to that.

    :param features: of an environment with a text model.
    """

    name = "everything"
    uses_ground_truth = False

    def __init__(self, features: FrozenFeatures) -> None:
        maps_of(features, self.name)
        self.segmenter = features.segmenter

    def next_clicks(self, states: Sequence[State]) -> list[NextClick]:
        """See `Clicker`; all is done in the first step."""
        return [STOP if state.step else self._proposal(state.episode) for state in states]

    def _proposal(self, episode: ClickEpisode) -> Proposal:
        clicks = grid_points(*episode.image_size)
        low_res, iou = self._segment(episode, clicks)
        inside = th.from_numpy(cells_inside(*episode.image_size, self.segmenter.image_size, low_res.shape[-1]))
        masks = (low_res > MASK_THRESHOLD) & inside  # what SAM makes of padding means nothing
        kept = _without_duplicates(masks, iou)
        lead = _leads(episode, masks[kept])
        chosen = [row for row, value in zip(kept, lead, strict=True) if value > 0] or [kept[int(lead.argmax())]]
        union = low_res[chosen].amax(dim=0, keepdim=True)
        return Proposal(tuple(clicks[row] for row in chosen), union, float(iou[chosen].mean()))

    def _segment(self, episode: ClickEpisode, clicks: Sequence[Click]) -> tuple[th.Tensor, th.Tensor]:
        """The surest candidate of each point, (points, 4h, 4w) logits, and its predicted IoU, (points,)."""
        embedding = episode.embedding_on(self.segmenter.device)
        prompts = [Clicks.of([click]) for click in clicks]
        masks = self.segmenter.segment([embedding] * len(clicks), prompts, [episode.image_size] * len(clicks))
        best = masks.iou.argmax(dim=1)
        rows = th.arange(len(clicks), device=best.device)
        return masks.low_res[rows, best].cpu(), masks.iou[rows, best].cpu()


def grid_points(height: int, width: int) -> list[Click]:
    """Positive clicks in the middle of each cell of an even grid, `POINTS` a side or fewer on a tiny picture."""
    rows, columns = (min(POINTS, side) for side in (height, width))
    ys = ((np.arange(rows) + 0.5) * height / rows).astype(int)
    xs = ((np.arange(columns) + 0.5) * width / columns).astype(int)
    return [Click(int(x), int(y), True) for y in ys for x in xs]


def _without_duplicates(masks: th.Tensor, iou: th.Tensor) -> list[int]:
    """Rows of the masks that stay, surest first. :param masks: (N, h, w) bool. :param iou: predicted, (N,)."""
    flat = masks.flatten(1).float()
    overlap, areas = flat @ flat.T, flat.sum(dim=1)
    union = areas[:, None] + areas - overlap
    same = overlap > DUPLICATE_IOU * union
    kept: list[int] = []
    for row in iou.argsort(descending=True, stable=True).tolist():
        sure = areas[row] > 0 and iou[row] >= MIN_PREDICTED_IOU
        if sure and not any(same[row, other] for other in kept):
            kept.append(row)
    return kept or [int(iou.argmax())]


def _leads(episode: ClickEpisode, masks: th.Tensor) -> np.ndarray:
    """How far the target's map is above the strongest other category's on each mask, the mean of its pixels, (N,)."""
    assert episode.similarity is not None
    maps = th.from_numpy(episode.similarity.astype(np.float32))
    large = F.interpolate((maps[0] - maps[1])[None, None], masks.shape[1:], mode="bilinear", align_corners=False)[0]
    inside = masks.float()
    area = inside.flatten(1).sum(dim=1).clamp(min=1)
    return ((large * inside).flatten(1).sum(dim=1) / area).numpy()
