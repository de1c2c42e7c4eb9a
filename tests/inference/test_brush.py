"""Brushes, read as the format's own decoder reads them (`@thi.ng/rle-pack`, which Label Studio uses)."""

from __future__ import annotations

import numpy as np
import pytest

from sb3_alignsam.inference.brush import brush_region, encode_brush


def read_brush(stream, shape):
    """The mask that a brush shows, (H, W) bool: the alpha of its picture."""
    bits = np.unpackbits(np.frombuffer(bytes(stream), np.uint8)).tolist()
    place = 0

    def read(count):
        nonlocal place
        place += count
        assert place <= len(bits)
        return int("".join(map(str, bits[place - count : place])), 2)

    count, size = read(32), read(5) + 1
    lengths = [read(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.uint8)
    start = 0
    while start < count:
        same, end = read(1), start
        end += read(lengths[read(2)]) + 1
        assert end <= count
        values[start:end] = read(size) if same else [read(size) for _ in range(start, end)]
        start = end
    assert len(bits) - place < 8
    picture = values.reshape(*shape, 4)
    assert set(np.unique(picture)) <= {0, 255}
    return picture[..., 3] == 255


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (7, 5), (33, 129), (150, 300)])
def test_a_brush_shows_the_mask(shape):
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        mask = rng.random(shape) < share
        assert np.array_equal(read_brush(encode_brush(mask), shape), mask)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 64, 65, 16384, 16385, 32768, 32769])
def test_a_run_of_any_length_is_one_or_several(length):
    mask = np.arange(40000).reshape(1, -1) < length
    assert np.array_equal(read_brush(encode_brush(mask), mask.shape), mask)


def test_a_region_says_whose_it_is_and_of_what_size():
    region = brush_region(np.eye(3, 5, dtype=bool), "star", 0.5, ("label", "image"), "a")
    assert (region["original_height"], region["original_width"]) == (3, 5)
    assert (region["from_name"], region["to_name"], region["type"]) == ("label", "image", "brushlabels")
    assert (region["value"]["format"], region["value"]["brushlabels"]) == ("rle", ["star"])
    assert all(type(each) is int for each in region["value"]["rle"])
