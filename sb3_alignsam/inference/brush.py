"""Masks as Label Studio's brush: the bit stream of `@thi.ng/rle-pack`, which its documentation calls "brush RLE"."""

from __future__ import annotations

from typing import Any

import numpy as np

CHANNELS = 4
"""A brush is an RGBA picture, whose alpha is the mask; each of a pixel's values is 0 or 255."""
LENGTH_BITS = (3, 4, 8, 16)
"""How many bits a run's length may be written with; each run names one of the four."""
VALUE_BITS = 8


def brush_region(mask: np.ndarray, label: str, score: float, tags: tuple[str, str], identity: str) -> dict[str, Any]:
    """One region of a prediction.

    :param mask: (H, W) bool. :param score: predicted IoU. :param tags: names of the BrushLabels and of the Image tag.
    :param identity: of the region, another for each of a task.
    """
    return {
        "id": identity,
        "type": "brushlabels",
        "from_name": tags[0],
        "to_name": tags[1],
        "original_width": mask.shape[1],
        "original_height": mask.shape[0],
        "image_rotation": 0,
        "score": score,
        "value": {"format": "rle", "rle": list(encode_brush(mask)), "brushlabels": [label]},
    }


def encode_brush(mask: np.ndarray) -> bytes:
    """A mask, (H, W) bool of at least one pixel, as the bit stream of its brush.

    The head is the number of values (32 bits), the bits of a value less 1 (5), and each of `LENGTH_BITS` less 1 (4).
    Then, for each run: 1 (its values are all the same), which of `LENGTH_BITS` its length takes (2), the length less 1,
    and the value.
    """
    flat = mask.ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    lengths = np.diff(starts, append=flat.size) * CHANNELS
    bits = [f"{flat.size * CHANNELS:032b}{VALUE_BITS - 1:05b}", *(f"{each - 1:04b}" for each in LENGTH_BITS)]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        bits.append(_runs(length, "1" * VALUE_BITS if flat[start] else "0" * VALUE_BITS))
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    return int(stream, 2).to_bytes(len(stream) // 8, "big")


def _runs(length: int, value: str) -> str:
    """The bits of one run, or of several where it is too long for one. :param value: its bits."""
    longest = 2 ** LENGTH_BITS[-1]
    whole = f"1{len(LENGTH_BITS) - 1:02b}{longest - 1:0{LENGTH_BITS[-1]}b}{value}" * ((length - 1) // longest)
    rest = (length - 1) % longest
    place = next(place for place, bits in enumerate(LENGTH_BITS) if rest < 2**bits)
    return f"{whole}1{place:02b}{rest:0{LENGTH_BITS[place]}b}{value}"
