"""A folder of photographs, one after the other: what the agent found in each, as plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as native

import sb3_alignsam
from sb3_alignsam.datasets.base import check_categories
from sb3_alignsam.datasets.coco_annotations import CocoImage, read_image_list
from sb3_alignsam.datasets.coco_images import ImageFolder
from sb3_alignsam.datasets.photographs import read_upright
from sb3_alignsam.errors import InputError
from sb3_alignsam.inference.annotator import Annotator, Result
from sb3_alignsam.inference.click_files import DIGITS, click_entry
from sb3_alignsam.inference.progress import Progress

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".pbm", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
"""What a file's name ends with that is taken for an image where no annotation file names them; case does not matter."""


@dataclass(frozen=True)
class AnnotationFile:
    """The names and ids of a COCO file, whose annotations are not read.

    :param path: of the file. :param images: id and stated size by file name. :param categories: id by name.
    """

    path: Path
    images: dict[str, tuple[int, CocoImage]]
    categories: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> AnnotationFile:
        """:raises InputError: the file cannot be used, or two of its images have one file name."""
        names, images = read_image_list(path)
        by_name = {image.file_name: (identity, image) for identity, image in images.items()}
        if len(by_name) < len(images):
            raise InputError(f"{path}: two images have the same file_name, so that results could belong to either")
        return cls(path, by_name, {name: identity for identity, name in names.items()})


@dataclass(frozen=True)
class FolderJob:
    """What to do with a folder.

    :param images: the folder; its subfolders are searched too.
    :param categories: what to look for in each image, in this order.
    :param annotations: which images, and their stated sizes; pixels are then read as COCO's are, EXIF orientation off.
        None: every image, turned upright.
    :param most: objects of a category in an image at most; counts for agents of ``target: instance``.
    """

    images: Path
    categories: tuple[str, ...]
    annotations: AnnotationFile | None
    most: int

    def check(self, annotator: Annotator) -> None:
        """:raises InputError: the folder is missing, or a category cannot be asked for."""
        if not self.images.is_dir():
            raise InputError(f"there is no image folder {self.images}; check --images")
        for name in self.categories:
            annotator.check_category(name)
        if self.annotations is not None:
            check_categories(self.categories, list(self.annotations.categories), str(self.annotations.path))

    def configuration(self, annotator: Annotator, env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """All that decides what is found in an image, for `Progress`."""
        return {
            "version": sb3_alignsam.__version__,
            "agent": hashlib.sha256(annotator.zip_path.read_bytes()).hexdigest(),
            "env-kwargs": dict(env_kwargs),
            "categories": list(self.categories),
            "max-objects": self.most,
            "annotations": self.annotations and hashlib.sha256(self.annotations.path.read_bytes()).hexdigest(),
        }

    def names(self) -> list[str]:
        """Images to work on, paths below the folder with ``/`` between, sorted.

        :raises InputError: there is none.
        """
        found = self.images_in_folder()
        if self.annotations is not None:
            found = sorted(name for name in self.annotations.images if (self.images / name).is_file())
        if not found:
            wanted = f"that {self.annotations.path} names" if self.annotations else f"({', '.join(SUFFIXES)})"
            raise InputError(f"{self.images} holds no image {wanted}; check --images")
        return found

    def images_in_folder(self) -> list[str]:
        """Every file of the folder and its subfolders whose name is an image's, sorted."""
        paths = (path for path in self.images.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        return sorted(path.relative_to(self.images).as_posix() for path in paths)


def annotate_folder(
    annotator: Annotator, job: FolderJob, names: Sequence[str], progress: Progress, done: Callable[[], object]
) -> Iterator[dict[str, Any]]:
    """Go through a folder's images; what `progress` holds already is not done again, unless the file has changed.

    :param done: called after each image. :return: each image's entry, in the order of `names`.
    :raises InputError: an entry cannot be kept.
    """
    for name in names:
        path = job.images / name
        stamp = _stamp(path)
        entry = progress.entries.get(name)
        if entry is None or "objects" not in entry or entry.get("stamp") != stamp:  # An unreadable one is tried again.
            entry = {"image": name, "stamp": stamp, **_annotate(annotator, job, name)}
            progress.add(entry)
        done()
        yield entry


def _stamp(path: Path) -> list[int]:
    """Tells whether a file has changed since it was read: size in bytes and time in nanoseconds."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _annotate(annotator: Annotator, job: FolderJob, name: str) -> dict[str, Any]:
    try:
        image = _read(job, name)
    except InputError as error:
        return {"error": str(error)}
    objects: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    one_by_one = annotator.env.target == "instance"
    for category in job.categories:
        results = annotator.segment_objects(image, category, job.most if one_by_one else 1)
        for result in results:
            about = _about(category, result)
            if not result.mask.any() or (one_by_one and result.fault):
                left_out.append({**about, "reason": result.fault})
            else:
                objects.append({**about, **_runs(result.mask)})
    return {"width": image.shape[1], "height": image.shape[0], "objects": objects, "left_out": left_out}


def _read(job: FolderJob, name: str) -> np.ndarray:
    if job.annotations is None:
        return read_upright(job.images / name)
    return ImageFolder(job.images, job.annotations.path).read(*job.annotations.images[name])


def _about(category: str, result: Result) -> dict[str, Any]:
    return {
        "category": category,
        "score": round(result.score, DIGITS),
        "stopped": result.stopped,
        "clicks": [click_entry(placed) for placed in result.clicks],
    }


def _runs(mask: np.ndarray) -> dict[str, Any]:
    """A mask as COCO's compressed run lengths, with its area and box (x, y, width, height) in pixels."""
    runs = native.encode(np.asfortranarray(mask, np.uint8))
    return {
        "counts": runs["counts"].decode("ascii"),
        "area": int(native.area(runs)),
        "bbox": [float(value) for value in native.toBbox(runs)],
    }
