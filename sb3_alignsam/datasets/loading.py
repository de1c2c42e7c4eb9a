"""From a dataset's name to a `Dataset`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from sb3_alignsam.datasets.ade20k import Ade20kDataset
from sb3_alignsam.datasets.base import Dataset
from sb3_alignsam.datasets.cityscapes import CityscapesDataset
from sb3_alignsam.datasets.coco import CocoDataset
from sb3_alignsam.datasets.shapes import ShapesDataset
from sb3_alignsam.errors import InputError

IN_FILES = {
    "coco": (CocoDataset, "train2017"),
    "ade20k": (Ade20kDataset, "training"),
    "cityscapes": (CityscapesDataset, "train"),
}
"""Datasets that lie in files, by name, with the split to train on."""
DATASETS = ("shapes", *IN_FILES)
REPORTED_SPLITS = {"shapes": "val", "ade20k": "validation", "cityscapes": "val"}
"""What results are reported on, of datasets whose folders have that name wherever they come from."""
Subset = Literal["all", "fit", "dev"]
DEV_SHARE = 0.05
"""Share of a training split's images that is kept for choosing the best model."""


def load_dataset(
    name: str = "shapes",
    split: str | None = None,
    *,
    subset: Subset = "all",
    root: str | Path | None = None,
    categories: Sequence[str] | str | None = None,
    lenient: bool = False,
) -> Dataset:
    """Open a dataset.

    :param name: one of `DATASETS`.
    :param split: ``train``, ``dev`` or ``val`` for shapes; the folder's own name for others. None: the training split.
    :param subset: which part of it: ``all``; ``dev``, what the best model is chosen on: of shapes its own dev split, of
        other datasets `DEV_SHARE` of the images by a hash of their id; ``fit``: all but that.
    :param root: folder of a dataset that lies in files.
    :param categories: target categories; None: all.
    :param lenient: leave out what cannot be used of a COCO folder, see `CocoDataset`.
    :raises InputError: a name, path or category cannot be used.
    """
    if isinstance(categories, str):
        categories = [categories]
    if name == "shapes":
        if root is not None:
            raise InputError("dataset 'shapes' is drawn, it has no root; leave root out or use dataset:coco")
        return ShapesDataset("dev" if subset == "dev" else split or "train", categories)
    if name in IN_FILES:
        if root is None:
            raise InputError(f"dataset '{name}' needs the folder that holds it: root:FOLDER")
        keep = None if subset == "all" else partial(_in_subset, subset == "dev")
        if lenient and name != "coco":
            raise InputError(f"lenient is for COCO folders; leave it out for dataset '{name}'")
        kind, training = IN_FILES[name]
        options = {"lenient": True} if lenient else {}
        return kind(root, split or training, categories=categories, keep_image=keep, **options)
    raise InputError(f"dataset '{name}' is not known; known: {', '.join(DATASETS)}")


def _in_subset(dev: bool, image_id: int) -> bool:
    """Whether an image lies in the dev part (or in the rest), by a hash that no reordering or renaming changes."""
    digest = hashlib.sha256(str(image_id).encode()).digest()
    return (int.from_bytes(digest[:8], "big") / 2**64 < DEV_SHARE) == dev
