"""How far an exported agent is from the one that it was made of: both play the same episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sb3_alignsam.datasets.base import Sample
from sb3_alignsam.envs.rewards import mask_scores
from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.inference.runner import Runner


@dataclass(frozen=True)
class Parity:
    """What both did.

    :param episodes: how many. :param same_clicks: in how many of them every click was the same.
    :param pixels_equal: share of all pixels on which the masks agree. :param worst: the same of the worst episode.
    :param score_difference: largest difference of predicted IoU where the clicks were the same; None: nowhere.
    :param miou: mean IoU of the agent with ground truth. :param exported_miou: of the exported one.
    """

    episodes: int
    same_clicks: int
    pixels_equal: float
    worst: float
    score_difference: float | None
    miou: float
    exported_miou: float

    def figures(self) -> dict[str, Any]:
        """In plain values, for JSON."""
        return asdict(self)


def compare(
    annotator: Annotator, exported: Runner, samples: Sequence[Sample], done: Callable[[], object] = lambda: None
) -> Parity:
    """Let both play an episode on each sample. :param samples: at least one. :param done: called after each."""
    same, differences, shares, sizes, scores = 0, [], [], [], []
    for sample in samples:
        ours = annotator.segment(sample.image, sample.category)
        mask, score, clicks = exported.segment(sample.image, sample.category)
        if [(each.click.x, each.click.y, each.click.positive) for each in ours.clicks] == clicks:
            same += 1
            differences.append(abs(ours.score - score))
        shares.append(float((ours.mask == mask).mean()))
        sizes.append(mask.size)
        scores.append([mask_scores(each, sample.union, sample.ignore).iou for each in (ours.mask, mask)])
        done()
    miou, exported_miou = np.mean(scores, axis=0).tolist()
    equal = float(np.average(shares, weights=sizes))
    worst = max(differences, default=None)
    return Parity(len(samples), same, equal, min(shares), worst, miou, exported_miou)
