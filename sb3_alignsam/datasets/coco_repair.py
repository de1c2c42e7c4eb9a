"""A copy of a checked COCO dataset without what cannot be used."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from sb3_alignsam.datasets.coco_json import JsonFile
from sb3_alignsam.datasets.coco_records import ImageRecord
from sb3_alignsam.datasets.validation import Checked
from sb3_alignsam.errors import InputError

_LISTS = ("images", "categories", "annotations")


class _Of(msgspec.Struct, gc=False):
    """What an annotation belongs to."""

    id: int
    image_id: int


def repair_coco(checked: Checked, out: Path) -> dict[str, int]:
    """Write the annotation file without its unusable records, and beside it the photographs that it still names.

    What is kept stands as it stood, byte for byte. Photographs are linked where the disk can do that (hard links), else
    copied. ``left_out_<name>.jsonl`` lists each record that was left out with the reason.

    :param checked: of `check_coco`. :param out: folder of the copy, which gets COCO's layout.
    :return: how many records were left out, by the name of their list.
    :raises InputError: the annotation file cannot be read at all, or the copy cannot be written.
    """
    if checked.unreadable:
        raise InputError(f"{checked.path} cannot be repaired: {checked.findings.listed[-1].message}")
    file = JsonFile(checked.path)
    left_out: list[dict[str, Any]] = []
    kept = {key: list(_kept(file, key, checked, left_out)) for key in _LISTS}
    try:
        if checked.images is not None:
            folder = out / checked.path.stem.removeprefix("instances_")
            names = {msgspec.json.decode(raw, type=ImageRecord).file_name for raw in kept["images"]}
            _place_photographs(checked.images, folder, names)
        (out / "annotations").mkdir(parents=True, exist_ok=True)
        listing = "\n".join(json.dumps(each) for each in left_out) + "\n"
        _write(out / f"left_out_{checked.path.stem}.jsonl", [listing.encode()])
        _write(out / "annotations" / checked.path.name, _parts(file, kept))
    except OSError as error:
        raise InputError(f"the repaired copy in {out} cannot be written: {error.strerror}") from error
    return {key: sum(each["list"] == key for each in left_out) for key in _LISTS}


def _kept(file: JsonFile, key: str, checked: Checked, left_out: list[dict[str, Any]]) -> Iterator[Raw]:
    """Records of a list that can be used; the others are added to `left_out`."""
    reasons = {each.place.split(".")[0]: each for each in checked.findings.listed if each.level == "error"}
    of_images = {each.id: each for each in checked.findings.listed if each.place == "images"}
    for index, raw in enumerate(file.entries(key)):
        place, why, identity = f"{key}[{index}]", None, None
        if checked.findings.is_left_out(key, index):
            finding = reasons.get(place)
            identity = finding and finding.id
            why = finding.message if finding else "what it refers to was left out, or one of many with the same fault"
        elif key == "images" and checked.unusable_images:
            identity = msgspec.json.decode(raw, type=ImageRecord).id
            if identity in checked.unusable_images:
                why = of_images[identity].message if identity in of_images else "its file cannot be used"
        elif key == "annotations" and checked.unusable_images:
            record = msgspec.json.decode(raw, type=_Of)
            identity = record.id
            if record.image_id in checked.unusable_images:
                why = f"its image {record.image_id} was left out"
        if why is None:
            yield raw
        else:
            left_out.append({"list": key, "place": place, "id": identity, "reason": why})


def _place_photographs(source: Path, folder: Path, names: set[str]) -> None:
    for name in sorted(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        original = os.path.realpath(source / name)
        try:
            os.link(original, folder / name)
        except OSError:
            shutil.copyfile(original, folder / name)


def _parts(file: JsonFile, kept: dict[str, list[Raw]]) -> Iterator[bytes | memoryview]:
    """The new file's text in pieces."""
    yield b"{"
    for number, (key, value) in enumerate(file.parts.items()):
        yield (",\n" if number else "").encode() + json.dumps(key).encode() + b": "
        if key not in kept:
            yield memoryview(value)
            continue
        for place, raw in enumerate(kept[key]):
            yield b",\n" if place else b"["
            yield memoryview(raw)
        yield b"]" if kept[key] else b"[]"
    yield b"}\n"


def _write(path: Path, parts: Any) -> None:
    """All of it or nothing."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.writelines(parts)
            file.flush()
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
