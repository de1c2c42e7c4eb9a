"""Pictures of an episode for people: photograph, ground truth and answer side by side, clicks and figures on them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sb3_alignsam.envs.episode import ClickEpisode
from sb3_alignsam.perception.clicks import Click

GAP = 8
BACKGROUND = (24, 26, 30)
TEXT = (236, 239, 244)
DIM_TEXT = (160, 168, 180)
POSITIVE, NEGATIVE = (46, 204, 64), (255, 65, 54)
TRUTH_TINT, ANSWER_TINT = (255, 200, 40), (40, 160, 255)


def render_step(episode: ClickEpisode, steps: int, max_steps: int, reward: float, panel: int) -> np.ndarray:
    """One frame of an episode as it is after `steps` of `max_steps` actions, see `render_episode`.

    :param reward: of the latest action.
    """
    answer = episode.answer
    headline = f"{episode.sample.category}   click {steps} of {max_steps}"
    figures = f"reward {reward:+.2f}   IoU {answer.scores.iou:.2f}   predicted {answer.predicted_iou:.2f}"
    image, gt = episode.sample.image, episode.gt(answer.mask)
    return render_episode(image, gt, answer.mask, episode.clicks, headline, figures, panel)


def render_episode(
    image: np.ndarray,
    gt: np.ndarray,
    answer: np.ndarray,
    clicks: Sequence[Click],
    headline: str,
    figures: str,
    panel: int = 320,
) -> np.ndarray:
    """Draw one frame; its shape depends on `panel` alone, so the frames of different photographs make one film.

    :param image: (H, W, 3) uint8. :param gt: (H, W) bool. :param answer: (H, W) bool.
    :param clicks: clicks so far, in pixels of the image.
    :param headline: first line of text. :param figures: second line of text.
    :param panel: side of each of the three pictures in pixels.
    :return: (height, width, 3) uint8 RGB, both sides even, as video codecs want.
    """
    size = max(panel // 18, 11)
    top = 2 * GAP + 3 * (size + 6)
    frame = np.empty((top + panel + GAP, 3 * panel + 4 * GAP, 3), np.uint8)
    frame[:] = BACKGROUND
    pictures = (
        ("photograph", fit(image, panel)),
        ("ground truth", fit(overlay(image, gt, TRUTH_TINT), panel)),
        ("answer and clicks", draw_clicks(fit(overlay(image, answer, ANSWER_TINT), panel), clicks, image.shape[:2])),
    )
    for index, (_, picture) in enumerate(pictures):
        left = GAP + index * (panel + GAP)
        frame[top : top + panel, left : left + panel] = picture
    canvas = Image.fromarray(frame)
    pen = ImageDraw.Draw(canvas)
    font, small = ImageFont.load_default(size + 2), ImageFont.load_default(size)
    pen.text((GAP, GAP), headline, TEXT, font)
    pen.text((GAP, GAP + size + 6), figures, TEXT, small)
    for index, (title, _) in enumerate(pictures):
        pen.text((GAP + index * (panel + GAP), GAP + 2 * (size + 6)), title, DIM_TEXT, small)
    frame = np.asarray(canvas)
    return np.ascontiguousarray(np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge"))


def fit(image: np.ndarray, side: int) -> np.ndarray:
    """Scale an image to fit a square and centre it there, (side, side, 3) uint8."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    new = (max(round(width * scale), 1), max(round(height * scale), 1))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    square = np.full((side, side, 3), BACKGROUND, np.uint8)
    top, left = (side - new[1]) // 2, (side - new[0]) // 2
    square[top : top + new[1], left : left + new[0]] = cv2.resize(image, new, interpolation=method)
    return square


def overlay(image: np.ndarray, mask: np.ndarray, tint: tuple[int, int, int]) -> np.ndarray:
    """Tint a mask's pixels and draw its outline; the rest is darkened a little. (H, W, 3) uint8."""
    shown = (image * 0.55).astype(np.uint8)
    shown[mask] = (image[mask] * 0.6 + np.array(tint) * 0.4).astype(np.uint8)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(shown, contours, -1, tint, max(max(image.shape[:2]) // 128, 1))


def draw_clicks(picture: np.ndarray, clicks: Sequence[Click], image_size: tuple[int, int]) -> np.ndarray:
    """Mark clicks on a picture made by `fit`: a green disc with a plus, a red one with a minus. In place; returned."""
    side = picture.shape[0]
    height, width = image_size
    scale = side / max(height, width)
    radius = max(side // 36, 6)
    offset = ((side - round(width * scale)) // 2, (side - round(height * scale)) // 2)
    for click in clicks:
        centre = (round((click.x + 0.5) * scale) + offset[0], round((click.y + 0.5) * scale) + offset[1])
        mark_click(picture, centre, click.positive, radius)
    return picture


def mark_click(picture: np.ndarray, centre: tuple[int, int], positive: bool, radius: int) -> None:
    """Draw one click in place: a green disc with a plus, or a red one with a minus. :param centre: x, y in pixels."""
    cv2.circle(picture, centre, radius, (255, 255, 255), -1, cv2.LINE_AA)
    cv2.circle(picture, centre, radius - 2, POSITIVE if positive else NEGATIVE, -1, cv2.LINE_AA)
    arm = max(radius // 2, 2)
    cv2.line(picture, (centre[0] - arm, centre[1]), (centre[0] + arm, centre[1]), (255, 255, 255), 2)
    if positive:
        cv2.line(picture, (centre[0], centre[1] - arm), (centre[0], centre[1] + arm), (255, 255, 255), 2)
