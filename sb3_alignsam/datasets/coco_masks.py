"""Turns a COCO `segmentation` into a mask, checked first: pycocotools' native code trusts whatever it is given.

A non-finite or huge polygon coordinate is a segmentation fault there, and runs that sum short decode uninitialised
memory. So polygons reach it only after the checks below, and run lengths are decoded here.
"""

from __future__ import annotations

import math
from reprlib import repr as short
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as native

from sb3_alignsam.datasets.findings import Fault
from sb3_alignsam.datasets.photographs import MAX_PIXELS
from sb3_alignsam.errors import InputError

MAX_OUTLINE = 1_000_000
"""Longest outline of one polygon in pixels. pycocotools allocates some 80 bytes for each, unchecked."""
BEYOND_BORDER = 1.0
"""Pixels that a polygon may reach beyond the image: drawing programs round, and some count from 1."""
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
    runs = _run_lengths(segmentation, height, width)
    if isinstance(runs, Fault):
        raise InputError(f"{source}: {runs.message}")
    inside = np.arange(len(runs), dtype=np.uint8) & 1
    # OpenCV transposes several times as fast as numpy.
    return cv2.transpose(np.repeat(inside, runs).reshape(width, height)).view(bool)


def segmentation_fault(segmentation: Any, height: int, width: int) -> Fault | None:
    """What is wrong with a segmentation; None: it can be decoded. Parameters as in `decode_segmentation`."""
    if isinstance(segmentation, list):  # Not drawn: the checks take microseconds, drawing a hundred times as many.
        return _size_fault(height, width) or _polygons_fault(segmentation, height, width)
    runs = _run_lengths(segmentation, height, width)
    return runs if isinstance(runs, Fault) else None


def covered_pixels(segmentation: Any, height: int, width: int) -> int:
    """Pixels of a segmentation in which `segmentation_fault` finds nothing wrong."""
    if isinstance(segmentation, list):
        return int(native.area(native.merge(native.frPyObjects(segmentation, height, width))))
    runs = _run_lengths(segmentation, height, width)
    assert not isinstance(runs, Fault)
    return int(runs[1::2].sum())


def _run_lengths(segmentation: Any, height: int, width: int) -> np.ndarray | Fault:
    """Lengths of runs down the columns, by turns outside and inside; they sum to all pixels. Or what is wrong."""
    if fault := _size_fault(height, width):
        return fault
    if isinstance(segmentation, list):
        if fault := _polygons_fault(segmentation, height, width):
            return fault
        # Not `native.decode`: it is hardly faster, and numpy 2 warns that its way of making an array will be refused.
        segmentation = native.merge(native.frPyObjects(segmentation, height, width))
        segmentation = {"size": [height, width], "counts": segmentation["counts"].decode("ascii")}
    if isinstance(segmentation, dict):
        return _checked_runs(segmentation, height, width)
    message = f"the segmentation is {short(segmentation)}; it must be a list of polygons or a run-length dict"
    return Fault("segmentation", ".segmentation", segmentation, message)


def _size_fault(height: int, width: int) -> Fault | None:
    if min(height, width) >= 1 and height * width <= MAX_PIXELS:
        return None
    return Fault("size", "", [width, height], f"the image is {width}x{height}; it must have 1 to {MAX_PIXELS} pixels")


def _polygons_fault(polygons: list[Any], height: int, width: int) -> Fault | None:
    if not polygons:
        message = "the segmentation holds no polygon; draw one or remove the annotation"
        return Fault("polygon", ".segmentation", polygons, message)
    for index, polygon in enumerate(polygons):
        if fault := _polygon_fault(polygon, height, width, f".segmentation[{index}]"):
            return fault
    return None


def _polygon_fault(polygon: Any, height: int, width: int, place: str) -> Fault | None:
    if not isinstance(polygon, list):
        message = f"a polygon is {short(polygon)}; the segmentation must be a list of lists of x, y"
        return Fault("polygon", place, polygon, message)
    # Four numbers would be taken for a box by pycocotools.
    if len(polygon) < 6 or len(polygon) % 2:
        message = f"a polygon has {len(polygon)} numbers; it must have an even number, at least 6"
        return Fault("polygon", place, polygon, message)
    sides = width + BEYOND_BORDER, height + BEYOND_BORDER
    # `type` rather than isinstance: True is no coordinate. NaN fails a comparison where it comes first, and else makes
    # the sum NaN; huge whole numbers, which cannot be added up, are out by then.
    if not (
        set(map(type, polygon)) <= {int, float}
        and min(polygon) >= -BEYOND_BORDER
        and max(polygon[0::2]) <= sides[0]
        and max(polygon[1::2]) <= sides[1]
        and not math.isnan(sum(polygon))
    ):
        return _coordinate_fault(polygon, sides, place)
    if len(polygon) / 2 * (max(sides) + BEYOND_BORDER) <= MAX_OUTLINE:  # No outline of so few points is longer.
        return None
    points = np.array(polygon, np.float64).reshape(-1, 2)
    outline = float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())
    if outline <= MAX_OUTLINE:
        return None
    message = f"a polygon's outline is {outline:.0f} pixels long, more than {MAX_OUTLINE}; store it as runs"
    return Fault("polygon", place, polygon, message)


def _coordinate_fault(polygon: list[Any], sides: tuple[float, float], place: str) -> Fault:
    """The first coordinate that is no number on the image."""
    index, value = next(
        (index, value)
        for index, value in enumerate(polygon)
        if type(value) not in (int, float) or not -BEYOND_BORDER <= value <= sides[index % 2]
    )
    message = (
        f"the polygon coordinate {short(value)} is no number from {-BEYOND_BORDER:g} to {sides[index % 2]:g}, within "
        "the image; correct it"
    )
    return Fault("polygon", f"{place}[{index}]", value, message)


def _checked_runs(segmentation: dict[str, Any], height: int, width: int) -> np.ndarray | Fault:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        message = f"the segmentation's size is {short(size)}; it must be [{height}, {width}], the image's"
        return Fault("run-lengths", ".segmentation.size", size, message)
    place = ".segmentation.counts"
    if isinstance(counts, str):
        expanded = _expand(counts)
        if isinstance(expanded, str):
            return Fault("run-lengths", place, counts, f"the compressed run lengths {expanded}; encode them anew")
        counts = expanded
    if not isinstance(counts, list):
        message = f"the segmentation's counts are {short(counts)}; they must be a list or a string"
        return Fault("run-lengths", place, counts, message)
    pixels = height * width
    if counts and (set(map(type, counts)) != {int} or min(counts) < 0 or max(counts) > pixels):
        index, value = next(
            (index, count) for index, count in enumerate(counts) if type(count) is not int or not 0 <= count <= pixels
        )
        message = f"the run length {short(value)} is no whole number from 0 to {pixels}; correct it"
        return Fault("run-lengths", f"{place}[{index}]", value, message)
    if sum(counts) != pixels:
        message = f"the run lengths sum to {sum(counts)}; they must sum to height x width, {pixels}"
        return Fault("run-lengths", place, sum(counts), message)
    return np.array(counts, np.int64)


def _expand(text: str) -> list[int] | str:
    """Run lengths in a compressed string: 5 bits a character, lowest first, bit 6 set where the number goes on; from
    the fourth number on, each is the difference to the run two before it (pycocotools' `rleToString`).

    :return: the numbers, or in words how they are damaged.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64) - 48
    last = (codes & 32) == 0
    starts = np.concatenate([[0], np.flatnonzero(last) + 1])
    lengths = np.diff(starts, append=len(codes))
    bad = (codes < 0) | (codes >= 64)
    too_long = lengths > _MAX_CHARACTERS
    if bad.any() or too_long.any():
        at = int(bad.argmax()) if bad.any() else int(starts[too_long.argmax()])
        return f"are damaged at {short(text[at])}"
    if lengths[-1]:
        return "end in the middle of a number"
    starts, lengths = starts[:-1], lengths[:-1]
    if not len(starts):
        return []
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((codes & 31) << shifts, starts)
    negative = (codes[starts + lengths - 1] & 16) != 0
    numbers[negative] -= 1 << 5 * lengths[negative]
    for first in (1, 2):
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers.tolist()
