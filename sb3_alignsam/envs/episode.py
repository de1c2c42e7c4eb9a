"""One episode: an image, a target, the clicks so far and the answer they gave. Plain data and the rules of the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch as th

from sb3_alignsam.datasets.base import Sample
from sb3_alignsam.envs.rewards import MaskScores, Score, mask_scores
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.clicks import Click, Clicks
from sb3_alignsam.perception.segmenter import MASK_THRESHOLD, Segmenter, upsample_logits

Target = Literal["category", "instance"]
AnswerRule = Literal["best_predicted", "last"]
FOUND_IOU = 0.5
"""IoU with an instance from which an answer counts as having found it."""


@dataclass(frozen=True)
class Answer:
    """A full-size mask and what is known of it.

    :param mask: (H, W) bool. :param predicted_iou: the segmenter's own estimate, 0 for the empty mask at the start.
    :param scores: IoU and Dice with ground truth, for rewards and metrics only.
    :param score: the one of them that the episode is scored by.
    :param excluded_share: share of the segmenter's mask, 0 to 1, that belonged to objects already found and was cut
        off; what is left of such an object is a rim, of which the predicted IoU says nothing.
    """

    mask: np.ndarray
    predicted_iou: float
    scores: MaskScores
    score: float
    excluded_share: float = 0.0


@dataclass
class ClickEpisode:
    """An episode of the task (design of the environment: docs/task.md). Ground truth is read for scores only.

    :param sample: image and ground truth.
    :param embedding: SAM's image embedding, (C, h, w) float16.
    :param target: ``category``: the union of the instances; ``instance``: one that was not found yet, the one that
        the answer overlaps most.
    :param answer_rule: ``best_predicted``: the mask of highest predicted IoU so far; ``last``: the latest.
    :param score_kind: ``iou`` or ``dice``.
    :param found: which instances earlier episodes on this image have found, (N,) bool; empty: none has been found.
    :param excluded: pixels of the answers that found them, (H, W) bool; empty: no pixel is.
    :param tokens: CLIP's tokens of the image, (1+N, D) float16; None without a text model.
    :param similarity: maps of the target and of the strongest other category, (2, h, w) float16; None likewise.
    :param index: which of the dataset's episodes it is; None: none of them.
    """

    sample: Sample
    embedding: np.ndarray
    target: Target = "category"
    answer_rule: AnswerRule = "best_predicted"
    score_kind: Score = "iou"
    found: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    excluded: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), bool))
    tokens: np.ndarray | None = None
    similarity: np.ndarray | None = None
    index: int | None = None
    clicks: list[Click] = field(default_factory=list)
    low_res: th.Tensor | None = None
    """Logits of the latest mask, (1, 4h, 4w) float32, fed back with the next click; None before the first."""

    def __post_init__(self) -> None:
        shape = self.image_size
        self.found = self.found if self.found.size else np.zeros(len(self.sample.instances), bool)
        self.excluded = self.excluded if self.excluded.size else np.zeros(shape, bool)
        empty = np.zeros(shape, bool)
        self.last = self.answer = self._answer(empty, 0.0)
        self.best_score = self.answer.score
        self._uploaded: tuple[th.device, th.Tensor] | None = None
        self.constants: tuple[object, dict[str, Any]] | None = None
        """For `Observations.constants`: which made them, and what."""

    def embedding_on(self, device: th.device) -> th.Tensor:
        """SAM's image embedding on a device, (C, h, w) float16; uploaded once, on a processor the array itself."""
        # The device asked for: a tensor moved to `cuda` says `cuda:0`, which is another.
        if self._uploaded is None or self._uploaded[0] != device:
            self._uploaded = device, th.from_numpy(self.embedding).to(device)
        return self._uploaded[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        return self.sample.image.shape[0], self.sample.image.shape[1]

    def gt(self, mask: np.ndarray) -> np.ndarray:
        """Ground truth by which `mask` is judged, (H, W) bool."""
        if self.target == "category":
            return self.sample.union
        left = np.flatnonzero(~self.found)
        if not len(left):
            return np.zeros(self.image_size, bool)
        overlaps = [mask_scores(mask, self.sample.instances[index], self.ignore).iou for index in left]
        if max(overlaps) == 0:  # Nothing is touched yet: the largest instance stands for the target.
            overlaps = [float(np.count_nonzero(self.sample.instances[index])) for index in left]
        return self.sample.instances[left[int(np.argmax(overlaps))]]

    @property
    def ignore(self) -> np.ndarray:
        """Pixels that count for nothing, (H, W) bool."""
        return self.sample.ignore

    def _answer(self, mask: np.ndarray, predicted_iou: float, excluded_share: float = 0.0) -> Answer:
        scores = mask_scores(mask, self.gt(mask), self.ignore)
        score = scores.iou if self.score_kind == "iou" else scores.dice
        return Answer(mask, predicted_iou, scores, score, excluded_share)

    def wanted(self) -> np.ndarray:
        """Where a positive click agrees with ground truth: any instance that is still to be found, (H, W) bool."""
        if self.target == "category":
            return self.sample.union
        return self.sample.instances[~self.found].any(axis=0)

    def click(self, click: Click, segmenter: Segmenter) -> None:
        """Place one click, at any pixel of the image, and take the mask that it gives.

        :raises InputError: the click lies outside the image.
        """
        click_together([self], [click], segmenter)

    def place(self, click: Click) -> None:
        """Note a click whose mask follows by `receive`; so many episodes can share one call of the segmenter."""
        height, width = self.image_size
        if not (0 <= click.x < width and 0 <= click.y < height):
            raise InputError(f"click ({click.x}, {click.y}) lies outside the {width}x{height} image")
        self.clicks.append(click)

    def receive(self, low_res: th.Tensor, iou: th.Tensor, image_size: int) -> None:
        """Take the candidate masks of the click just placed; the one of highest predicted IoU is the mask.

        :param low_res: (M, 4h, 4w) logits. :param iou: (M,) predicted. :param image_size: side of SAM's square.
        """
        values = iou.tolist()
        best = max(range(len(values)), key=values.__getitem__)
        first = self.low_res is None
        self.low_res = low_res[best : best + 1].clone()
        self.last = self._look(self.low_res, values[best], image_size)
        if first or self.answer_rule == "last" or self.last.predicted_iou >= self.answer.predicted_iou:
            self.answer = self.last
        self.best_score = max(self.best_score, self.answer.score)

    def _look(self, low_res: th.Tensor, predicted_iou: float, image_size: int) -> Answer:
        """What a mask answers. :param low_res: its logits, (1, 4h, 4w)."""
        mask, excluded_share = enlarged(low_res, self.image_size, image_size, self.excluded)
        return self._answer(mask, predicted_iou, excluded_share)

    def info(self) -> dict[str, Any]:
        """What is known of it now, as `SamSegEnv` tells it."""
        return {
            "iou": self.answer.scores.iou,
            "dice": self.answer.scores.dice,
            "last_iou": self.last.scores.iou,
            "predicted_iou": self.answer.predicted_iou,
            "image_id": self.sample.image_id,
            "category": self.sample.category,
            "absent": not len(self.sample.instances),
        }

    def next_object(self) -> ClickEpisode | None:
        """With ``target: instance``: an episode for the next object of this image, None where none is left.

        The answer's pixels are excluded from then on, whether or not it found an instance; without a new found
        instance there is no next one, since the same clicks would be made again.
        """
        overlaps = [mask_scores(self.answer.mask, each, self.ignore).iou for each in self.sample.instances]
        hits = np.array([overlap >= FOUND_IOU for overlap in overlaps], bool) & ~self.found
        found = self.found | hits
        if self.target != "instance" or not hits.any() or found.all():
            return None
        return replace(self.fresh(), found=found, excluded=self.excluded | self.answer.mask)

    def fresh(self) -> ClickEpisode:
        """The same episode before its first click."""
        return replace(self, clicks=[], low_res=None)


def enlarged(
    low_res: th.Tensor, shape: tuple[int, int], image_size: int, excluded: np.ndarray
) -> tuple[np.ndarray, float]:
    """A mask at its image's size without what is excluded, (H, W) bool, and `Answer.excluded_share`.

    :param low_res: logits, (1, 4h, 4w). :param shape: (H, W). :param image_size: side of SAM's square.
    :param excluded: (H, W) bool.
    """
    mask = (upsample_logits(low_res, shape, image_size)[0] > MASK_THRESHOLD).cpu().numpy()
    if not excluded.any():
        return mask, 0.0
    share = int(np.count_nonzero(mask & excluded)) / max(int(np.count_nonzero(mask)), 1)
    return mask & ~excluded, share


def click_together(
    episodes: Sequence[ClickEpisode], clicks: Sequence[Click | Sequence[Click] | None], segmenter: Segmenter
) -> None:
    """Place a click, or several at once, in each episode (None: in that one nothing), and take the masks.

    One batched call of the segmenter for those in the same state: single clicks give three candidates, several one, and
    episodes that have a mask feed it back.
    """
    groups: dict[tuple[bool, bool], list[ClickEpisode]] = {}
    for episode, placed in zip(episodes, clicks, strict=True):
        if placed is None:
            continue
        for click in [placed] if isinstance(placed, Click) else placed:
            episode.place(click)
        groups.setdefault((len(episode.clicks) == 1, episode.low_res is None), []).append(episode)
    for group in groups.values():
        previous = None if group[0].low_res is None else [_logits(episode) for episode in group]
        embeddings = [episode.embedding_on(segmenter.device) for episode in group]
        prompts = [Clicks.of(episode.clicks) for episode in group]
        masks = segmenter.segment(embeddings, prompts, [episode.image_size for episode in group], previous)
        for row, episode in enumerate(group):
            episode.receive(masks.low_res[row], masks.iou[row], segmenter.image_size)


def _logits(episode: ClickEpisode) -> th.Tensor:
    if episode.low_res is None:
        raise RuntimeError("a mask is missing: receive() must follow place()")
    return episode.low_res
