from __future__ import annotations

import numpy as np
import pytest

from sb3_alignsam.envs import ClickGrid
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception import Click


def test_actions_are_row_major_with_the_label_last():
    grid = ClickGrid(256, num_patches=16)
    assert grid.num_actions == 512
    assert grid.click(0, 256, 256) == Click(8, 8, True)
    assert grid.click(1, 256, 256) == Click(8, 8, False)
    assert grid.click(2, 256, 256) == Click(24, 8, True)
    assert grid.click(32, 256, 256) == Click(8, 24, True)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (427, 640), (640, 427), (60, 1000), (31, 17)])
def test_every_valid_action_is_a_click_in_its_own_patch_of_the_image(height, width):
    grid = ClickGrid(256, num_patches=16)
    valid = grid.valid_patches(height, width)
    assert valid.any()
    for row, column in np.argwhere(valid):
        click = grid.click(grid.action(row, column, True), height, width)
        assert 0 <= click.x < width
        assert 0 <= click.y < height
        assert grid.patch(click, height, width) == (row, column)


def test_patches_in_the_padding_are_invalid():
    valid = ClickGrid(256, num_patches=16).valid_patches(300, 600)
    assert valid[:8].all()
    assert not valid[8:].any()


def test_patch_size_and_num_patches_are_two_ways_to_say_it():
    assert ClickGrid(1024, patch_size=32).num_patches == 32


def test_clicked_patches_are_masked_for_both_labels_and_stop_never_is():
    grid = ClickGrid(256, num_patches=4, allow_stop=True)
    clicked = np.zeros((4, 4), bool)
    clicked[0, 1] = True
    mask = grid.action_mask(clicked, 256, 256)
    assert len(mask) == grid.num_actions == 33
    assert not mask[2:4].any()
    assert mask.sum() == 31
    assert grid.stop_action == 32
    assert mask[grid.stop_action]


def test_something_is_possible_even_when_every_patch_was_clicked():
    grid = ClickGrid(256, num_patches=1)
    assert grid.action_mask(np.ones((1, 1), bool), 256, 256).all()


@pytest.mark.parametrize(
    "sizes", [{}, {"num_patches": 16, "patch_size": 16}, {"patch_size": 100}, {"patch_size": 0}, {"num_patches": 0}]
)
def test_sizes_that_make_no_grid_are_refused(sizes):
    with pytest.raises(InputError):
        ClickGrid(256, **sizes)


@pytest.mark.parametrize("action", [-1, 512, 513])
def test_what_is_no_click_is_refused(action):
    with pytest.raises(ValueError, match="is no click"):
        ClickGrid(256, num_patches=16, allow_stop=True).click(action, 256, 256)


@pytest.mark.parametrize(("height", "width", "side"), [(40, 60, 64), (20, 30, 64), (16, 16, 32)])
def test_patches_that_share_a_pixel_are_one_action(height, width, side):
    grid = ClickGrid(256, num_patches=side)
    rows, columns = np.nonzero(grid.valid_patches(height, width))
    clicks = [grid.click(grid.action(r, c, True), height, width) for r, c in zip(rows, columns, strict=True)]
    assert len({(click.x, click.y) for click in clicks}) == len(clicks) > 100
    assert all(grid.patch(click, height, width) == (r, c) for click, r, c in zip(clicks, rows, columns, strict=True))


@pytest.mark.parametrize(("height", "width"), [(8, 400), (400, 8), (1, 1000)])
def test_even_the_thinnest_picture_can_be_clicked(height, width):
    grid = ClickGrid(256, num_patches=16)
    valid = grid.valid_patches(height, width)
    assert valid.any()
    for row, column in np.argwhere(valid):
        click = grid.click(grid.action(row, column, True), height, width)
        assert 0 <= click.x < width
        assert 0 <= click.y < height


@pytest.mark.parametrize(("height", "width"), [(256, 256), (60, 200), (1, 500)])
def test_centres_are_those_that_the_actions_click(height, width):
    grid = ClickGrid(256, num_patches=16)
    columns, rows = grid.centres(height, width)
    for row, column in np.argwhere(grid.valid_patches(height, width)):
        click = grid.click(grid.action(int(row), int(column), True), height, width)
        assert (click.x, click.y) == (columns[column], rows[row])
