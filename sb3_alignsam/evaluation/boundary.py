"""Boundary IoU: how well two masks agree along their outlines, where IoU of a large object hardly looks."""

from __future__ import annotations

import math

import cv2
import numpy as np

DILATION = 0.02
"""Width of the boundary as a share of the image's diagonal (Cheng et al., 2021, section 5)."""


def boundary_width(height: int, width: int) -> int:
    """Width of the boundary in pixels, at least 1."""
    return max(round(DILATION * math.hypot(height, width)), 1)


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask within `boundary_width` of its outline; beyond the picture's edge nothing belongs to it.

    :param mask: (H, W) bool. :return: (H, W) bool.
    """
    height, width = mask.shape
    padded = np.pad(mask.astype(np.uint8), 1)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=boundary_width(height, width))
    return np.asarray(mask & (inner[1:-1, 1:-1] == 0))


def boundary_iou(mask: np.ndarray, gt: np.ndarray, ignore: np.ndarray, gt_boundary: np.ndarray | None = None) -> float:
    """Boundary IoU (Cheng et al., "Boundary IoU", CVPR 2021, equation 2), ignored pixels left out; 1 where neither
    boundary has a pixel that counts.

    :param mask: (H, W) bool. :param gt: (H, W) bool. :param ignore: (H, W) bool.
    :param gt_boundary: `boundary` of `gt` where it is known already.
    """
    mask_edge = boundary(mask) & ~ignore
    gt_edge = (boundary(gt) if gt_boundary is None else gt_boundary) & ~ignore
    together = int(np.count_nonzero(mask_edge | gt_edge))
    return 1.0 if together == 0 else int(np.count_nonzero(mask_edge & gt_edge)) / together
