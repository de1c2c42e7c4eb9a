"""What each label image of a folder holds: found out once, and kept in a file beside it."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sb3_alignsam.datasets.photographs import photograph_size
from sb3_alignsam.errors import InputError

_VERSION = 1
"""Of the file; another one is read anew."""


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
    :param categories: category id of each segment, (S,) int; 0: another one; -1: not labelled.
    :param groups: whether a segment holds several instances that are not told apart, (S,) bool.
    """

    of_pixel: np.ndarray
    categories: np.ndarray
    groups: np.ndarray

    def areas(self) -> np.ndarray:
        """Pixels of each segment, (S,) int64."""
        return np.bincount(self.of_pixel.ravel(), minlength=len(self.categories))


def read_contents(
    root: Path, name: str, images: Sequence[LabelledImage], read: Callable[[LabelledImage], Segments]
) -> np.ndarray:
    """Which categories lie on which images, by their label images; the first time all of them are read.

    The result is kept as ``<root>/.sb3_alignsam_<name>.npz`` where that can be written, and used while no file's name,
    size or time of change differs.

    :param name: of what is read, such as dataset and split. :param read: gives an image's segments.
    :return: (M, 3) int64, ascending: position in `images`, category id from 1, and the area in pixels² of its largest
        instance there (0: there are groups only).
    :raises InputError: a file is missing or malformed, or has another size than its photograph.
    """
    digest = _digest(images)
    path = root / f".sb3_alignsam_{'_'.join(re.findall('[A-Za-z0-9]+', name))}.npz"
    kept = _kept(path, digest)
    if kept is not None:
        return kept
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda each: _content(each, read), images)
        # A bar on a terminal only: tens of thousands of images take minutes.
        rows = list(tqdm(found, f"reading labels of {name}", len(images), leave=False, disable=None))
    positions = [np.insert(each, 0, position, axis=1) for position, each in enumerate(rows)]
    contents = np.concatenate([np.zeros((0, 3), np.int64), *positions])
    with suppress(OSError):  # Of a folder that cannot be written to, all is read each time.
        _keep(path, digest, contents)
    return contents


def check_size(image: LabelledImage, size: tuple[int, ...], segments: Segments) -> None:
    """:param size: the photograph's height and width. :raises InputError: they are not those of its labels."""
    height, width = segments.of_pixel.shape
    if size != (height, width):
        raise InputError(
            f"{image.labels[0]} is {width}x{height}, but {image.image} is {size[1]}x{size[0]}; put the file there that "
            "belongs to the photograph"
        )


def _content(image: LabelledImage, read: Callable[[LabelledImage], Segments]) -> np.ndarray:
    """Category id and largest area of each category on an image, (K, 2) int64."""
    segments = read(image)
    check_size(image, photograph_size(image.image), segments)
    areas = segments.areas()
    there = (areas > 0) & (segments.categories > 0)
    ids = np.unique(segments.categories[there])
    counted = np.where(segments.groups, 0, areas)
    largest = [counted[there & (segments.categories == identity)].max() for identity in ids]
    return np.stack([ids, np.array(largest, np.int64)], axis=1).astype(np.int64)


def _digest(images: Sequence[LabelledImage]) -> str:
    """Of everything by which a change of the files would be noticed."""
    digest = hashlib.sha256(f"{_VERSION}".encode())
    for each in images:
        for path in (each.image, *each.labels):
            try:
                status = path.stat()
            except OSError as error:
                raise InputError(f"there is no file {path} ({error.strerror}); every image needs its labels") from error
            digest.update(f"{each.image_id} {path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _kept(path: Path, digest: str) -> np.ndarray | None:
    """What was kept for files of this digest; None: nothing that can be used."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            contents = np.asarray(stored["contents"])
            same = str(stored["digest"]) == digest
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
        return None
    return contents if same and contents.dtype == np.int64 and contents.shape[1:] == (3,) else None


def _keep(path: Path, digest: str, contents: np.ndarray) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, contents=contents, digest=np.array(digest))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
