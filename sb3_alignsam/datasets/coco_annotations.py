"""Reads an annotation file in COCO's layout, with the checks that cost little; segmentations stay undecoded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from reprlib import repr as short
from typing import Any, NamedTuple
from unicodedata import category

from sb3_alignsam.errors import InputError

_MAX_ID = 2**63 - 1
"""Greatest whole number that numpy's int64 holds."""
_UNUSABLE_CHARACTERS = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories: control characters, half characters and line ends, which no name has in good faith."""


class CocoImage(NamedTuple):
    """One entry of `images`: where the photograph lies below the image folder, and its size in pixels."""

    file_name: str
    height: int
    width: int


class CocoAnnotation(NamedTuple):
    """One entry of `annotations`; `area` in pixels², as stated; `segmentation` as it stands in the file, unchecked."""

    id: int
    category_id: int
    area: float
    crowd: bool
    segmentation: Any


class CocoContent(NamedTuple):
    """:param categories: name by category id, ids ascending. :param images: by image id.
    :param annotations: by image id, annotation ids ascending; an image without annotations is left out."""

    categories: dict[int, str]
    images: dict[int, CocoImage]
    annotations: dict[int, list[CocoAnnotation]]


def read_annotations(path: Path) -> CocoContent:
    """Read an ``instances_*.json``.

    :param path: an existing file.
    :raises InputError: it is no JSON, lacks a part, or has an entry that cannot be used; the message names file and id.
    """
    content = _read_json(path)
    categories = _read_categories(content, path)
    images = _read_images(content, path)
    return CocoContent(categories, images, _read_instances(content, path, categories, images))


def read_image_list(path: Path) -> tuple[dict[int, str], dict[int, CocoImage]]:
    """Read names and ids alone, of an ``instances_*.json`` or of a file without annotations (``image_info_*.json``).

    :param path: of the file. :return: category names by id, and images by id, ids ascending.
    :raises InputError: it is missing or no JSON, lacks a part, or has an entry that cannot be used.
    """
    if not path.is_file():
        raise InputError(f"there is no annotation file {path}; check the path")
    content = _read_json(path)
    return _read_categories(content, path), dict(sorted(_read_images(content, path).items()))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"the annotation file {path} cannot be read ({error.strerror}); check its permissions"
        ) from error
    # Text that is no Unicode and a number of too many digits are a ValueError too.
    except (ValueError, RecursionError) as error:
        raise InputError(f"the annotation file {path} is no valid JSON ({error}); fetch or export it anew") from error
    if not isinstance(content, dict):
        raise InputError(
            f"the annotation file {path} is no JSON object; it must be in COCO's layout (instances_*.json)"
        )
    return content


def _entries(content: dict[str, Any], key: str, path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Each entry of the list `key`, and what a message about it begins with."""
    entries = content.get(key)
    if not isinstance(entries, list):
        raise InputError(
            f"the annotation file {path} has no list '{key}'; it must be in COCO's layout (instances_*.json)"
        )
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: {key}[{index}] is {short(entry)}; it must be a JSON object")
        yield entry, f"{path}: {key}[{index}] (id {entry.get('id')!r:.40})"


def _whole(entry: dict[str, Any], key: str, where: str, least: int = 0) -> int:
    value = entry.get(key)
    if type(value) is not int or not least <= value <= _MAX_ID:
        raise InputError(f"{where}: '{key}' is {short(value)}; it must be a whole number from {least} up")
    return value


def _text(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value or any(category(letter) in _UNUSABLE_CHARACTERS for letter in value):
        raise InputError(f"{where}: '{key}' is {short(value)}; it must be a text without control characters")
    return value


def _read_categories(content: dict[str, Any], path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for entry, where in _entries(content, "categories", path):
        identity, name = _whole(entry, "id", where), _text(entry, "name", where)
        if identity in names or name in names.values():
            raise InputError(f"{where}: its id or its name {name!r} is given twice; each category needs its own")
        names[identity] = name
    return dict(sorted(names.items()))


def _read_images(content: dict[str, Any], path: Path) -> dict[int, CocoImage]:
    images: dict[int, CocoImage] = {}
    for entry, where in _entries(content, "images", path):
        identity, file_name = _whole(entry, "id", where), _text(entry, "file_name", where)
        if identity in images:
            raise InputError(f"{where}: its id is given twice; each image needs its own")
        if _leaves_folder(file_name):
            raise InputError(f"{where}: 'file_name' is {short(file_name)}; it must be a path inside the image folder")
        height, width = (_whole(entry, side, where, least=1) for side in ("height", "width"))
        images[identity] = CocoImage(file_name, height, width)
    return images


def _leaves_folder(file_name: str) -> bool:
    """Whether a path from an annotation file points outside its folder, on any system. Links are the user's own."""
    paths = (PurePosixPath(file_name), PureWindowsPath(file_name))
    return any(path.anchor or ".." in path.parts for path in paths)


def _read_instances(
    content: dict[str, Any], path: Path, categories: dict[int, str], images: dict[int, CocoImage]
) -> dict[int, list[CocoAnnotation]]:
    annotations: dict[int, list[CocoAnnotation]] = {}
    known: set[int] = set()
    for entry, where in _entries(content, "annotations", path):
        # COCO's evaluation takes 0 for "no match", so an annotation of id 0 would never be found.
        identity = _whole(entry, "id", where, least=1)
        if identity in known:
            raise InputError(f"{where}: its id is given twice; each annotation needs its own")
        known.add(identity)
        image_id, category_id = _whole(entry, "image_id", where), _whole(entry, "category_id", where)
        if image_id not in images:
            raise InputError(f"{where}: there is no image of its image_id {image_id}; add it or remove the annotation")
        if category_id not in categories:
            raise InputError(
                f"{where}: there is no category of its category_id {category_id}; add it or correct the id"
            )
        annotation = CocoAnnotation(
            identity, category_id, _area(entry, where), _crowd(entry, where), entry.get("segmentation")
        )
        annotations.setdefault(image_id, []).append(annotation)
    for of_image in annotations.values():
        of_image.sort(key=lambda annotation: annotation.id)
    return annotations


def _area(entry: dict[str, Any], where: str) -> float:
    area = entry.get("area")
    # `type` rather than isinstance: True is no area. NaN fails the comparison, its upper end leaves out infinity.
    if area is None or type(area) not in (int, float) or not 0 <= area < _MAX_ID:
        raise InputError(f"{where}: 'area' is {short(area)}; it must be the instance's area in pixels, from 0 up")
    return float(area)


def _crowd(entry: dict[str, Any], where: str) -> bool:
    """`iscrowd`, which COCO's own tools take for 0 where it is missing."""
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise InputError(f"{where}: 'iscrowd' is {short(crowd)}; it must be 0 or 1")
    return bool(crowd)
