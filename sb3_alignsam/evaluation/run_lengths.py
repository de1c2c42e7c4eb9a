"""Masks as COCO's compressed run lengths, in plain text."""

from __future__ import annotations

from typing import Any

import numpy as np

from sb3_alignsam.datasets.coco_masks import decode_segmentation


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """COCO's run-length dict of a mask, (H, W) bool: ``size`` [H, W] and ``counts``, a text."""
    from pycocotools import mask as native

    encoded = native.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def decode_mask(runs: dict[str, Any]) -> np.ndarray:
    """The mask of `encode_mask`, (H, W) bool. :raises InputError: the runs are damaged."""
    height, width = runs["size"]
    return decode_segmentation(runs, height, width, "a mask of this evaluation")
