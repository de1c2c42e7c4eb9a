"""The files of photographs whose ground truth is an image too: which belong together, and read once they fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sb3_alignsam.datasets.findings import DatasetError, Fault, Finding, Findings, Level
from sb3_alignsam.datasets.photographs import DATASET_FORMATS, photograph_size, read_label_map, read_photograph
from sb3_alignsam.errors import InputError

OTHER, UNLABELLED = 0, -1
"""Category ids of segments: of none of the categories; not labelled, which counts for nothing."""


@dataclass(frozen=True)
class LabelledImage:
    """A photograph and the files that say what is on it.

    :param image_id: the dataset's own id of the image. :param labels: label image first.
    """

    image_id: int
    image: Path
    labels: tuple[Path, ...]


@dataclass(frozen=True)
class Segments:
    """The pieces that label images cut a photograph into.

    :param of_pixel: segment of each pixel, (H, W) integers, ``0 <= segment < S``.
    :param categories: category id of each segment, (S,) int, or `OTHER` or `UNLABELLED`.
    :param groups: whether a segment holds several instances that are not told apart, (S,) bool.
    """

    of_pixel: np.ndarray
    categories: np.ndarray
    groups: np.ndarray

    def areas(self) -> np.ndarray:
        """Pixels of each segment, (S,) int64."""
        return np.bincount(self.of_pixel.ravel(), minlength=len(self.categories))


class LabelledSplit(NamedTuple):
    """One split of a dataset in its folders.

    :param photographs: their folder. :param labels: folder of what belongs to them. Either may be a link.
    :param find: all images whose files are there, in any order; it adds whatever lacks its other half to the findings.
    :param read: an image's segments. It can be pickled, and raises `DatasetError`.
    """

    photographs: Path
    labels: Path
    find: Callable[[Path, Path, Findings], list[LabelledImage]]
    read: Callable[[LabelledImage], Segments]

    def images(self, findings: Findings) -> list[LabelledImage]:
        """Those that can be told apart, ids ascending."""
        kept: list[LabelledImage] = []
        for each in sorted(self.find(self.photographs, self.labels, findings), key=lambda each: each.image_id):
            if kept and kept[-1].image_id == each.image_id:
                message = f"{kept[-1].image} and {each.image} have the same number; rename one of them"
                findings.add(label_fault("id", each.image, message, each.image_id))
            else:
                kept.append(each)
        return kept

    def check_places(self, image: LabelledImage) -> None:
        """:raises DatasetError: a file is missing, or is a link that leads out of both folders."""
        inside = tuple(os.path.join(os.path.realpath(each), "") for each in (self.photographs, self.labels))
        for path in (image.image, *image.labels):
            if not os.path.isfile(path):  # A Path's own raises where it may not look.
                message = f"there is no file {path}; every image needs its labels"
                raise DatasetError(label_fault("missing", path, message, image.image_id))
            if not os.path.realpath(path).startswith(inside):
                message = f"{path} leads out of {self.photographs} and {self.labels}; put the file itself there"
                raise DatasetError(label_fault("outside", path, message, image.image_id))


def label_fault(
    kind: str, file: Path, message: str, image_id: int | None = None, value: Any = None, level: Level = "error"
) -> Finding:
    """What is wrong with a file, as a finding. :param message: names the file."""
    return Finding.of(Fault(kind, "", value, message, level), file, identity=image_id)


def photograph_of(image: LabelledImage) -> np.ndarray:
    """(H, W, 3) uint8, RGB. :raises DatasetError: it is no JPEG or PNG, is damaged or too large."""
    try:
        return read_photograph(image.image, DATASET_FORMATS)
    except InputError as error:
        raise DatasetError(label_fault("image", image.image, str(error), image.image_id)) from error


def size_of(image: LabelledImage) -> tuple[int, int]:
    """Height and width by the photograph's header. :raises DatasetError: as `photograph_of`, pixels apart."""
    try:
        return photograph_size(image.image, DATASET_FORMATS)
    except InputError as error:
        raise DatasetError(label_fault("image", image.image, str(error), image.image_id)) from error


def labels_of(image: LabelledImage, which: int, modes: Sequence[str]) -> np.ndarray:
    """The pixels of one of an image's label images, see `read_label_map`.

    :raises DatasetError: it is no PNG, is damaged, too large or of another mode.
    """
    try:
        return read_label_map(image.labels[which], modes)
    except InputError as error:
        raise DatasetError(label_fault("labels", image.labels[which], str(error), image.image_id)) from error


def check_size(image: LabelledImage, size: tuple[int, ...], segments: Segments) -> None:
    """:param size: the photograph's height and width. :raises DatasetError: they are not those of its labels."""
    height, width = segments.of_pixel.shape
    if size != (height, width):
        message = (
            f"{image.labels[0]} is {width}x{height}, but {image.image} is {size[1]}x{size[0]}; put the file there that "
            "belongs to the photograph"
        )
        raise DatasetError(label_fault("image-size", image.labels[0], message, image.image_id, [width, height]))
