"""Photographs that no dataset holds: what an environment takes for one, a vocabulary and no episode, and episodes on
them, which nobody scores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch as th

from sb3_alignsam.datasets.base import Sample, check_categories
from sb3_alignsam.envs.episode import Answer, ClickEpisode, enlarged
from sb3_alignsam.envs.rewards import MaskScores


class Unseen:
    """A `Dataset` without a single fixed episode, so that an environment can be made where there is no ground truth.

    :param categories: the vocabulary that the agent was trained with, in its order.
    """

    name = "unseen"
    split = "none"
    in_files = True

    def __init__(self, categories: Sequence[str]) -> None:
        self._categories = tuple(categories)

    @property
    def categories(self) -> tuple[str, ...]:
        """The whole vocabulary, in the order of the `target_category` observation."""
        return self._categories

    def __len__(self) -> int:
        """None: episodes are made of the photographs that a user brings, see `unseen_sample`."""
        return 0

    def configure_targets(self, categories: Sequence[str] | None) -> tuple[list[int], list[int]]:
        """Nothing is drawn here, so there is nothing to restrict."""
        check_categories(categories or (), self.categories, "the agent's vocabulary")
        return [], []

    def draw(self, rng: np.random.Generator) -> int:
        """:raises IndexError: always; there is no episode."""
        raise IndexError("there are no fixed episodes of unseen photographs")

    def sample(self, rng: np.random.Generator, categories: Sequence[str] | None = None) -> Sample:
        """:raises IndexError: always; there is no episode."""
        return self.get(self.draw(rng))

    def get(self, index: int) -> Sample:
        """:raises IndexError: always; there is no episode."""
        raise IndexError(f"there is no episode {index} of unseen photographs")


class LateAnswer(Answer):
    """An answer without ground truth, whose mask is made when it is first looked at.

    :param low_res: logits, (1, 4h, 4w). :param predicted_iou: see `Answer`. :param shape: (H, W) of the photograph.
    :param image_size: side of SAM's square. :param excluded: pixels of objects found before, (H, W) bool.
    """

    def __init__(
        self, low_res: th.Tensor, predicted_iou: float, shape: tuple[int, int], image_size: int, excluded: np.ndarray
    ) -> None:
        # `Answer` is frozen, and two of its fields are not known yet.
        vars(self).update(predicted_iou=predicted_iou, scores=MaskScores(0.0, 0.0), score=0.0)
        vars(self).update(_of=(low_res, shape, image_size, excluded))

    @cached_property
    def _enlarged(self) -> tuple[np.ndarray, float]:
        return enlarged(*vars(self)["_of"])

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool."""
        return self._enlarged[0]

    @property
    def excluded_share(self) -> float:
        """See `Answer`."""
        return self._enlarged[1]


class UnseenEpisode(ClickEpisode):
    """An episode without ground truth. Nothing scores its masks, and most are never looked at: at twelve megapixels it
    takes longer to enlarge one than to make it."""

    def _answer(self, mask: np.ndarray, predicted_iou: float, excluded_share: float = 0.0) -> Answer:
        return Answer(mask, predicted_iou, MaskScores(0.0, 0.0), 0.0, excluded_share)

    def _look(self, low_res: th.Tensor, predicted_iou: float, image_size: int) -> Answer:
        return LateAnswer(low_res, predicted_iou, self.image_size, image_size, self.excluded)


def unseen_sample(image: np.ndarray, category: str) -> Sample:
    """A photograph and a category, with no ground truth. :param image: (H, W, 3) uint8 RGB."""
    shape = image.shape[:2]
    return Sample(image, category, 0, np.zeros((0, *shape), bool), np.zeros(shape, bool), 0, ())
