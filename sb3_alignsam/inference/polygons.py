"""From a mask to polygons that people can edit."""

from __future__ import annotations

import cv2
import numpy as np

TOLERANCE = 0.5
"""How far in pixels a simplified outline may lie from the mask's own."""


def mask_polygons(mask: np.ndarray) -> list[np.ndarray]:
    """Outlines of a mask's parts, largest first; a hole is joined to its part's outline by a cut of no width.

    :param mask: (H, W) bool. :return: for each part its corners, (N, 2) float64 x, y in pixels, N >= 3, 0 being the
        left and upper edge of the first pixel and not its centre.
    """
    if not mask.any():
        return []
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.uint8)
    # Traced at twice the size, outlines run through quarters of pixels: inside each of the mask's pixels and around
    # its centre. At the mask's own size they would run through centres, and drawing them would lose the rim.
    doubled = np.repeat(np.repeat(part, 2, axis=0), 2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [_simplified(contour) for contour in contours]
    polygons = []
    for index, (_, _, child, parent) in enumerate(hierarchy[0]):
        if parent >= 0:
            continue
        ring = rings[index]
        while child >= 0:
            ring = _with_hole(ring, rings[child])
            child = hierarchy[0][child][0]
        polygons.append((cv2.contourArea(contours[index]), ring))
    polygons.sort(key=lambda each: -each[0])
    return [(ring + 0.5) / 2 + (left, top) for _, ring in polygons]


def _simplified(contour: np.ndarray) -> np.ndarray:
    """Corners of one contour, (N, 2) int64, of at least three."""
    simple = cv2.approxPolyDP(contour, 2 * TOLERANCE, True)
    ring = (simple if len(simple) >= 3 else contour)[:, 0].astype(np.int64)
    if len(ring) < 3:  # a line; its corners once more make it a polygon
        ring = np.concatenate([ring, ring[::-1], ring])[:4]
    return ring


def _with_hole(ring: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """An outline that goes to a hole, around it and back, (N, 2) int64."""
    start = int(np.square(ring - hole[0]).sum(axis=1).argmin())
    return np.concatenate([ring[: start + 1], hole, hole[:1], ring[start:]])
