"""The records of an annotation file: what a sound one looks like, and all that is wrong with one that is not."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath, PureWindowsPath
from reprlib import repr as short
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw

from sb3_alignsam.datasets.coco_json import JsonFile, decode_plainly
from sb3_alignsam.datasets.findings import Fault, Finding, Findings
from sb3_alignsam.datasets.photographs import MAX_PIXELS

_MAX_ID = 2**63 - 1
"""Greatest whole number that numpy's int64 holds."""
_UNUSABLE_CHARACTERS = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories: control characters, half characters and line ends, which no name has in good faith."""

# What a sound record looks like to msgspec, which decodes it in a microsecond. What it refuses is looked at closely.
_Id = Annotated[int, Meta(ge=1, le=_MAX_ID)]
_Side = Annotated[int, Meta(ge=1, le=MAX_PIXELS)]


class CategoryRecord(msgspec.Struct, gc=False):
    id: _Id
    name: str


class ImageRecord(msgspec.Struct, gc=False):
    id: _Id
    file_name: str
    height: _Side
    width: _Side


class AnnotationRecord(msgspec.Struct, gc=False):
    id: _Id
    image_id: _Id
    category_id: _Id
    area: Annotated[float, Meta(ge=0, lt=_MAX_ID)]
    segmentation: Raw
    # COCO's own tools take it for 0 where it is missing.
    iscrowd: Literal[0, 1] = 0


_Record = TypeVar("_Record", CategoryRecord, ImageRecord, AnnotationRecord)


class Reader:
    """The records of one list of a file, and where to report what is wrong with them."""

    def __init__(self, file: JsonFile, key: str, findings: Findings) -> None:
        self.file, self.key, self.findings = file, key, findings
        self.index = 0
        self.known: set[int] = set()

    def records(self, kind: type[_Record], check: Callable[[dict[str, Any]], Iterator[Fault]]) -> Iterator[_Record]:
        """Each record that msgspec takes for sound and whose id is new.

        :param check: yields what is wrong with one that msgspec refuses.
        """
        decode = msgspec.json.Decoder(kind).decode
        for index, raw in enumerate(self.file.entries(self.key)):
            self.index = index
            try:
                record = decode(raw)
            except (msgspec.MsgspecError, RecursionError) as error:
                self._refuse(raw, check, str(error))
                continue
            if record.id in self.known:
                message = "its id is given twice; each needs its own"
                self.report(record.id, Fault("id", ".id", record.id, message))
                continue
            self.known.add(record.id)
            yield record

    def report(self, identity: Any, *faults: Fault) -> None:
        """Tell what is wrong with the record; if one of it is an error, it is left out."""
        for fault in faults:
            self.findings.add(Finding.of(fault, self.file.path, f"{self.key}[{self.index}]", identity))
            if fault.level == "error":
                self.findings.leave_out(self.key, self.index)

    def _refuse(self, raw: Raw, check: Callable[[dict[str, Any]], Iterator[Fault]], reason: str) -> None:
        try:
            entry = decode_plainly(self.file.original(raw))
        except ValueError as error:
            self.report(None, Fault("record", "", None, f"the record cannot be read ({error}); write it anew"))
            return
        if not isinstance(entry, dict):
            self.report(None, Fault("record", "", entry, f"it is {short(entry)}; it must be a JSON object"))
            return
        faults = list(check(entry)) or [Fault("record", "", None, f"the record cannot be used ({reason}); correct it")]
        self.report(entry.get("id"), *faults)
        if type(entry.get("id")) is int:  # What refers to it is not at fault.
            self.known.add(entry["id"])


def category_faults(entry: dict[str, Any]) -> Iterator[Fault]:
    yield from _whole(entry, "id")
    yield from text_faults(entry, "name")


def image_faults(entry: dict[str, Any]) -> Iterator[Fault]:
    yield from _whole(entry, "id")
    yield from text_faults(entry, "file_name")
    sides = [fault for side in ("height", "width") for fault in _whole(entry, side, MAX_PIXELS)]
    yield from sides
    if not sides:
        yield from size_faults(entry["height"], entry["width"])


def size_faults(height: int, width: int) -> Iterator[Fault]:
    if height * width > MAX_PIXELS:
        message = f"its size is {width}x{height}; it may have at most {MAX_PIXELS} pixels"
        yield Fault("size", "", [width, height], message)


def file_name_faults(file_name: str) -> Iterator[Fault]:
    if not is_usable(file_name):
        yield from text_faults({"file_name": file_name}, "file_name")
    elif leaves_folder(file_name):
        message = f"'file_name' is {short(file_name)}; it must be a path inside the image folder"
        yield Fault("file-name", ".file_name", file_name, message)


def annotation_faults(entry: dict[str, Any]) -> Iterator[Fault]:
    for key in ("id", "image_id", "category_id"):
        yield from _whole(entry, key)
    area, crowd = entry.get("area"), entry.get("iscrowd", 0)
    # `type` rather than isinstance, though mypy does not narrow by it: True is no area. NaN fails the comparison, its
    # upper end leaves out infinity.
    if type(area) not in (int, float) or not 0 <= area < _MAX_ID:  # type: ignore[operator]
        message = f"'area' is {short(area)}; it must be the instance's area in pixels, from 0 up"
        yield Fault("area", ".area", area, message)
    if type(crowd) is not int or crowd not in (0, 1):
        yield Fault("field", ".iscrowd", crowd, f"'iscrowd' is {short(crowd)}; it must be 0 or 1")
    if "segmentation" not in entry:
        message = "it has no 'segmentation'; draw one or remove the annotation"
        yield Fault("segmentation", ".segmentation", None, message)


def _whole(entry: dict[str, Any], key: str, most: int = _MAX_ID) -> Iterator[Fault]:
    value = entry.get(key)
    if type(value) is not int or not 1 <= value <= most:
        kind = "id" if key == "id" else "field"
        yield Fault(kind, f".{key}", value, f"'{key}' is {short(value)}; it must be a whole number from 1 to {most}")


def text_faults(entry: dict[str, Any], key: str) -> Iterator[Fault]:
    value = entry.get(key)
    if not isinstance(value, str) or not is_usable(value):
        message = f"'{key}' is {short(value)}; it must be a text without control characters"
        yield Fault("field", f".{key}", value, message)


def is_usable(text: str) -> bool:
    return bool(text) and (
        (text.isascii() and text.isprintable())
        or not any(unicodedata.category(letter) in _UNUSABLE_CHARACTERS for letter in text)
    )


def leaves_folder(file_name: str) -> bool:
    """Whether a path from an annotation file points outside its folder, on any system; links are not followed."""
    if "/" not in file_name and "\\" not in file_name and ":" not in file_name and ".." not in file_name:
        return False
    paths = (PurePosixPath(file_name), PureWindowsPath(file_name))
    return any(path.anchor or ".." in path.parts for path in paths)
