"""Reads an annotation file in COCO's layout into columns, and tells all that is wrong with its records."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from reprlib import repr as short
from typing import Any, NamedTuple

import msgspec
import numpy as np

from sb3_alignsam.datasets.coco_json import JsonFile, decode_plainly
from sb3_alignsam.datasets.coco_masks import segmentation_fault
from sb3_alignsam.datasets.coco_records import (
    AnnotationRecord,
    CategoryRecord,
    ImageRecord,
    Reader,
    annotation_faults,
    category_faults,
    file_name_faults,
    image_faults,
    is_usable,
    size_faults,
    text_faults,
)
from sb3_alignsam.datasets.findings import Fault, Findings
from sb3_alignsam.errors import InputError

Examine = Callable[[Any, int, int, float], Iterable[Fault]]
"""What looks at an annotation's segmentation: given that, the image's height and width and the stated area."""


class CocoImage(NamedTuple):
    """One entry of `images`: where the photograph lies below the image folder, and its size in pixels."""

    file_name: str
    height: int
    width: int


class CocoColumns(NamedTuple):
    """The usable records of an annotation file, N images with A annotations. Integers are int64.

    :param categories: name by category id, ids ascending. Of two with one name the first stands for both.
    :param image_ids: (N,), ascending. :param sizes: height and width in pixels, (N, 2).
    :param names: all file names in UTF-8, one after the other, uint8. :param name_ends: where each ends there, (N,).
    :param ends: how many annotations this image and those before it have, (N,).
    :param ids: (A,), by image, then ascending. :param category_ids: (A,). :param areas: as stated, in pixels², float64.
    :param crowds: bool. :param spans: first byte of the segmentation in the file, and number of bytes, (A, 2).
    """

    categories: dict[int, str]
    image_ids: np.ndarray
    sizes: np.ndarray
    names: np.ndarray
    name_ends: np.ndarray
    ends: np.ndarray
    ids: np.ndarray
    category_ids: np.ndarray
    areas: np.ndarray
    crowds: np.ndarray
    spans: np.ndarray


_SEGMENTATION = msgspec.json.Decoder(list[list[float]] | dict[str, Any])


def examine_segmentation(segmentation: Any, height: int, width: int, area: float) -> Iterator[Fault]:
    """What keeps a segmentation from being decoded, if anything."""
    if fault := segmentation_fault(segmentation, height, width):
        yield fault


def read_annotations(file: JsonFile, findings: Findings, examine: Examine = examine_segmentation) -> CocoColumns:
    """Read an ``instances_*.json``; records that cannot be used are reported to `findings` and left out.

    :raises DatasetError: one of the three lists is missing, or the first error where `findings` is strict.
    """
    categories, aliases = _read_categories(file, findings)
    images, image_ids = _read_images(file, findings)
    columns = _Columns(images)
    reader = Reader(file, "annotations", findings)
    for record in reader.records(AnnotationRecord, annotation_faults):
        category_id, image = aliases.get(record.category_id), images.get(record.image_id)
        if record.image_id not in image_ids or record.category_id not in aliases:
            reader.report(record.id, *_references(record, image_ids, aliases))
        elif image is None or category_id is None:  # Its image or category has been reported already.
            findings.leave_out("annotations", reader.index)
        elif faults := [*_examined(file, record, image, examine)]:
            reader.report(record.id, *faults)
        if category_id is not None and not findings.is_left_out("annotations", reader.index):
            columns.add(record, category_id, file.span(record.segmentation))
    return columns.sorted(categories)


def read_image_list(path: Path) -> tuple[dict[int, str], dict[int, CocoImage]]:
    """Read names and ids alone, of an ``instances_*.json`` or of a file without annotations (``image_info_*.json``).

    :param path: of the file. :return: category names by id, and images by id, ids ascending.
    :raises InputError: it is missing or no JSON, lacks a part, or has an entry that cannot be used.
    """
    if not path.is_file():
        raise InputError(f"there is no annotation file {path}; check the path")
    file, findings = JsonFile(path), Findings(strict=True)
    return _read_categories(file, findings)[0], dict(sorted(_read_images(file, findings)[0].items()))


def decode_bytes(text: bytes) -> Any:
    """A segmentation as it stands in the file, decoded; None where it is no JSON at all."""
    try:
        return _SEGMENTATION.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        try:
            return decode_plainly(text)
        except ValueError:
            return None


def _read_categories(file: JsonFile, findings: Findings) -> tuple[dict[int, str], dict[int, int | None]]:
    """Names by id, ids ascending; and for every id, the first one of its name, None where it cannot be used."""
    names: dict[int, str] = {}
    aliases: dict[int, int | None] = {}
    first: dict[str, int] = {}
    reader = Reader(file, "categories", findings)
    for record in reader.records(CategoryRecord, category_faults):
        if not is_usable(record.name):
            reader.report(record.id, *text_faults({"name": record.name}, "name"))
            continue
        if record.name in first:
            message = f"the name '{record.name}' is that of category {first[record.name]} too; they are taken for one"
            reader.report(record.id, Fault("duplicate-name", ".name", record.name, message, "warning"))
        else:
            names[record.id] = record.name
        aliases[record.id] = first.setdefault(record.name, record.id)
    return dict(sorted(names.items())), dict.fromkeys(reader.known) | aliases


def _read_images(file: JsonFile, findings: Findings) -> tuple[dict[int, CocoImage], set[int]]:
    """Usable images by id; and every id that was seen."""
    images: dict[int, CocoImage] = {}
    first: dict[str, int] = {}
    reader = Reader(file, "images", findings)
    for record in reader.records(ImageRecord, image_faults):
        if faults := [*file_name_faults(record.file_name), *size_faults(record.height, record.width)]:
            reader.report(record.id, *faults)
            continue
        if first.setdefault(record.file_name, record.id) != record.id:
            message = f"'file_name' is {short(record.file_name)}, as of image {first[record.file_name]}; check both"
            reader.report(record.id, Fault("duplicate-name", ".file_name", record.file_name, message, "warning"))
        images[record.id] = CocoImage(record.file_name, record.height, record.width)
    return images, reader.known


def _references(record: AnnotationRecord, images: Container[int], categories: Container[int]) -> Iterator[Fault]:
    for key, value, known in (
        ("image", record.image_id, images),
        ("category", record.category_id, categories),
    ):
        if value not in known:
            message = f"there is no {key} of its {key}_id {value}; add it, or correct or remove the annotation"
            yield Fault("reference", f".{key}_id", value, message)


def _examined(file: JsonFile, record: AnnotationRecord, image: CocoImage, examine: Examine) -> Iterable[Fault]:
    try:
        segmentation = _SEGMENTATION.decode(record.segmentation)
    except (msgspec.MsgspecError, RecursionError):
        segmentation = decode_bytes(file.original(record.segmentation))
    return examine(segmentation, image.height, image.width, record.area)


class _Columns:
    """Columns as they grow: numbers without Python objects around them."""

    def __init__(self, images: dict[int, CocoImage]) -> None:
        self._images = images
        self._whole = array("q")
        self._areas, self._crowds = array("d"), array("b")

    def add(self, record: AnnotationRecord, category_id: int, span: tuple[int, int]) -> None:
        self._whole.extend((record.image_id, record.id, category_id, *span))
        self._areas.append(record.area)
        self._crowds.append(record.iscrowd)

    def sorted(self, categories: dict[int, str]) -> CocoColumns:
        """All of them by image id, then annotation id."""
        image_ids = np.array(sorted(self._images), np.int64)
        whole = np.frombuffer(self._whole, np.int64).reshape(-1, 5)
        order = np.lexsort((whole[:, 1], whole[:, 0]))
        whole = whole[order]
        names = [self._images[identity].file_name.encode() for identity in image_ids.tolist()]
        return CocoColumns(
            categories,
            image_ids,
            np.array([self._images[identity][1:] for identity in image_ids.tolist()], np.int64).reshape(-1, 2),
            np.frombuffer(b"".join(names), np.uint8),
            np.cumsum([len(name) for name in names], dtype=np.int64),
            np.searchsorted(whole[:, 0], image_ids, side="right"),
            np.ascontiguousarray(whole[:, 1]),
            np.ascontiguousarray(whole[:, 2]),
            np.frombuffer(self._areas, np.float64)[order],
            np.frombuffer(self._crowds, np.bool_)[order],
            np.ascontiguousarray(whole[:, 3:]),
        )
