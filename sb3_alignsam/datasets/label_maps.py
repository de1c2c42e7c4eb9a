"""Images whose ground truth is an image too: each pixel's number says what is there. ADE20K and Cityscapes derive."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sb3_alignsam.datasets.base import Sample, check_categories
from sb3_alignsam.datasets.coco import DEFAULT_MIN_AREA
from sb3_alignsam.datasets.findings import Findings
from sb3_alignsam.datasets.label_files import UNLABELLED, LabelledSplit, check_size, photograph_of
from sb3_alignsam.datasets.label_index import read_contents
from sb3_alignsam.errors import InputError


class LabelMapDataset:
    """The episodes of one split, ordered by image id, then category id, as those of `CocoDataset`.

    An episode is an image and a category that has an instance of `min_area` or more there. The category's groups and
    smaller instances, and whatever is not labelled, are `Sample.ignore`. What each label image holds is found out when
    the folder is opened for the first time, and kept beside it, see `read_contents`.

    :param root: folder of the dataset. :param split: name of the split.
    :param files: where the split's images and labels lie.
    :param vocabulary: names by category id, ids ascending from 1.
    :param min_area: least area of a usable instance, in pixels², 0 or more.
    :param categories: names of the categories that may be targets (None: all), as for `configure_targets`.
    :param keep_image: whether the image of an id belongs to this part of the split; None: every image does.
    :raises InputError: a file is missing or malformed, a category is unknown, or no episode is left.
    """

    name = "label maps"
    in_files = True

    def __init__(
        self,
        root: Path,
        split: str,
        files: LabelledSplit,
        vocabulary: Mapping[int, str],
        *,
        min_area: float = DEFAULT_MIN_AREA,
        categories: Sequence[str] | None = None,
        keep_image: Callable[[int], bool] | None = None,
    ) -> None:
        if not (math.isfinite(min_area) and min_area >= 0):
            raise InputError(f"min_area is {min_area}; it must be a number of pixels² from 0 up")
        self.root, self.split, self.min_area = root, split, min_area
        self._vocabulary = dict(vocabulary)
        self._files, self._images = files, files.images(Findings(strict=True))
        contents = read_contents(root, f"{self.name} {split}", files, self._images)
        kept = np.array([keep_image is None or keep_image(each.image_id) for each in self._images], bool)
        self._contents = contents[kept[contents[:, 0]]]
        self.configure_targets(categories)

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of all categories, by ascending category id."""
        return tuple(self._vocabulary.values())

    def __len__(self) -> int:
        """Number of (image, target category) pairs under the configured targets."""
        return len(self._episodes)

    def configure_targets(self, categories: Sequence[str] | None) -> tuple[list[int], list[int]]:
        """Restrict the targets to some categories (None: all of them).

        :return: the ids of the target categories and of the images that hold a usable instance of one, ascending.
        :raises InputError: a name is unknown, or no image holds one; the targets stay as they were.
        """
        self._episodes = self._episodes_of(categories)
        self._starts = np.flatnonzero(np.diff(self._episodes[:, 0], prepend=-1))
        targets = self.categories if categories is None else categories
        self._targets = [identity for identity, name in self._vocabulary.items() if name in targets]
        return list(self._targets), np.unique(self.pairs()[:, 0]).tolist()

    def pairs(self) -> np.ndarray:
        """Image id and category id of each episode, (N, 2) int64."""
        ids = np.array([each.image_id for each in self._images], np.int64)
        return np.stack([ids[self._episodes[:, 0]], self._episodes[:, 1]], axis=1)

    def draw(self, rng: np.random.Generator) -> int:
        """The index of an episode: an image, each as likely, then one of its target categories, each as likely."""
        chosen = int(rng.integers(len(self._starts)))
        ends = np.append(self._starts[1:], len(self))
        return int(rng.integers(self._starts[chosen], ends[chosen]))

    def sample(self, rng: np.random.Generator, categories: Sequence[str] | None = None) -> Sample:
        """Draw one episode, see `draw`.

        :param categories: the draw's target categories, in place of the configured ones.
        :raises InputError: a name is unknown, no image holds one of them, or a file is missing or malformed.
        """
        if categories is None:
            return self.get(self.draw(rng))
        episodes = self._episodes_of(categories)
        image = rng.choice(np.unique(episodes[:, 0]))
        return self._read(*(int(each) for each in rng.choice(episodes[episodes[:, 0] == image])))

    def get(self, index: int) -> Sample:
        """The episode of that index, always the same.

        :raises IndexError: `index` is not in ``0 <= index < len(self)``.
        :raises InputError: one of its files is missing or malformed.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"there is no episode {index}; the {self.split} split has {len(self)}")
        return self._read(*self._episodes[index].tolist())

    def get_absent(self, index: int, choice: int) -> Sample:
        """On the image of an episode, one of a target category that has no pixel there, see `Dataset`."""
        position = int(self._episodes[index, 0])
        there = self._contents[self._contents[:, 0] == position, 1]
        absent = [identity for identity in self._targets if identity not in there]
        return self._read(position, absent[choice % len(absent)]) if absent else self.get(index)

    def image_indices(self) -> list[int]:
        """The first episode of each image."""
        return self._starts.tolist()

    def _episodes_of(self, categories: Sequence[str] | None) -> np.ndarray:
        """Position of the image and category id of each episode, (N, 2) int64; at least one."""
        episodes = self._contents[self._contents[:, 2] >= max(self.min_area, 1), :2]
        if categories is not None:
            names = check_categories(categories, self.categories, self.name)
            ids = [identity for identity, name in self._vocabulary.items() if name in names]
            episodes = episodes[np.isin(episodes[:, 1], ids)]
        if not len(episodes):
            raise InputError(
                f"{self.root}: the images of the {self.split} split hold no episode: no instance of the categories "
                f"asked for has an area of {self.min_area:g} pixels or more; lower min_area or allow other categories"
            )
        return episodes

    def _read(self, position: int, category_id: int) -> Sample:
        labelled = self._images[position]
        self._files.check_places(labelled)
        image, labels = photograph_of(labelled), self._files.read(labelled)
        check_size(labelled, image.shape[:2], labels)
        areas = labels.areas()
        own = labels.categories == category_id
        usable = own & ~labels.groups & (areas >= max(self.min_area, 1))
        segments = np.flatnonzero(usable)
        instances = np.zeros((len(segments), *labels.of_pixel.shape), bool)
        for row, segment in enumerate(segments):
            instances[row] = labels.of_pixel == segment
        ignored = (own & ~usable) | (labels.categories == UNLABELLED)
        return Sample(
            image=image,
            category=self._vocabulary[category_id],
            category_id=category_id,
            instances=instances,
            ignore=ignored[labels.of_pixel],
            image_id=labelled.image_id,
            instance_ids=tuple(segments.tolist()),
        )


def stable_id(name: str) -> int:
    """A number for an image without one: 48 bits of its name's SHA-256, so that no other image changes it."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
