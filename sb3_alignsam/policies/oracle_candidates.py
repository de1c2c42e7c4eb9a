"""How much of the error is SAM's choice among its own masks: an oracle that clicks and also chooses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch as th

from sb3_alignsam.envs.episode import ClickEpisode
from sb3_alignsam.envs.rewards import mask_scores
from sb3_alignsam.perception.clicks import Click, Clicks, oracle_click
from sb3_alignsam.perception.segmenter import MASK_THRESHOLD, Masks, Segmenter, upsample_logits
from sb3_alignsam.policies.clickers import NextClick, Proposal, State


class OracleBestOfThree:
    """RITM's click on ground truth, then that one of SAM's candidate masks with the highest true IoU.

    The candidates are SAM's three, and after the first click the single mask too, which an episode would take there.
    The chosen one is handed on with SAM's own predicted IoU, so the episode's answer is still chosen by that: ground
    truth enters what this clicker proposes and nothing else.

    :param segmenter: the environment's.
    """

    name = "oracle_best_of_three"
    uses_ground_truth = True

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter

    def next_clicks(self, states: Sequence[State]) -> list[NextClick]:
        """See `Clicker`."""
        episodes = [state.episode for state in states]
        clicks = [_click(episode) for episode in episodes]
        candidates = [self._segment(episodes, clicks, multimask=True)]
        if episodes[0].clicks:
            candidates.append(self._segment(episodes, clicks, multimask=False))
        low_res = th.cat([masks.low_res for masks in candidates], dim=1)
        iou = th.cat([masks.iou for masks in candidates], dim=1)
        return [
            self._best(episode, click, low_res[row], iou[row])
            for row, (episode, click) in enumerate(zip(episodes, clicks, strict=True))
        ]

    def _segment(self, episodes: Sequence[ClickEpisode], clicks: Sequence[Click], multimask: bool) -> Masks:
        """Masks of each episode's clicks and one more; all episodes have made equally many."""
        logits = [episode.low_res for episode in episodes if episode.low_res is not None]
        return self.segmenter.segment(
            [episode.embedding_on(self.segmenter.device) for episode in episodes],
            [Clicks.of([*episode.clicks, click]) for episode, click in zip(episodes, clicks, strict=True)],
            [episode.image_size for episode in episodes],
            logits or None,
            multimask,
        )

    def _best(self, episode: ClickEpisode, click: Click, low_res: th.Tensor, iou: th.Tensor) -> Proposal:
        """:param low_res: (M, 4h, 4w) logits. :param iou: (M,) predicted."""
        logits = upsample_logits(low_res, episode.image_size, self.segmenter.image_size)
        masks = (logits > MASK_THRESHOLD).cpu().numpy() & ~episode.excluded
        true = [mask_scores(mask, episode.gt(mask), episode.ignore).iou for mask in masks]
        best = int(np.argmax(true))
        return Proposal((click,), low_res[best : best + 1], float(iou[best]))


def _click(episode: ClickEpisode) -> Click:
    mask = episode.last.mask
    return oracle_click(episode.gt(mask), mask, episode.ignore, episode.clicks)
