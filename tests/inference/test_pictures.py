from __future__ import annotations

import numpy as np
import pytest

from sb3_alignsam.envs.rendering import NEGATIVE, POSITIVE
from sb3_alignsam.inference.pictures import LEAST_SIDE, MOST_SIDE, draw_answer
from sb3_alignsam.perception import Click


@pytest.mark.parametrize(
    ("size", "side"), [((30, 40), LEAST_SIDE), ((700, 900), 900), ((200, 4000), MOST_SIDE), ((1, 900), 900)]
)
def test_small_pictures_are_enlarged_and_large_ones_made_smaller(size, side):
    picture = draw_answer(np.zeros((*size, 3), np.uint8), np.zeros(size, bool), [Click(0, 0, True)], "star")
    assert side in picture.shape
    assert picture.dtype == np.uint8


def test_clicks_and_mask_lie_where_they_were_made():
    image, mask = np.full((64, 64, 3), 100, np.uint8), np.zeros((64, 64), bool)
    mask[32:, 32:] = True
    picture = draw_answer(image, mask, [Click(16, 16, True), Click(48, 16, False)], "star")
    picture = picture[-LEAST_SIDE:]
    for x, colour in ((165, POSITIVE), (485, NEGATIVE)):
        around = picture[155:176, x - 10 : x + 11].reshape(-1, 3)
        assert (around == colour).all(axis=1).sum() > 20
    assert picture[500, 500, 2] > picture[500, 100, 2] + 50
