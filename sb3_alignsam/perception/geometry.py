"""SAM's image geometry: the longest side scaled to a square, the rest padded at the right and at the bottom.

Follows `ResizeLongestSide` and `Sam.preprocess` of Segment Anything (Kirillov et al., 2023).
"""

from __future__ import annotations

import numpy as np
from PIL import Image


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width in pixels of an image whose longest side is scaled to `size`."""
    scale = size / max(height, width)
    # At least one pixel, where SAM itself fails on a picture that is thinner than it can scale.
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def resize_longest_side(image: np.ndarray, size: int) -> np.ndarray:
    """Scale an image, (H, W, 3) uint8, so that its longest side is `size`; antialiased bilinear, as SAM does."""
    height, width = resized_shape(image.shape[0], image.shape[1], size)
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def to_square(points_xy: np.ndarray, height: int, width: int, size: int) -> np.ndarray:
    """Map points, (N, 2) x, y in pixels of the (height, width) image, to pixels of the padded square; float32.

    Each axis has a scale of its own, because the resized sides are rounded.
    """
    new_height, new_width = resized_shape(height, width, size)
    return np.asarray(points_xy, np.float32) * np.array([new_width / width, new_height / height], np.float32)


def letterbox(image: np.ndarray, size: int) -> np.ndarray:
    """The image as SAM's input lies: resized, padded with black, (size, size, 3) uint8."""
    resized = resize_longest_side(image, size)
    square = np.zeros((size, size, 3), np.uint8)
    square[: resized.shape[0], : resized.shape[1]] = resized
    return square
