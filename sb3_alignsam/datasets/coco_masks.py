"""Turns a COCO `segmentation` into a mask, checked first: pycocotools' native code trusts whatever it is given.

A non-finite or huge polygon coordinate is a segmentation fault there, and runs that sum short decode uninitialised
memory. So polygons reach it only after the checks below, and run lengths are decoded here.
"""

from __future__ import annotations

from reprlib import repr as short
from typing import Any

import numpy as np
from pycocotools import mask as native

from sb3_alignsam.datasets.photographs import MAX_PIXELS
from sb3_alignsam.errors import InputError

MAX_OUTLINE = 1_000_000
"""Longest outline of one polygon in pixels. pycocotools allocates some 80 bytes for each, unchecked."""
_MAX_CHARACTERS = 7
"""Most characters of one number in a compressed run-length string: 35 bits, more than any pixel count needs."""


def decode_segmentation(segmentation: Any, height: int, width: int, source: str) -> np.ndarray:
    """Decode any of COCO's three kinds of segmentation, to the pixels that pycocotools' `annToMask` gives.

    :param segmentation: a list of polygons, each ``[x1, y1, x2, y2, x3, y3, ...]`` in pixels; or a dict with ``size``
        ``[height, width]`` and ``counts``, the lengths of runs down the columns as a list or as a compressed string.
    :param height: of the photograph, in pixels.
    :param width: of the photograph, in pixels.
    :param source: what a message begins with: the file and the annotation's id.
    :return: (height, width) bool.
    :raises InputError: the segmentation is malformed or does not fit the photograph.
    """
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise InputError(f"{source}: the image is {width}x{height}; it must have 1 to {MAX_PIXELS} pixels")
    if isinstance(segmentation, list):
        return _decode_polygons(segmentation, height, width, source)
    if isinstance(segmentation, dict):
        return _decode_runs(segmentation, height, width, source)
    raise InputError(
        f"{source}: the segmentation is {short(segmentation)}; it must be a list of polygons or a run-length dict"
    )


def _decode_polygons(polygons: list[Any], height: int, width: int, source: str) -> np.ndarray:
    """Union of the polygons, (height, width) bool."""
    if not polygons:
        raise InputError(f"{source}: the segmentation holds no polygon; draw one or remove the annotation")
    for polygon in polygons:
        _check_polygon(polygon, height, width, source)
    runs = native.merge(native.frPyObjects(polygons, height, width))
    # Not `native.decode`: it is hardly faster, and numpy 2 warns that its way of making an array will be refused.
    return _decode_runs({"size": [height, width], "counts": runs["counts"].decode("ascii")}, height, width, source)


def _check_polygon(polygon: Any, height: int, width: int, source: str) -> None:
    if not isinstance(polygon, list):
        raise InputError(f"{source}: a polygon is {short(polygon)}; the segmentation must be a list of lists of x, y")
    # Four numbers would be taken for a box by pycocotools.
    if len(polygon) < 6 or len(polygon) % 2:
        raise InputError(f"{source}: a polygon has {len(polygon)} numbers; it must have an even number, at least 6")
    limit = 2 * max(height, width)
    for value in polygon:
        # `type` rather than isinstance: True is no coordinate. NaN fails the comparison.
        if type(value) not in (int, float) or not -limit <= value <= limit:
            raise InputError(
                f"{source}: the polygon coordinate {short(value)} is no number from -{limit} to {limit}; correct it"
            )
    points = np.array(polygon, np.float64).reshape(-1, 2)
    outline = float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())
    if outline > MAX_OUTLINE:
        raise InputError(
            f"{source}: a polygon's outline is {outline:.0f} pixels long, more than {MAX_OUTLINE}; store it as runs"
        )


def _decode_runs(segmentation: dict[str, Any], height: int, width: int, source: str) -> np.ndarray:
    """Mask of a run-length dict, (height, width) bool."""
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise InputError(f"{source}: the segmentation's size is {short(size)}; it must be [{height}, {width}]")
    if isinstance(counts, str):
        counts = _expand(counts, source)
    if not isinstance(counts, list):
        raise InputError(f"{source}: the segmentation's counts are {short(counts)}; they must be a list or a string")
    pixels = height * width
    for count in counts:
        if type(count) is not int or not 0 <= count <= pixels:
            raise InputError(
                f"{source}: the run length {short(count)} is no whole number from 0 to {pixels}; correct it"
            )
    if sum(counts) != pixels:
        raise InputError(f"{source}: the run lengths sum to {sum(counts)}; they must sum to height x width, {pixels}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside, counts).reshape(width, height).T)


def _expand(text: str, source: str) -> list[int]:
    """Run lengths in a compressed string: 5 bits a character, lowest first, bit 6 set where the number goes on; from
    the fourth number on, each is the difference to the run two before it (pycocotools' `rleToString`)."""
    counts: list[int] = []
    value, bits = 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or bits >= 5 * _MAX_CHARACTERS:
            raise InputError(
                f"{source}: the compressed run lengths are damaged at {short(character)}; encode them anew"
            )
        value |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << bits
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, bits = 0, 0
    if bits:
        raise InputError(f"{source}: the compressed run lengths end in the middle of a number; encode them anew")
    return counts
