"""An answer as a picture for people: the photograph, the mask on it, and numbered clicks."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sb3_alignsam.envs.rendering import ANSWER_TINT, BACKGROUND, TEXT, mark_click, overlay
from sb3_alignsam.perception.clicks import Click

LEAST_SIDE, MOST_SIDE = 640, 1600
"""Longest side of a picture in pixels: small photographs are enlarged, so that their clicks can be told apart."""

LEAST_WIDTH = 400
"""So wide is a picture at least, that a thin photograph's line of text and numbers have room."""


def draw_answer(image: np.ndarray, mask: np.ndarray, clicks: Sequence[Click], headline: str) -> np.ndarray:
    """Draw the mask's outline and tint and the clicks, numbered in their order, below a line of text.

    :param image: (H, W, 3) uint8. :param mask: (H, W) bool. :param clicks: in pixels of the image.
    :param headline: the line of text; cut where it is longer than the picture is wide.
    :return: (height, width, 3) uint8 RGB, at least `LEAST_WIDTH` wide, the longest side of the photograph in it
        `LEAST_SIDE` to `MOST_SIDE`.
    """
    height, width = image.shape[:2]
    scale = np.clip(max(height, width), LEAST_SIDE, MOST_SIDE) / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    photograph = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    shown = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
    picture = np.ascontiguousarray(overlay(photograph, shown, ANSWER_TINT))
    radius = max(max(size) // 60, 10)
    centres = [(int((c.x + 0.5) * size[0] / width), int((c.y + 0.5) * size[1] / height)) for c in clicks]
    for click, centre in zip(clicks, centres, strict=True):
        mark_click(picture, centre, click.positive, radius)
    return _with_text(picture, centres, radius, headline)


def _with_text(picture: np.ndarray, centres: Sequence[tuple[int, int]], radius: int, headline: str) -> np.ndarray:
    """The picture below its headline, with each click's number beside it."""
    height, width = picture.shape[:2]
    line = 2 * radius + 12
    canvas = Image.new("RGB", (max(width, LEAST_WIDTH), height + line), BACKGROUND)
    canvas.paste(Image.fromarray(picture), (0, line))
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(radius + 8)
    pen.text((8, line // 2), headline, TEXT, font, anchor="lm")
    for number, (x, y) in enumerate(centres, 1):
        # Beside the click, on the side where there is room.
        right = x < canvas.width - 4 * radius
        place = (x + (radius + 4) * (1 if right else -1), y + line)
        pen.text(place, str(number), TEXT, font, anchor="lm" if right else "rm", stroke_width=3, stroke_fill=(0, 0, 0))
    return np.asarray(canvas)
