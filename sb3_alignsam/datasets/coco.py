"""A COCO folder, or any folder in its layout, as episodes: one (image, category) pair each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sb3_alignsam.datasets.base import Sample, check_categories
from sb3_alignsam.datasets.coco_annotations import CocoAnnotation, read_annotations
from sb3_alignsam.datasets.coco_masks import decode_segmentation
from sb3_alignsam.datasets.photographs import read_photograph
from sb3_alignsam.errors import InputError

DEFAULT_MIN_AREA = 100.0
"""Least area of an instance to be a target, in pixels². On a photograph of 640 pixels, a usual size in COCO, it is the
area of one patch of a 64 x 64 click grid: what is smaller can hardly be clicked. It goes to `Sample.ignore`."""


class CocoDataset:
    """The episodes of one split, ordered by image id, then category id.

    An episode is an image and a category that has a usable instance there: no crowd, and of area `min_area` or more.
    The category's crowd regions and smaller instances, less the pixels of usable instances, are `Sample.ignore`.
    The annotation file is read once; photographs and masks are decoded when an episode is asked for, and not kept.

    :param root: folder that holds ``annotations/`` and the photographs in ``<split>/`` or ``images/<split>/``.
    :param split: as in the names of files and folders, such as ``train2017``.
    :param annotations: annotation file; None: ``<root>/annotations/instances_<split>.json``.
    :param min_area: least stated `area` of a usable instance, in pixels², 0 or more.
    :param categories: names of the categories that may be targets (None: all), as for `configure_targets`.
    :param keep_image: whether the image of an id belongs to this part of the split; None: every image does.
    :raises InputError: a file or folder is missing or malformed, a category is unknown, or no episode is left.
    """

    name = "coco"
    in_files = True

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        annotations: str | Path | None = None,
        min_area: float = DEFAULT_MIN_AREA,
        categories: Sequence[str] | None = None,
        keep_image: Callable[[int], bool] | None = None,
    ) -> None:
        if not (math.isfinite(min_area) and min_area >= 0):
            raise InputError(f"min_area is {min_area}; it must be a number of pixels² from 0 up")
        self.split = split
        self.min_area = min_area
        self.annotation_file = _find_annotations(Path(root), split, annotations)
        self.image_folder = _find_images(Path(root), split)
        self._content = read_annotations(self.annotation_file)
        self._usable = self._usable_pairs(keep_image)
        self._pairs = self._usable
        self.configure_targets(categories)

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of all categories of the annotation file, by ascending category id."""
        return tuple(self._content.categories.values())

    @property
    def category_ids(self) -> tuple[int, ...]:
        """COCO's ids of `categories`, in the same order."""
        return tuple(self._content.categories)

    def __len__(self) -> int:
        """Number of (image, target category) pairs under the configured targets."""
        return len(self._pairs)

    def configure_targets(self, categories: Sequence[str] | None) -> tuple[list[int], list[int]]:
        """Restrict the targets to some categories (None: all of them).

        :return: the ids of the target categories and of the images that hold a usable instance of one, ascending.
        :raises InputError: a name is unknown, or no image holds one; the targets stay as they were.
        """
        self._pairs = self._pairs_of(categories)
        self._starts = _first_of_each_image(self._pairs)
        targets = self.categories if categories is None else categories
        ids = [identity for identity, name in self._content.categories.items() if name in targets]
        return ids, np.unique(self._pairs[:, 0]).tolist()

    def draw(self, rng: np.random.Generator) -> int:
        """The index of an episode: an image that holds a target, each as likely, then one of its target categories,
        each as likely. So a crowded photograph is drawn no more often than a plain one."""
        return _draw(rng, self._starts, len(self._pairs))

    def sample(self, rng: np.random.Generator, categories: Sequence[str] | None = None) -> Sample:
        """Draw one episode, see `draw`.

        :param categories: the draw's target categories, in place of the configured ones.
        :raises InputError: a name is unknown, no image holds one of them, or a file is missing or malformed.
        """
        pairs, starts = self._pairs, self._starts
        if categories is not None:
            pairs = self._pairs_of(categories)
            starts = _first_of_each_image(pairs)
        return self._read_sample(*pairs[_draw(rng, starts, len(pairs))].tolist())

    def get(self, index: int) -> Sample:
        """The episode of that index, always the same.

        :raises IndexError: `index` is not in ``0 <= index < len(self)``.
        :raises InputError: its photograph or a segmentation is missing or malformed.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"there is no episode {index}; the {self.split} split has {len(self)}")
        return self._read_sample(*self._pairs[index].tolist())

    def pairs(self) -> np.ndarray:
        """Image id and category id of each episode, (N, 2) int64."""
        return self._pairs

    def get_absent(self, index: int, choice: int) -> Sample:
        """On the image of an episode, one of a target category without any annotation there, see `Dataset`."""
        image_id = int(self._pairs[index, 0])
        there = {annotation.category_id for annotation in self._content.annotations[image_id]}
        absent = [identity for identity in np.unique(self._pairs[:, 1]).tolist() if identity not in there]
        if not absent:
            return self.get(index)
        category_id = absent[choice % len(absent)]
        image, name = self._read_image(image_id), self._content.categories[category_id]
        empty = np.zeros((0, *image.shape[:2]), bool)
        return Sample(image, name, category_id, empty, np.zeros(image.shape[:2], bool), image_id, ())

    def image_indices(self) -> list[int]:
        """The first episode of each image."""
        return self._starts.tolist()

    def _usable_pairs(self, keep_image: Callable[[int], bool] | None) -> np.ndarray:
        """Image id and category id of every possible episode, in order, (N, 2) int64."""
        pairs = {
            (image_id, annotation.category_id)
            for image_id, annotations in self._content.annotations.items()
            if keep_image is None or keep_image(image_id)
            for annotation in annotations
            if self._is_usable(annotation)
        }
        return np.array(sorted(pairs), np.int64).reshape(-1, 2)

    def _is_usable(self, annotation: CocoAnnotation) -> bool:
        return not annotation.crowd and annotation.area >= self.min_area

    def _pairs_of(self, categories: Sequence[str] | None) -> np.ndarray:
        """The rows of `_usable_pairs` for some categories (None: all); at least one."""
        pairs, wanted = self._usable, "any category"
        if categories is not None:
            names = check_categories(categories, self.categories, str(self.annotation_file))
            ids = [identity for identity, name in self._content.categories.items() if name in names]
            pairs, wanted = pairs[np.isin(pairs[:, 1], ids)], f"the categories asked for ({', '.join(names)})"
        if not len(pairs):
            raise InputError(
                f"{self.annotation_file} holds no episode: no instance of {wanted} on its images has an area of "
                f"{self.min_area:g} pixels or more; lower min_area or allow other categories"
            )
        return pairs

    def _read_sample(self, image_id: int, category_id: int) -> Sample:
        image = self._read_image(image_id)
        annotations = [entry for entry in self._content.annotations[image_id] if entry.category_id == category_id]
        usable = [entry for entry in annotations if self._is_usable(entry)]
        instances = np.stack([self._mask(entry, image_id) for entry in usable])
        for entry, mask in zip(usable, instances, strict=True):
            if not mask.any():
                raise InputError(
                    f"{self.annotation_file}: annotation {entry.id} covers no pixel but states an area of "
                    f"{entry.area:g}; correct one of them"
                )
        ignore = np.zeros(image.shape[:2], bool)
        for entry in annotations:
            if not self._is_usable(entry):
                ignore |= self._mask(entry, image_id)
        ignore &= ~instances.any(axis=0)
        ids = tuple(entry.id for entry in usable)
        return Sample(image, self._content.categories[category_id], category_id, instances, ignore, image_id, ids)

    def _read_image(self, image_id: int) -> np.ndarray:
        """The photograph, (H, W, 3) uint8, once it has the stated size."""
        entry = self._content.images[image_id]
        where = f"{self.annotation_file}: image {image_id}"
        try:
            image = read_photograph(self.image_folder / entry.file_name)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        height, width = image.shape[:2]
        if (height, width) != (entry.height, entry.width):
            raise InputError(
                f"{where} is stated to be {entry.width}x{entry.height}, but {self.image_folder / entry.file_name} is "
                f"{width}x{height}; put the right file there or correct the annotation file"
            )
        return image

    def _mask(self, annotation: CocoAnnotation, image_id: int) -> np.ndarray:
        entry = self._content.images[image_id]
        source = f"{self.annotation_file}: annotation {annotation.id}"
        return decode_segmentation(annotation.segmentation, entry.height, entry.width, source)


def _first_of_each_image(pairs: np.ndarray) -> np.ndarray:
    """Rows of (image id, category id) pairs, ascending, at which another image begins."""
    return np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))


def _draw(rng: np.random.Generator, starts: np.ndarray, total: int) -> int:
    """A row: first an image, by where its rows start, then one of its rows."""
    chosen = int(rng.integers(len(starts)))
    end = starts[chosen + 1] if chosen + 1 < len(starts) else total
    return int(rng.integers(starts[chosen], end))


def _find_annotations(root: Path, split: str, annotations: str | Path | None) -> Path:
    """The annotation file, once it is there."""
    if not root.is_dir():
        raise InputError(f"there is no dataset folder {root}; check root")
    path = root / "annotations" / f"instances_{split}.json" if annotations is None else Path(annotations)
    if not path.is_file():
        found = sorted(other.stem.removeprefix("instances_") for other in path.parent.glob("instances_*.json"))
        hint = f"splits found there: {', '.join(found)}" if found else "check root, split and annotations"
        raise InputError(f"there is no annotation file {path}; {hint}")
    return path


def _find_images(root: Path, split: str) -> Path:
    """The folder of the split's photographs, once it is there."""
    folders = (root / split, root / "images" / split)
    for folder in folders:
        if folder.is_dir():
            return folder
    raise InputError(f"there is no image folder {folders[0]} nor {folders[1]}; check root and split")
