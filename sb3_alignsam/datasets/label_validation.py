"""All that is wrong with folders of ADE20K and Cityscapes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sb3_alignsam.datasets.ade20k import ade20k_split
from sb3_alignsam.datasets.cityscapes import cityscapes_split
from sb3_alignsam.datasets.coco import DEFAULT_MIN_AREA
from sb3_alignsam.datasets.findings import DatasetError, Findings
from sb3_alignsam.datasets.label_files import (
    LabelledImage,
    LabelledSplit,
    Segments,
    check_size,
    label_fault,
    photograph_of,
    size_of,
)
from sb3_alignsam.datasets.label_index import largest_areas
from sb3_alignsam.datasets.validation import Checked, Options
from sb3_alignsam.errors import InputError

_ADE20K_SPLITS = ("training", "validation")
_CITYSCAPES_SPLITS = ("train", "val")
"""Those whose ground truth is public."""


def is_ade20k(path: Path) -> bool:
    """Whether it is a folder of SceneParsing's layout or the full release's."""
    return any(_ade20k_splits(path))


def check_ade20k(path: Path, options: Options) -> list[Checked]:
    """Check each split. :raises InputError: `options` name a folder of photographs, which lie in the dataset's."""
    return _check("ade20k", [ade20k_split(path, each) for each in _ade20k_splits(path)], options)


def is_cityscapes(path: Path) -> bool:
    """Whether it is a folder that holds Cityscapes' photographs of a split with public ground truth."""
    return any(_cityscapes_splits(path))


def check_cityscapes(path: Path, options: Options) -> list[Checked]:
    """Check each split. :raises InputError: `options` name a folder of photographs, which lie in the dataset's."""
    return _check("cityscapes", [cityscapes_split(path, each) for each in _cityscapes_splits(path)], options)


def _ade20k_splits(root: Path) -> list[str]:
    folders = (root / "images" / "ADE", root / "images")
    return [split for split in _ADE20K_SPLITS if any((folder / split).is_dir() for folder in folders)]


def _cityscapes_splits(root: Path) -> list[str]:
    return [split for split in _CITYSCAPES_SPLITS if (root / "leftImg8bit" / split).is_dir()]


def _check(kind: str, splits: Iterable[LabelledSplit], options: Options) -> list[Checked]:
    if options.images is not None:
        raise InputError(f"--images is for COCO's layout; of kind {kind} photographs lie in the dataset's own folders")
    return [_check_split(kind, split, options) for split in splits]


def _check_split(kind: str, split: LabelledSplit, options: Options) -> Checked:
    checked = Checked(kind, split.labels, split.photographs, Findings())
    images = split.images(checked.findings)
    areas: dict[int, int] = {}
    for position in options.progress(list(range(len(images)))):
        segments = _check_image(split, images[position], options.quick, checked.findings)
        for category, area in [] if segments is None else largest_areas(segments).tolist():
            areas[category] = max(area, areas.get(category, 0))
    checked.records.update({"images": len(images), "categories": len(areas)})
    if not checked.findings.total("error") and not np.any(np.array([*areas.values()]) >= DEFAULT_MIN_AREA):
        message = f"{split.labels} holds no instance of {DEFAULT_MIN_AREA:g} pixels or more; training needs one"
        checked.findings.add(label_fault("empty", split.labels, message, level="warning"))
    return checked


def _check_image(split: LabelledSplit, image: LabelledImage, quick: bool, findings: Findings) -> Segments | None:
    """Everything that is wrong with one image's files; its labels, if they can be used."""
    try:
        split.check_places(image)
    except DatasetError as error:
        findings.add(error.finding)
        return None
    size, segments = None, None
    try:
        size = size_of(image) if quick else photograph_of(image).shape[:2]
    except DatasetError as error:
        findings.add(error.finding)
    try:
        segments = split.read(image)
        if size is not None:
            check_size(image, size, segments)
    except DatasetError as error:
        findings.add(error.finding)
    return segments
