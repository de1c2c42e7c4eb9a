"""What every dataset hands to the rest of the package: one `Sample` an episode, by one small protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Protocol

import numpy as np

from sb3_alignsam.errors import InputError


@dataclass(frozen=True)
class Sample:
    """An image, a target category and the ground truth of that category. Arrays are read-only by convention.

    :param image: photograph, (H, W, 3) uint8, RGB.
    :param category: name of the target category.
    :param category_id: the dataset's own id of that category.
    :param instances: visible pixels of each instance of the category, (N, H, W) bool; N may be 0 where it is absent.
    :param ignore: pixels that count for nothing, neither right nor wrong (crowds, ignore labels), (H, W) bool.
    :param image_id: the dataset's own id of the image.
    :param instance_ids: the dataset's own id of each instance, N of them.
    """

    image: np.ndarray
    category: str
    category_id: int
    instances: np.ndarray
    ignore: np.ndarray
    image_id: int
    instance_ids: tuple[int, ...]

    @cached_property
    def union(self) -> np.ndarray:
        """Pixels of any instance of the category, (H, W) bool."""
        return np.asarray(self.instances.any(axis=0))


class Dataset(Protocol):
    """A collection of fixed episodes: one index is one (image, target category) pair.

    A dataset whose images lie in files may say so by an attribute ``in_files = True``: then what the frozen networks
    make of them is kept in the user's cache folder. Some methods may be left out:

    ``pairs()`` gives the image id and category id of each episode, (N, 2) int64. Where it is there, episodes can be
    drawn by other rules than `draw`, see `Sampler`, and a run records its images' ids.

    ``get_absent(index, choice)`` gives a `Sample` on the image of an episode whose category is one of the configured
    targets that are *not* on it, the one that a whole number `choice` picks, with no instance; the episode itself where
    all are. It is needed for ``absent_rate``.

    A dataset without ``pairs()`` may have ``get_all(index)`` instead: a `Sample` for each target category on the image
    of an episode, that episode's first; see `samples_of_draw`.
    """

    name: str
    split: str

    @property
    def categories(self) -> tuple[str, ...]:
        """The whole vocabulary, in the order of the `target_category` observation."""

    def __len__(self) -> int:
        """Number of (image, target category) pairs under the configured targets."""

    def configure_targets(self, categories: Sequence[str] | None) -> tuple[list[int], list[int]]:
        """Restrict the targets to some categories (None: all of them).

        :return: the ids of the target categories and of the images that hold one (empty where the split is endless).
        :raises InputError: a name is not in `categories`.
        """

    def draw(self, rng: np.random.Generator) -> int:
        """Draw the index of an episode to train on; cheap, so that what it stands for can be loaded elsewhere."""

    def sample(self, rng: np.random.Generator, categories: Sequence[str] | None = None) -> Sample:
        """Draw one episode, ``get(draw(rng))``; with `categories`, one whose target is among them."""

    def get(self, index: int) -> Sample:
        """The episode of that index, always the same, ``0 <= index < len(self)``."""


def check_categories(asked: Sequence[str], known: Sequence[str], source: str) -> list[str]:
    """Return `asked` as a list without repeats once every name is known.

    :raises InputError: names the first unknown category and its nearest matches.
    """
    for name in asked:
        if name not in known:
            near = get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known[:12])}"
            raise InputError(f"category '{name}' is not in {source}; {hint}")
    return list(dict.fromkeys(asked))
