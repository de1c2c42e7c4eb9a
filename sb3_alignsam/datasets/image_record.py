"""Which images a run trains on, written down, so that an evaluation can tell whether it is on the same ones."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sb3_alignsam.datasets.base import Dataset
from sb3_alignsam.errors import InputError

FILE = "images.json"


@dataclass(frozen=True)
class ImageRecord:
    """The images of a part of a dataset.

    :param dataset: its name. :param split: of it.
    :param digest: SHA-256 of the ids; None: the split does not list its images.
    :param ids: the dataset's own ids of the images, ascending.
    """

    dataset: str
    split: str
    digest: str | None
    ids: list[int]

    @classmethod
    def of(cls, dataset: Dataset) -> ImageRecord:
        """The images that a dataset has episodes on."""
        find = getattr(dataset, "pairs", None)
        pairs = None if find is None else find()
        if pairs is None:
            return cls(dataset.name, dataset.split, None, [])
        ids = np.unique(pairs[:, 0]).tolist()
        return cls(dataset.name, dataset.split, hashlib.sha256(json.dumps(ids).encode()).hexdigest(), ids)

    def shared_with(self, dataset: Dataset, indices: Sequence[int]) -> int | None:
        """How many images of some episodes are among these; ids count within one split of one dataset.

        :return: None: the split does not list its images, so any may be.
        """
        if (self.dataset, self.split) != (dataset.name, dataset.split):
            return 0
        find = getattr(dataset, "pairs", None)
        pairs = None if find is None else find()
        if self.digest is None or pairs is None:
            return None
        return len(set(self.ids) & set(pairs[list(indices), 0].tolist()))

    def write(self, folder: Path) -> None:
        """Write it as `FILE`, at once."""
        temporary = folder / (FILE + ".tmp")
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        os.replace(temporary, folder / FILE)


def read_record(folder: Path) -> ImageRecord | None:
    """What a run has written; None: nothing, as one of an earlier version.

    :raises InputError: it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
        record = ImageRecord(*(content[name] for name in ("dataset", "split", "digest", "ids")))
        if not all(isinstance(each, int) for each in record.ids):
            raise TypeError("ids are whole numbers")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove it to go on without its warnings") from error
    return record


def other_images(folder: Path, now: ImageRecord) -> list[str]:
    """A line where the run that wrote into `folder` had other images than `now`, else none."""
    before = read_record(folder)
    if before is None or before.digest == now.digest:
        return []
    both = len(set(before.ids) & set(now.ids))
    return [f"images: {len(before.ids)} then, {len(now.ids)} now, {both} of them the same"]
