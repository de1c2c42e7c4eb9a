from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sb3_alignsam.perception.geometry import letterbox, resize_longest_side, resized_shape, to_square


def test_sides_are_rounded_as_sam_rounds_them():
    assert resized_shape(375, 500, 1024) == (768, 1024)
    assert resized_shape(333, 500, 1024) == (682, 1024)
    assert resized_shape(640, 427, 256) == (256, 171)


def test_points_are_scaled_by_each_axis_own_factor():
    points = to_square(np.array([[500.0, 333.0]]), 333, 500, 1024)
    assert np.allclose(points, [[1024.0, 682.0]])


def test_an_image_of_the_right_size_is_not_resampled():
    image = np.random.default_rng(0).integers(0, 256, (256, 100, 3), np.uint8)
    assert resize_longest_side(image, 256) is image


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(480, 640, 1024), (427, 640, 1024), (640, 425, 1024), (333, 500, 1024), (1024, 1000, 2048), (900, 700, 1024),
     (1300, 900, 1024), (480, 640, 256), (480, 640, 320), (600, 1024, 256), (600, 1024, 128),
     (64, 50, 256), (7, 900, 1024), (1, 1, 64)],
)  # fmt: skip
def test_a_resized_image_is_pillows_to_the_last_bit(height, width, size):
    """Noise shows each rounding: torch alone differs in some of every thousand pixels of most of these sizes."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image.flags.writeable = False
    new_height, new_width = resized_shape(height, width, size)
    expected = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BILINEAR)
    assert np.array_equal(resize_longest_side(image, size), np.asarray(expected))


def test_letterbox_pads_right_and_below_with_black():
    square = letterbox(np.full((20, 40, 3), 200, np.uint8), 64)
    assert square.shape == (64, 64, 3)
    assert (square[:32] == 200).all()
    assert not square[32:].any()
