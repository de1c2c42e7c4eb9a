"""The photographs that an annotation file names: found in their folder only, and read once they are what it states."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import numpy as np

from sb3_alignsam.datasets.coco_annotations import CocoImage
from sb3_alignsam.datasets.findings import DatasetError, Fault, Finding
from sb3_alignsam.datasets.photographs import DATASET_FORMATS, photograph_size, read_photograph
from sb3_alignsam.errors import InputError


class ImageFolder:
    """The photographs of an annotation file.

    :param path: their folder; it may be a link. :param source: the annotation file, which messages name.
    """

    def __init__(self, path: Path, source: Path) -> None:
        self.path = path
        self.source = source
        self._real = os.path.join(os.path.realpath(path), "")

    def read(self, image_id: int, image: CocoImage) -> np.ndarray:
        """The photograph, (H, W, 3) uint8, RGB.

        :raises DatasetError: it is missing, lies outside the folder, is no JPEG or PNG, is damaged, too large or not of
            the stated size.
        """
        # The header is read twice, which takes a tenth of a millisecond: no pixel is decoded of what is refused.
        path = self.check(image_id, image)
        try:
            return read_photograph(path, DATASET_FORMATS)
        except InputError as error:
            self._refuse("image", image_id, image, str(error))

    def check(self, image_id: int, image: CocoImage) -> Path:
        """Everything that `read` asks for but that its pixels are whole.

        :return: its path. :raises DatasetError: as `read` does.
        """
        path = self.path / image.file_name
        if not os.path.realpath(path).startswith(self._real):
            self._refuse("outside", image_id, image, f"{path} leads out of {self.path}; put the file itself there")
        try:
            size = photograph_size(path, DATASET_FORMATS)
        except InputError as error:
            self._refuse("image", image_id, image, str(error))
        if size != (image.height, image.width):
            message = (
                f"it is stated to be {image.width}x{image.height}, but {path} is {size[1]}x{size[0]}; put the right "
                "file there or correct the annotation file"
            )
            self._refuse("image-size", image_id, image, message)
        return path

    def _refuse(self, kind: str, image_id: int, image: CocoImage, message: str) -> NoReturn:
        fault = Fault(kind, "", image.file_name, message)
        raise DatasetError(Finding.of(fault, self.source, "images", image_id))
