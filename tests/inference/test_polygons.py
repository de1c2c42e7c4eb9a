"""Polygons are judged by what pycocotools draws of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sb3_alignsam.datasets.coco_masks import decode_segmentation
from sb3_alignsam.inference.polygons import mask_polygons


def _drawn(polygons, shape):
    return decode_segmentation([polygon.ravel().tolist() for polygon in polygons], *shape, "drawn by pycocotools")


def _iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def test_boxes_come_back_pixel_for_pixel_also_at_the_border_and_with_a_hole():
    mask = np.zeros((40, 50), bool)
    mask[:20, :30] = True
    mask[5:9, 7:12] = mask[12:15, 20:22] = False
    mask[30:40, 45:50] = True
    polygons = mask_polygons(mask)
    assert len(polygons) == 2
    assert np.array_equal(_drawn(polygons, mask.shape), mask)
    assert polygons[0][:, 0].max() > polygons[0][:, 1].max()  # the larger part first


@pytest.mark.parametrize("seed", range(5))
def test_round_shapes_with_holes_come_back_almost_whole(seed):
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(120, 160)), (0, 0), 6)
    mask = noise > 0
    assert _iou(_drawn(mask_polygons(mask), mask.shape), mask) > 0.97


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2)])
def test_the_smallest_parts_are_polygons_too(size):
    mask = np.zeros((20, 20), bool)
    mask[3 : 3 + size[0], 4 : 4 + size[1]] = True
    (polygon,) = mask_polygons(mask)
    assert len(polygon) >= 3
    assert np.array_equal(_drawn([polygon], mask.shape), mask)


def test_an_empty_mask_has_none():
    assert mask_polygons(np.zeros((5, 5), bool)) == []
