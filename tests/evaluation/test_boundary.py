from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_cdt

from sb3_alignsam.evaluation.boundary import boundary, boundary_iou, boundary_width
from tests.evaluation.random_masks import random_masks


def _by_distance(mask):
    """The boundary by its definition: pixels of the mask nearer to a pixel outside, the picture's edge included, than
    its width, by chessboard distance, which is that of a square structuring element."""
    width = max(1, int(np.round(0.02 * np.sqrt(mask.shape[0] ** 2 + mask.shape[1] ** 2))))
    distance = distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1]
    return mask & (distance <= width)


def test_it_is_the_public_definition_on_a_thousand_random_masks():
    for gt, mask, ignore in random_masks(1000):
        gt_edge, mask_edge = _by_distance(gt) & ~ignore, _by_distance(mask) & ~ignore
        union = np.logical_or(gt_edge, mask_edge).sum()
        wanted = np.logical_and(gt_edge, mask_edge).sum() / union if union else 1.0
        assert boundary_iou(mask, gt, ignore) == wanted


def test_a_boundary_is_as_wide_as_it_is_said_to_be_and_goes_along_the_pictures_edge():
    mask = np.zeros((60, 80), bool)
    mask[:20, :30] = True
    assert boundary_width(60, 80) == 2
    edge = boundary(mask)
    assert edge[:2, :30].all()
    assert edge[18:20, :30].all()
    assert not edge[2:18, 2:28].any()
    assert boundary_width(3, 4) == 1


def test_nothing_and_nothing_agree_and_ignored_pixels_do_not_count():
    empty, full = np.zeros((20, 20), bool), np.ones((20, 20), bool)
    assert boundary_iou(empty, empty, empty) == 1.0
    assert boundary_iou(full, empty, empty) == 0.0
    assert boundary_iou(full, empty, full) == 1.0
    half = full.copy()
    half[:, 10:] = False
    assert boundary_iou(full, half, ~half) > boundary_iou(full, half, empty)
