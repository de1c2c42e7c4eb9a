"""Draws the scenes of `SamSegShapes-v0`: textured shapes that overlap, lit and noisy, from a random generator.

A scene is drawn back to front. An object that would hide too much of one below it is placed elsewhere, so every object
in `Scene.instances` can be seen and clicked. Nothing here depends on a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

SIZE = 256
"""Height and width of a scene in pixels."""
CATEGORIES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "crescent")
MIN_OBJECTS, MAX_OBJECTS = 3, 8
MIN_VISIBLE_SHARE = 0.45
"""Least share of an object's own pixels that stays visible."""
MIN_VISIBLE_PIXELS = 200
MIN_RADIUS, MAX_RADIUS = 20.0, 60.0
MIN_COLOUR_DISTANCE = 45.0
"""Least Euclidean RGB distance between an object's base colour and the background's."""
MIN_TEXTURE_DISTANCE = 65.0
"""Least Euclidean RGB distance between the two colours of a texture: this is what defeats flood fill."""


@dataclass(frozen=True)
class Scene:
    """:param image: (256, 256, 3) uint8 RGB. :param instances: visible pixels, (N, 256, 256) bool.
    :param labels: category index of each instance, (N,) int64."""

    image: np.ndarray
    instances: np.ndarray
    labels: np.ndarray


def draw_scene(
    rng: np.random.Generator, target: int | None = None, objects: tuple[int, int] = (MIN_OBJECTS, MAX_OBJECTS)
) -> Scene:
    """Draw one scene in which the category of index `target` (None: a random one) is present.

    :param objects: least and most objects that are drawn; those that find no place are left out, but three remain.
    """
    target = int(rng.integers(len(CATEGORIES))) if target is None else target
    while True:
        labels = _draw_labels(rng, target, objects)
        placed = _place(rng, labels)
        # A crowded draw can leave fewer than three objects or drop the target: draw again.
        if len(placed) >= 3 and any(label == target for label, _, _ in placed):
            return _render(rng, placed)


def _draw_labels(rng: np.random.Generator, target: int, objects: tuple[int, int]) -> list[int]:
    """Category indices in drawing order: one to four objects of the target, the rest of one to three others."""
    count = int(rng.integers(objects[0], objects[1] + 1))
    targets = min(int(rng.choice([1, 2, 3, 4], p=[0.4, 0.3, 0.2, 0.1])), count)
    others = rng.permutation([index for index in range(len(CATEGORIES)) if index != target])[: rng.integers(1, 4)]
    labels = [target] * targets + [int(rng.choice(others)) for _ in range(count - targets)]
    return [labels[index] for index in rng.permutation(count)]


def _place(rng: np.random.Generator, labels: list[int]) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Return (label, full silhouette, visible pixels) of each object that found a place; masks (256, 256) uint8."""
    placed: list[tuple[int, np.ndarray, np.ndarray]] = []
    for label in labels:
        for _ in range(12):
            silhouette = _silhouette(rng, label)
            visible = [seen & ~silhouette for _, _, seen in placed]
            area = int(silhouette.sum())
            fits = area >= MIN_VISIBLE_PIXELS and all(
                seen.sum() >= max(MIN_VISIBLE_SHARE * full.sum(), MIN_VISIBLE_PIXELS)
                for seen, (_, full, _) in zip(visible, placed, strict=True)
            )
            if fits:
                placed = [(old, full, seen) for (old, full, _), seen in zip(placed, visible, strict=True)]
                placed.append((label, silhouette, silhouette))
                break
    return placed


def _silhouette(rng: np.random.Generator, label: int) -> np.ndarray:
    """One shape of random size, place, rotation and proportion, filled, (256, 256) bool."""
    radius = float(np.exp(rng.uniform(np.log(MIN_RADIUS), np.log(MAX_RADIUS))))
    angle = float(rng.uniform(0, 2 * np.pi))
    stretch = np.array([np.exp(rng.uniform(-0.15, 0.15)), 1.0])
    centre = rng.uniform(0.5 * radius, SIZE - 0.5 * radius, 2)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    filled, hole = _OUTLINES[CATEGORIES[label]](rng)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for outline, value in ((filled, 1), (hole, 0)):
        if outline is not None:
            points = (outline * stretch) @ rotation.T * radius + centre
            cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], value, lineType=cv2.LINE_8, shift=4)
    return mask.astype(bool)


Outline = tuple[np.ndarray, np.ndarray | None]


def _arc(radius: float = 1.0, centre: tuple[float, float] = (0.0, 0.0), points: int = 48) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius + np.array(centre)


def _polygon(corners: int, radii: tuple[float, ...] = (1.0,)) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    scale = np.resize(np.array(radii), corners)
    return np.stack([np.cos(turn) * scale, np.sin(turn) * scale], axis=1)


def _cross(rng: np.random.Generator) -> Outline:
    arm = float(rng.uniform(0.26, 0.4))
    quarter = np.array([[arm, arm], [arm, 1.0], [-arm, 1.0]])
    turns = [np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), k) for k in range(4)]
    return np.concatenate([quarter @ turn.T for turn in turns]), None


def _heart(rng: np.random.Generator) -> Outline:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y], axis=1) / 16.0, None


def _crescent(rng: np.random.Generator) -> Outline:
    return _arc(), _arc(float(rng.uniform(0.72, 0.85)), (float(rng.uniform(0.42, 0.55)), 0.0))


_OUTLINES: dict[str, Callable[[np.random.Generator], Outline]] = {
    "circle": lambda rng: (_arc(), None),
    "square": lambda rng: (_polygon(4), None),
    "triangle": lambda rng: (_polygon(3, (1.15,)), None),
    "star": lambda rng: (_polygon(10, (1.15, float(rng.uniform(0.42, 0.55)))), None),
    "ring": lambda rng: (_arc(), _arc(float(rng.uniform(0.45, 0.65)))),
    "cross": _cross,
    "heart": _heart,
    "crescent": _crescent,
}
"""Filled outline and hole of each category in units of its radius, each (points, 2) x, y."""


def _render(rng: np.random.Generator, placed: list[tuple[int, np.ndarray, np.ndarray]]) -> Scene:
    """Paint background, shadows and objects back to front, then light and noise."""
    ground = rng.uniform(30, 225, 3)
    canvas = _texture(rng, SIZE, SIZE, ground)
    for _, silhouette, _ in placed:
        _paint(rng, canvas, silhouette, _distant_colour(rng, ground, MIN_COLOUR_DISTANCE))
    canvas *= _light(rng, SIZE, SIZE, 0.3)
    if rng.random() < 0.3:
        canvas = cv2.GaussianBlur(canvas, (3, 3), float(rng.uniform(0.4, 1.0)))
    canvas += rng.standard_normal(canvas.shape, np.float32) * np.float32(rng.uniform(3, 16))
    image = np.clip(canvas, 0, 255).astype(np.uint8)
    return Scene(
        image, np.stack([seen for _, _, seen in placed]), np.array([label for label, _, _ in placed], np.int64)
    )


def _paint(rng: np.random.Generator, canvas: np.ndarray, silhouette: np.ndarray, colour: np.ndarray) -> None:
    """Blend one shadowed, shaded, textured object into `canvas` (float32, in place)."""
    x, y, width, height = cv2.boundingRect(silhouette.astype(np.uint8))
    top, left = max(y - 8, 0), max(x - 8, 0)
    window = np.s_[top : min(y + height + 8, SIZE), left : min(x + width + 8, SIZE)]
    mask = silhouette[window].astype(np.float32)
    if rng.random() < 0.5:
        shift = np.array([[1, 0, rng.uniform(-6, 6)], [0, 1, rng.uniform(-6, 6)]], np.float32)
        shadow = cv2.GaussianBlur(cv2.warpAffine(mask, shift, mask.shape[::-1]), (7, 7), 2)
        canvas[window] *= 1 - np.float32(rng.uniform(0.1, 0.45)) * shadow[..., None]
    rows, columns = mask.shape
    surface = _texture(rng, rows, columns, colour) * _light(rng, rows, columns, 0.2)
    alpha = cv2.GaussianBlur(mask, (3, 3), 0.6)[..., None]
    canvas[window] += alpha * (surface - canvas[window])


def _distant_colour(rng: np.random.Generator, other: np.ndarray, distance: float) -> np.ndarray:
    """A random RGB colour at least `distance` from `other`, (3,) float64."""
    while True:
        colour = rng.uniform(15, 240, 3)
        if np.linalg.norm(colour - other) >= distance:
            return colour


def _light(rng: np.random.Generator, height: int, width: int, strength: float) -> np.ndarray:
    """A linear change of brightness across the picture, (height, width, 1) float32 around 1."""
    slope = rng.uniform(-strength, strength, 2)
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(slope[0])
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(slope[1])
    return (1 + rows + columns)[..., None]


def _texture(rng: np.random.Generator, height: int, width: int, colour: np.ndarray) -> np.ndarray:
    """`colour` and a second one mixed by a random pattern, (height, width, 3) float32 in 0..255 and a little beyond."""
    second = _distant_colour(rng, colour, MIN_TEXTURE_DISTANCE)
    pattern = _pattern(rng, height, width)[..., None]
    return np.float32(colour) + pattern * np.float32(second - colour)


def _pattern(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Weight of the second colour: stripes, waves, checks, dots, blotches or nothing; (height, width) float32."""
    kind = rng.choice(["stripes", "waves", "checks", "dots", "blotches", "plain"], p=[0.3, 0.05, 0.28, 0.2, 0.15, 0.02])
    if kind == "plain":
        return np.zeros((height, width), np.float32)
    if kind == "blotches":
        cells = rng.random((max(height // 12, 2), max(width // 12, 2)), np.float32)
        return cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    angle, period = rng.uniform(0, np.pi), rng.uniform(7, 22)
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
    turn = np.float32(2 * np.pi / period)
    u = turn * (np.float32(np.cos(angle)) * columns + np.float32(np.sin(angle)) * rows)
    if kind == "stripes":
        return (np.sin(u) > 0).astype(np.float32)
    if kind == "waves":
        return 0.5 + 0.5 * np.sin(u)
    v = turn * (np.float32(np.cos(angle)) * rows - np.float32(np.sin(angle)) * columns)
    product = np.sin(u) * np.sin(v)
    return (product > (0 if kind == "checks" else 0.45)).astype(np.float32)
