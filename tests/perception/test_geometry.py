from __future__ import annotations

import numpy as np

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


def test_letterbox_pads_right_and_below_with_black():
    square = letterbox(np.full((20, 40, 3), 200, np.uint8), 64)
    assert square.shape == (64, 64, 3)
    assert (square[:32] == 200).all()
    assert not square[32:].any()
