"""The geometry of graphs is that of the package, for any photograph, at any place in a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th

from sb3_alignsam.envs.click_grid import ClickGrid
from sb3_alignsam.inference import graph_geometry
from sb3_alignsam.perception import geometry

SHAPES = [
    (480, 640),
    (640, 480),
    (1, 1),
    (1, 900),
    (2000, 3),
    (256, 256),
    (333, 500),
    (17, 23),
    (4000, 3000),
    (255, 257),
]
ROWS = th.tensor(SHAPES)


@pytest.mark.parametrize("size", [64, 256, 320, 1024])
def test_resized_shapes(size):
    expected = [geometry.resized_shape(*shape, size) for shape in SHAPES]
    assert graph_geometry.resized_shapes(ROWS, size).tolist() == [list(each) for each in expected]


@pytest.mark.parametrize(("size", "side"), [(256, 16), (320, 24), (1024, 64), (64, 64)])
def test_cells_inside(size, side):
    expected = np.stack([geometry.cells_inside(*shape, size, side) for shape in SHAPES])
    assert np.array_equal(graph_geometry.cells_inside(ROWS, size, side, side, side).numpy(), expected)
    cropped = graph_geometry.cells_inside(ROWS, size, side, 3, 5)
    assert np.array_equal(cropped.numpy(), expected[:, :3, :5])


def test_to_square():
    points = np.random.default_rng(0).uniform(0, 1, (len(SHAPES), 4, 2)) * np.array(SHAPES)[:, None, ::-1]
    points = points.astype(np.float32)
    found = graph_geometry.to_square(th.from_numpy(points), ROWS, 256).numpy()
    for row, shape in enumerate(SHAPES):
        assert np.array_equal(found[row], geometry.to_square(points[row], *shape, 256))


@pytest.mark.parametrize(("size", "patches"), [(256, 16), (256, 14), (1024, 64), (256, 1), (64, 64)])
def test_click_places(size, patches):
    grid = ClickGrid(size, num_patches=patches)
    pixels, valid = graph_geometry.click_places(ROWS, grid)
    for row, shape in enumerate(SHAPES):
        assert np.array_equal(valid[row].numpy(), grid.valid_patches(*shape))
        columns, rows = grid.centres(*shape)
        assert pixels[row].tolist() == [rows.tolist(), columns.tolist()]
