from __future__ import annotations

import numpy as np
import pytest

from sb3_alignsam.envs.rendering import NEGATIVE, POSITIVE, draw_clicks, fit, overlay, render_episode
from sb3_alignsam.perception import Click


@pytest.mark.parametrize("shape", [(256, 256), (427, 640), (640, 427), (40, 500)])
def test_frames_have_even_sides_and_one_shape_for_any_photograph(shape):
    image, mask = np.zeros((*shape, 3), np.uint8), np.zeros(shape, bool)
    frame = render_episode(image, mask, mask, [Click(3, 3, True)], "star", "IoU", 256)
    assert frame.shape == render_episode(image[:50, :50], mask[:50, :50], mask[:50, :50], [], "a", "b", 256).shape
    assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0


@pytest.mark.parametrize(("click", "place"), [(Click(10, 5, True), (152, 52)), (Click(90, 45, False), (352, 452))])
def test_a_click_is_drawn_where_it_was_made_in_the_colour_of_its_label(click, place):
    picture = draw_clicks(fit(np.zeros((50, 100, 3), np.uint8), 500), [click], (50, 100))
    # 100 pixels wide becomes 500, centred between bands of 125: row 5 of 50 lies at 125 + 27.
    row, column = place
    colour = POSITIVE if click.positive else NEGATIVE
    around = picture[row - 12 : row + 13, column - 12 : column + 13].reshape(-1, 3)
    assert (around == colour).all(axis=1).sum() > 20


def test_a_mask_is_tinted_and_the_rest_is_not():
    image, mask = np.full((20, 20, 3), 100, np.uint8), np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    shown = overlay(image, mask, (255, 0, 0))
    assert shown[10, 10, 0] > 150
    assert (shown[0, 0] == 55).all()
