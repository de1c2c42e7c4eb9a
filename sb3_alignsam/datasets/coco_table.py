"""An opened annotation file: its records by image. Segmentations stay in the file until they are asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sb3_alignsam.datasets.coco_annotations import CocoColumns, CocoImage, decode_bytes
from sb3_alignsam.errors import InputError


class CocoAnnotation(NamedTuple):
    """One entry of `annotations`; `area` in pixels², as stated; `span`: where its segmentation stands in the file."""

    id: int
    category_id: int
    area: float
    crowd: bool
    span: tuple[int, int]


class CocoTable:
    """The usable records of an annotation file. Pickled, it carries its columns, unless they are those of an index.

    :param path: of the file. :param stamp: its size in bytes and its time in nanoseconds when it was read.
    :param columns: of `read_annotations`. :param skipped: how many records were left out, by
        the name of their list.
    """

    def __init__(self, path: Path, stamp: tuple[int, int], columns: CocoColumns, skipped: Mapping[str, int]) -> None:
        self.path = path
        self.columns = columns
        self.skipped = dict(skipped)
        self._stamp = stamp

    @property
    def categories(self) -> dict[int, str]:
        """Names by category id, ids ascending."""
        return self.columns.categories

    def image(self, image_id: int) -> CocoImage:
        """:raises KeyError: no usable image has that id."""
        row, columns = self._row(image_id), self.columns
        name = columns.names[columns.name_ends[row - 1] if row else 0 : columns.name_ends[row]].tobytes().decode()
        height, width = columns.sizes[row].tolist()
        return CocoImage(name, height, width)

    def annotations(self, image_id: int) -> list[CocoAnnotation]:
        """Of an image, ids ascending. :raises KeyError: no usable image has that id."""
        row, columns = self._row(image_id), self.columns
        rows = slice(columns.ends[row - 1] if row else 0, columns.ends[row])
        parts = (columns.ids, columns.category_ids, columns.areas, columns.crowds, columns.spans)
        return [
            CocoAnnotation(identity, category_id, area, crowd, (start, size))
            for identity, category_id, area, crowd, (start, size) in zip(
                *(part[rows].tolist() for part in parts), strict=True
            )
        ]

    def segmentation(self, annotation: CocoAnnotation) -> Any:
        """As it stands in the file, decoded but not checked.

        :raises InputError: the file is gone or is another one than was opened.
        """
        start, size = annotation.span
        try:
            with self.path.open("rb") as file:
                if stamp(os.fstat(file.fileno())) != self._stamp:
                    raise InputError(f"the annotation file {self.path} has changed since it was opened; start anew")
                file.seek(start)
                return decode_bytes(file.read(size))
        except OSError as error:
            raise InputError(f"the annotation file {self.path} cannot be read any more ({error.strerror})") from error

    def _row(self, image_id: int) -> int:
        row = int(np.searchsorted(self.columns.image_ids, image_id))
        if row == len(self.columns.image_ids) or self.columns.image_ids[row] != image_id:
            raise KeyError(image_id)
        return row


def stamp(status: os.stat_result) -> tuple[int, int]:
    """Tells whether a file has changed: size in bytes and time in nanoseconds."""
    return status.st_size, status.st_mtime_ns
