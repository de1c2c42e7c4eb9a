"""A COCO folder, or any folder in its layout, as episodes: one (image, category) pair each."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sb3_alignsam.datasets.base import Sample, check_categories
from sb3_alignsam.datasets.coco_images import ImageFolder
from sb3_alignsam.datasets.coco_index import open_annotations
from sb3_alignsam.datasets.coco_masks import decode_segmentation
from sb3_alignsam.datasets.coco_table import CocoAnnotation
from sb3_alignsam.errors import InputError

DEFAULT_MIN_AREA = 100.0
"""Least area of an instance to be a target, in pixels². On a photograph of 640 pixels, a usual size in COCO, it is the
area of one patch of a 64 x 64 click grid: what is smaller can hardly be clicked. It goes to `Sample.ignore`."""

MAX_MASK_PIXELS = 2**29
"""Most pixels that an episode's masks may have together: 512 MiB. A hundred instances of COCO have 2**25."""


class CocoDataset:
    """The episodes of one split, ordered by image id, then category id.

    An episode is an image and a category that has a usable instance there: no crowd, and of area `min_area` or more.
    The category's crowd regions and smaller instances, less the pixels of usable instances, are `Sample.ignore`.
    All records of the annotation file are checked when it is opened, and of a large one an index is kept, see
    `open_annotations`; photographs and masks are decoded when an episode is asked for, and not kept.

    :param root: folder that holds ``annotations/`` and the photographs in ``<split>/`` or ``images/<split>/``.
    :param split: as in the names of files and folders, such as ``train2017``.
    :param annotations: annotation file; None: ``<root>/annotations/instances_<split>.json``.
    :param min_area: least stated `area` of a usable instance, in pixels², 0 or more.
    :param categories: names of the categories that may be targets (None: all), as for `configure_targets`.
    :param keep_image: whether the image of an id belongs to this part of the split; None: every image does.
    :param lenient: leave out, with a warning of how many, records that cannot be used, and images whose file is
        missing, is no JPEG or PNG or has not the stated size; every photograph's header is read for that, in some
        tenth of a millisecond. Else the first such record refuses the dataset, and such a photograph its episodes.
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
        lenient: bool = False,
    ) -> None:
        if not (math.isfinite(min_area) and min_area >= 0):
            raise InputError(f"min_area is {min_area}; it must be a number of pixels² from 0 up")
        self.split = split
        self.min_area = min_area
        self.annotation_file = _find_annotations(Path(root), split, annotations)
        self.image_folder = find_images(Path(root), split)
        self._lenient = lenient
        self.table = open_annotations(self.annotation_file, lenient)
        self._images = ImageFolder(self.image_folder, self.annotation_file)
        self._usable = self._usable_pairs(keep_image)
        if lenient:
            self._usable = self._with_photographs(self._usable)
        self._pairs = self._usable
        self.configure_targets(categories)

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of all categories of the annotation file, by ascending category id."""
        return tuple(self.table.categories.values())

    @property
    def category_ids(self) -> tuple[int, ...]:
        """COCO's ids of `categories`, in the same order."""
        return tuple(self.table.categories)

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
        self._targets = np.unique(self._pairs[:, 1]).tolist()
        targets = self.categories if categories is None else categories
        ids = [identity for identity, name in self.table.categories.items() if name in targets]
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
        there = {annotation.category_id for annotation in self.table.annotations(image_id)}
        absent = [identity for identity in self._targets if identity not in there]
        if not absent:
            return self.get(index)
        category_id = absent[choice % len(absent)]
        image, name = self._read_image(image_id), self.table.categories[category_id]
        empty = np.zeros((0, *image.shape[:2]), bool)
        return Sample(image, name, category_id, empty, np.zeros(image.shape[:2], bool), image_id, ())

    def image_indices(self) -> list[int]:
        """The first episode of each image."""
        return self._starts.tolist()

    def _usable_pairs(self, keep_image: Callable[[int], bool] | None) -> np.ndarray:
        """Image id and category id of every possible episode, in order, (N, 2) int64."""
        columns = self.table.columns
        image_ids = np.repeat(columns.image_ids, np.diff(columns.ends, prepend=0))
        usable = ~columns.crowds & (columns.areas >= self.min_area)
        if keep_image is not None:
            kept = np.array([keep_image(each) for each in columns.image_ids.tolist()], bool)
            usable &= np.repeat(kept, np.diff(columns.ends, prepend=0))
        pairs = np.stack([image_ids[usable], columns.category_ids[usable]], axis=1)
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
        return pairs[(np.diff(pairs, axis=0, prepend=-1) != 0).any(axis=1)]

    def _with_photographs(self, pairs: np.ndarray) -> np.ndarray:
        """Those pairs whose photograph is what the annotation file states, as far as its header tells."""
        missing = []
        for image_id in np.unique(pairs[:, 0]).tolist():
            try:
                self._images.check(image_id, self.table.image(image_id))
            except InputError as error:
                missing.append(image_id)
                reason = error
        if missing:
            message = f"left out {len(missing)} images, because their files cannot be used; the last one: {reason}"
            warnings.warn(message, RuntimeWarning, stacklevel=3)
        return pairs[~np.isin(pairs[:, 0], missing)]

    def _is_usable(self, annotation: CocoAnnotation) -> bool:
        return not annotation.crowd and annotation.area >= self.min_area

    def _pairs_of(self, categories: Sequence[str] | None) -> np.ndarray:
        """The rows of `_usable_pairs` for some categories (None: all); at least one."""
        pairs, wanted = self._usable, "any category"
        if categories is not None:
            names = check_categories(categories, self.categories, str(self.annotation_file))
            ids = [identity for identity, name in self.table.categories.items() if name in names]
            pairs, wanted = pairs[np.isin(pairs[:, 1], ids)], f"the categories asked for ({', '.join(names)})"
        if not len(pairs):
            raise InputError(
                f"{self.annotation_file} holds no episode: no instance of {wanted} on its images has an area of "
                f"{self.min_area:g} pixels or more; lower min_area or allow other categories"
            )
        return pairs

    def _read_sample(self, image_id: int, category_id: int) -> Sample:
        image = self._read_image(image_id)
        size = image.shape[:2]
        annotations = [each for each in self.table.annotations(image_id) if each.category_id == category_id]
        usable = [each for each in annotations if self._is_usable(each)]
        if len(usable) * image.shape[0] * image.shape[1] > MAX_MASK_PIXELS:
            raise InputError(
                f"{self.annotation_file}: image {image_id} has {len(usable)} instances of category {category_id}; "
                f"their masks have more than {MAX_MASK_PIXELS} pixels together; make the image smaller"
            )
        masks = [(each.id, self._mask(each, size)) for each in usable]
        for (identity, mask), each in zip(masks, usable, strict=True):
            if not mask.any() and not self._lenient:
                raise InputError(
                    f"{self.annotation_file}: annotation {identity} covers no pixel but states an area of "
                    f"{each.area:g}; correct one of them"
                )
        masks = [(identity, mask) for identity, mask in masks if mask.any()]
        instances = np.stack([mask for _, mask in masks]) if masks else np.zeros((0, *size), bool)
        ignore = np.zeros(size, bool)
        for each in annotations:
            if not self._is_usable(each):
                ignore |= self._mask(each, size)
        ignore &= ~instances.any(axis=0)
        ids = tuple(identity for identity, _ in masks)
        return Sample(image, self.table.categories[category_id], category_id, instances, ignore, image_id, ids)

    def _read_image(self, image_id: int) -> np.ndarray:
        """The photograph, (H, W, 3) uint8, once it is what the annotation file states."""
        return self._images.read(image_id, self.table.image(image_id))

    def _mask(self, annotation: CocoAnnotation, size: tuple[int, ...]) -> np.ndarray:
        source = f"{self.annotation_file}: annotation {annotation.id}"
        return decode_segmentation(self.table.segmentation(annotation), size[0], size[1], source)


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


def find_images(root: Path, split: str) -> Path:
    """The folder of the split's photographs, once it is there."""
    folders = (root / split, root / "images" / split)
    for folder in folders:
        if folder.is_dir():
            return folder
    raise InputError(f"there is no image folder {folders[0]} nor {folders[1]}; check root and split")
