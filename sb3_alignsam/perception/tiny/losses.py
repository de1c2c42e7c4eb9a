"""Losses of the tiny SAM: focal and Dice on masks, squared error on the predicted IoU, dense auxiliary heads."""

from __future__ import annotations

import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_alignsam.datasets.shape_scenes import CATEGORIES
from sb3_alignsam.perception.tiny.encoder import CHANNELS
from sb3_alignsam.perception.tiny.targets import Batch

FOCAL_WEIGHT = 20.0
"""Focal to Dice as 20 to 1 (Segment Anything, appendix A)."""


def mask_loss(logits: th.Tensor, target: th.Tensor, iou: th.Tensor, whole: th.Tensor) -> th.Tensor:
    """Best of the candidate masks by its own loss; every candidate's predicted IoU is trained.

    :param logits: (N, M, h, w). :param target: (N, h, w) bool, what the clicks so far ask for.
    :param iou: predicted, (N, M). :param whole: (N, h, w) bool, what the predicted IoU is measured against.
    """
    gt = target[:, None].expand_as(logits).float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, gt, reduction="none")
    probability = logits.sigmoid()
    miss = (1 - probability) * gt + probability * (1 - gt)
    focal = ((0.25 * gt + 0.75 * (1 - gt)) * cross_entropy * miss.square()).mean((2, 3))
    dice = 1 - (2 * (probability * gt).sum((2, 3)) + 1) / (probability.sum((2, 3)) + gt.sum((2, 3)) + 1)
    each = FOCAL_WEIGHT * focal + dice
    return each.min(dim=1).values.mean() + F.mse_loss(iou, true_iou(logits, whole))


@th.no_grad()
def true_iou(logits: th.Tensor, target: th.Tensor) -> th.Tensor:
    """IoU of each thresholded mask with its target, (N, M)."""
    mask, gt = logits > 0, target[:, None]
    return (mask & gt).sum((2, 3)) / (mask | gt).sum((2, 3)).clamp(min=1)


class DenseHeads(nn.Module):
    """Category and offset to the object's centre at every fourth pixel, from the embedding alone; training only.

    They tell the encoder in every pixel what clicks tell it in one place, which is what makes a small model on a
    small budget learn; the category head also makes embeddings carry what an object is, as those of a large SAM do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outputs = len(CATEGORIES) + 1 + 2
        self.project = nn.Conv2d(CHANNELS, self.outputs * 4, 1)

    def loss(self, embeddings: th.Tensor, batch: Batch) -> th.Tensor:
        dense = F.pixel_shuffle(self.project(embeddings), 2)
        logits, offset = dense[:, :-2], dense[:, -2:]
        on_object = (batch.category < len(CATEGORIES))[:, None]
        distance = (F.smooth_l1_loss(offset, batch.offset, reduction="none") * on_object).sum() / on_object.sum().clamp(
            1
        )
        return F.cross_entropy(logits, batch.category) + 0.5 * distance
