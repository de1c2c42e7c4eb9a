"""What each label image of a folder holds: found out once, and kept in a file beside it."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sb3_alignsam.datasets.findings import DatasetError
from sb3_alignsam.datasets.label_files import (
    LabelledImage,
    LabelledSplit,
    Segments,
    check_size,
    label_fault,
    size_of,
)

_VERSION = 1
"""Of the file; another one is read anew."""


def read_contents(root: Path, name: str, split: LabelledSplit, images: Sequence[LabelledImage]) -> np.ndarray:
    """Which categories lie on which images, by their label images; the first time all of them are read.

    The result is kept as ``<root>/.sb3_alignsam_<name>.npz`` where that can be written, and used while no file's name,
    size or time of change differs.

    :param name: of what is read, such as dataset and split.
    :return: (M, 3) int64, ascending: position in `images`, category id from 1, and the area in pixels² of its largest
        instance there (0: there are groups only).
    :raises DatasetError: a file is missing or malformed, or has another size than its photograph.
    """
    digest = _digest(images)
    path = root / f".sb3_alignsam_{'_'.join(re.findall('[A-Za-z0-9]+', name))}.npz"
    kept = _kept(path, digest)
    if kept is not None:
        return kept
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda each: _content(split, each), images)
        # A bar on a terminal only: tens of thousands of images take minutes.
        rows = list(tqdm(found, f"reading labels of {name}", len(images), leave=False, disable=None))
    positions = [np.insert(each, 0, position, axis=1) for position, each in enumerate(rows)]
    contents = np.concatenate([np.zeros((0, 3), np.int64), *positions])
    with suppress(OSError):  # Of a folder that cannot be written to, all is read each time.
        _keep(path, digest, contents)
    return contents


def _content(split: LabelledSplit, image: LabelledImage) -> np.ndarray:
    split.check_places(image)
    segments = split.read(image)
    check_size(image, size_of(image), segments)
    return largest_areas(segments)


def largest_areas(segments: Segments) -> np.ndarray:
    """Category id and largest area of each category on an image, (K, 2) int64."""
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
                message = f"there is no file {path} ({error.strerror}); every image needs its labels"
                raise DatasetError(label_fault("missing", path, message, each.image_id)) from error
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
