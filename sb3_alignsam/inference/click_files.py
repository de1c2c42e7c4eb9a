"""Clicks as JSON: what `predict` writes, and what a person may give it to go on from."""

from __future__ import annotations

import json
from pathlib import Path
from reprlib import repr as short
from typing import Any

from sb3_alignsam.envs.sam_seg_env import MAX_STEPS
from sb3_alignsam.errors import InputError
from sb3_alignsam.inference.annotator import PlacedClick
from sb3_alignsam.perception.clicks import Click

EXAMPLE = '{"clicks": [{"x": 120, "y": 80, "positive": true}]}'
DIGITS = 4
"""Decimals of predicted IoU in files; what lies beyond them is rounding noise."""


def click_entry(placed: PlacedClick) -> dict[str, Any]:
    """One click as files hold it: place in pixels, label, predicted IoU of its mask, who placed it."""
    click = placed.click
    return {
        "x": click.x,
        "y": click.y,
        "positive": click.positive,
        "predicted_iou": round(placed.predicted_iou, DIGITS),
        "by": "given" if placed.given else "agent",
    }


def read_clicks(path: Path, image_size: tuple[int, int]) -> list[Click]:
    """Read the clicks of a JSON file; of each only ``x``, ``y`` and ``positive`` count.

    :param image_size: height and width in pixels of the photograph that they are for.
    :raises InputError: the file is missing, or as for `parse_clicks`.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check --from-clicks") from error
    return parse_clicks(text, str(path), image_size)


def parse_clicks(text: bytes | str, name: str, image_size: tuple[int, int]) -> list[Click]:
    """The clicks of a JSON text, as `read_clicks` reads them.

    :param name: what messages call it. :param image_size: height and width in pixels of the photograph.
    :raises InputError: it is no such JSON, was made for a photograph of another size, or has a click that cannot be
        placed.
    """
    try:
        content = json.loads(text)
    # Text that is no Unicode is a ValueError too.
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is no valid JSON ({error}); it must hold {EXAMPLE}") from error
    entries = content.get("clicks") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise InputError(f"{name} holds no list 'clicks'; it must be as predict writes it, or {EXAMPLE}")
    height, width = image_size
    stated = (content.get("width", width), content.get("height", height))
    if stated != (width, height):
        raise InputError(
            f"{name} was made for an image of {short(stated[0])}x{short(stated[1])} pixels, this one has "
            f"{width}x{height}; give the clicks of this image"
        )
    if len(entries) > MAX_STEPS:
        raise InputError(f"{name} holds {len(entries)} clicks; at most {MAX_STEPS} can be placed")
    return [_click(entry, f"{name}: click {number}", image_size) for number, entry in enumerate(entries, 1)]


def _click(entry: Any, where: str, image_size: tuple[int, int]) -> Click:
    if not isinstance(entry, dict):
        raise InputError(f'{where} is {short(entry)}; it must be as {{"x": 120, "y": 80, "positive": true}}')
    for key, most in (("x", image_size[1] - 1), ("y", image_size[0] - 1)):
        # `type` rather than isinstance: True is no place.
        if type(entry.get(key)) is not int or not 0 <= entry[key] <= most:
            raise InputError(
                f"{where}: '{key}' is {short(entry.get(key))}; it must be a whole number of pixels from 0 to {most}"
            )
    if type(entry.get("positive")) is not bool:
        raise InputError(f"{where}: 'positive' is {short(entry.get('positive'))}; it must be true or false")
    return Click(entry["x"], entry["y"], entry["positive"])
