"""The geometry of graphs is that of the package, for any photograph, at any place in a batch."""

from __future__ import annotations

import warnings

import numpy as np
import onnxruntime
import pytest
import torch as th
from torch.export import Dim

from sb3_alignsam.envs.click_grid import ClickGrid
from sb3_alignsam.inference import graph_geometry
from sb3_alignsam.perception import geometry

SHAPES = [(480, 640), (640, 480), (1, 1), (1, 900), (2000, 3), (256, 256), (333, 500), (17, 23), (4000, 3000)]
# Those of which a factor that is rounded twice, or to float32, makes another pixel.
SHAPES += [(651, 896), (427, 896), (9, 384), (384, 15), (27, 384), (558, 768), (3, 700)]
ROWS = th.tensor(SHAPES)


@pytest.mark.parametrize("size", [64, 224, 256, 320, 336, 1024])
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


class _Places(th.nn.Module):
    """Whatever follows from a photograph's shape."""

    def __init__(self, size, patches):
        super().__init__()
        self.size, self.grid = size, ClickGrid(size, num_patches=patches)

    def forward(self, shapes):
        inside = graph_geometry.cells_inside(shapes, self.size, 24, 24, 24)
        points = graph_geometry.to_square(th.full((shapes.shape[0], 1, 2), 7.0), shapes, self.size)
        return (
            graph_geometry.resized_shapes(shapes, self.size),
            inside,
            points,
            *graph_geometry.click_places(shapes, self.grid),
        )


def test_onnxruntime_comes_to_the_same_pixels(tmp_path):
    module = _Places(320, 14)  # neither is a power of two
    with warnings.catch_warnings(action="ignore"):
        program = th.export.export(module, (ROWS,), dynamic_shapes=({0: Dim("batch")},))
        th.onnx.export(program, dynamo=True, verbose=False).save(tmp_path / "places.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "places.onnx"))
    found = session.run(None, {session.get_inputs()[0].name: ROWS.numpy()})
    for ours, theirs in zip(module(ROWS), found, strict=True):
        assert np.array_equal(ours.numpy(), theirs)
