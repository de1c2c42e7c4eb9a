"""Photographs that no dataset holds, as what an environment takes for one: a vocabulary and no episode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sb3_alignsam.datasets.base import Sample, check_categories


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


def unseen_sample(image: np.ndarray, category: str) -> Sample:
    """A photograph and a category, with no ground truth. :param image: (H, W, 3) uint8 RGB."""
    shape = image.shape[:2]
    return Sample(image, category, 0, np.zeros((0, *shape), bool), np.zeros(shape, bool), 0, ())
