"""SAM's image geometry: the longest side scaled to a square, the rest padded at the right and at the bottom.

Follows `ResizeLongestSide` and `Sam.preprocess` of Segment Anything (Kirillov et al., 2023).
"""

from __future__ import annotations

from math import gcd

import numpy as np
import torch as th
from PIL import Image

_MOST_EXACT_PARTS = 2**14
"""torch's weights are multiples of 1 / 2**14, or finer."""


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width in pixels of an image whose longest side is scaled to `size`."""
    scale = size / max(height, width)
    # At least one pixel, where SAM itself fails on a picture that is thinner than it can scale.
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def resize_longest_side(image: np.ndarray, size: int) -> np.ndarray:
    """Scale an image, (H, W, 3) uint8, so that its longest side is `size`; antialiased bilinear, as SAM does.

    The result is Pillow's to the last bit, first across and then down, each rounded. torch's passes are ten times as
    fast, and are taken where they equal Pillow's.
    """
    height, width = resized_shape(image.shape[0], image.shape[1], size)
    if image.shape[:2] == (height, width):
        return image
    across = _by_torch if _is_exact(image.shape[1], width) else _by_pillow
    down = _by_torch if _is_exact(image.shape[0], height) else _by_pillow
    if across is down:
        return down(image, height, width)
    return down(across(image, image.shape[0], width), height, width)


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


def cells_inside(height: int, width: int, size: int, side: int) -> np.ndarray:
    """Which cells of a `side` x `side` grid over the padded square have their centre on the photograph; (side, side)
    bool. Of a picture so thin that no centre lies on it, the first ones.

    :param height: of the photograph, in pixels. :param width: likewise. :param size: of the square.
    """
    centres = (np.arange(side) + 0.5) * size / side
    rows, columns = (centres < length for length in resized_shape(height, width, size))
    rows[0] = columns[0] = True
    return np.asarray(rows[:, None] & columns)


def _is_exact(old: int, new: int) -> bool:
    """Whether both scale a side alike: up, where only multiples of 1 / (a small power of two) are needed as weights, so
    that none is rounded; down to a half or a quarter, likewise. From an eighth on they differ now and then."""
    if new < old:
        return old in (2 * new, 4 * new)
    parts = 2 * new // gcd(old, new)
    return parts <= _MOST_EXACT_PARTS and parts & (parts - 1) == 0


def _by_torch(image: np.ndarray, height: int, width: int) -> np.ndarray:
    channels_last = th.from_numpy(np.require(image, requirements=("C", "W")))[None].permute(0, 3, 1, 2)
    resized = th.nn.functional.interpolate(channels_last, (height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def _by_pillow(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
