"""All that is wrong with annotation files in COCO's layout and the photographs that they name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sb3_alignsam.datasets.coco import find_images
from sb3_alignsam.datasets.coco_annotations import examine_segmentation, read_annotations
from sb3_alignsam.datasets.coco_images import ImageFolder
from sb3_alignsam.datasets.coco_json import JsonFile
from sb3_alignsam.datasets.coco_masks import covered_pixels
from sb3_alignsam.datasets.coco_table import CocoTable
from sb3_alignsam.datasets.findings import DatasetError, Fault, Findings
from sb3_alignsam.datasets.validation import Checked, Options
from sb3_alignsam.errors import InputError

_PREFIX = "instances_"
AREA_SHARE, AREA_PIXELS = 0.1, 20.0
"""How far a stated area may lie from the pixels that are covered: this share of it, or so many if that is more."""


def is_coco(path: Path) -> bool:
    """Whether it is an annotation file, or a folder that holds some."""
    return path.suffix.lower() == ".json" if path.is_file() else any(_annotation_files(path))


def check_coco(path: Path, options: Options) -> list[Checked]:
    """Check one annotation file, or every one of a folder, with its photographs.

    Photographs are looked for as `CocoDataset` does, unless `options` name their folder.

    :raises InputError: the folder of photographs that is named, or that a folder's layout asks for, does not exist.
    """
    if path.is_file():
        return [_check_file(path, options.images or _images_beside(path), options)]
    files = list(_annotation_files(path))
    folders = [options.images or find_images(path, _split(file)) for file in files]
    return [_check_file(file, folder, options) for file, folder in zip(files, folders, strict=True)]


def examine_closely(segmentation: Any, height: int, width: int, area: float) -> Iterator[Fault]:
    """Besides what keeps a segmentation from being decoded, what is suspicious about the area that is stated of it."""
    faults = list(examine_segmentation(segmentation, height, width, area))
    yield from faults
    if faults:
        return
    pixels = covered_pixels(segmentation, height, width)
    if pixels == 0 and area >= 1:
        message = f"it covers no pixel but states an area of {area:g}; correct one of them or remove the annotation"
        yield Fault("empty", ".segmentation", segmentation, message)
    elif abs(pixels - area) > max(AREA_PIXELS, AREA_SHARE * area):
        message = f"'area' is {area:g}, but its segmentation covers {pixels} pixels; correct one of them"
        yield Fault("area-mismatch", ".area", area, message, "warning")


def _annotation_files(folder: Path) -> Iterator[Path]:
    return iter(sorted((folder / "annotations").glob(f"{_PREFIX}*.json")))


def _split(file: Path) -> str:
    return file.stem.removeprefix(_PREFIX)


def _images_beside(file: Path) -> Path | None:
    """The photographs of an annotation file that lies where COCO's do; None: it lies elsewhere."""
    try:
        return find_images(file.parent.parent, _split(file)) if file.parent.name == "annotations" else None
    except InputError:
        return None


def _check_file(path: Path, images: Path | None, options: Options) -> Checked:
    checked = Checked("coco", path, images, Findings())
    try:
        file = JsonFile(path)
        columns = read_annotations(file, checked.findings, examine_closely)
        checked.records.update({key: len(file.entries(key)) for key in ("images", "annotations", "categories")})
    except DatasetError as error:
        checked.findings.add(error.finding)
        checked.unreadable = True
        return checked
    if images is not None:
        _check_images(CocoTable(path, (0, 0), columns, {}), ImageFolder(images, path), checked, options)
    return checked


def _check_images(table: CocoTable, folder: ImageFolder, checked: Checked, options: Options) -> None:
    for image_id in options.progress(table.columns.image_ids.tolist()):
        try:
            (folder.check if options.quick else folder.read)(image_id, table.image(image_id))
        except DatasetError as error:
            checked.findings.add(error.finding)
            checked.unusable_images.add(image_id)
