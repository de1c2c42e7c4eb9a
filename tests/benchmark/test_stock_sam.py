from __future__ import annotations

import numpy as np
import pytest
import torch as th

from sb3_alignsam.benchmark.stock_sam import StockSam
from sb3_alignsam.perception import Clicks
from sb3_alignsam.perception.loading import load_network

SHAPE = (200, 256)


@pytest.mark.parametrize("count", [1, 3])
def test_it_gives_the_segmenters_masks(segmenter, count):
    stock = StockSam(load_network("tiny").decoder, segmenter.embedding_shape, segmenter.image_size, segmenter.device)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*SHAPE, 3), np.uint8)
    embedding = segmenter.encode([image])
    clicks = Clicks(rng.uniform(0, 200, (count, 2)), rng.integers(0, 2, count))
    previous = None if count == 1 else th.randn(1, 1, 128, 128)
    ours = segmenter.segment(embedding, [clicks], [SHAPE], previous)
    low_res, iou = stock.segment(embedding[0], clicks, SHAPE, previous, count == 1)
    assert th.allclose(ours.low_res[0], low_res, atol=1e-3)
    assert th.allclose(ours.iou[0], iou, atol=1e-4)
