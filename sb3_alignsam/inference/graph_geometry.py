"""The geometry of photographs, clicks and maps on tensors, so that it can be part of an exported graph.

Each function computes what its namesake of `perception.geometry` or `envs.click_grid` does for one photograph, in the
same order of operations and in float64, for as many photographs as there are rows.
"""

from __future__ import annotations

import torch as th

from sb3_alignsam.envs.click_grid import ClickGrid


def resized_shapes(shapes: th.Tensor, size: int) -> th.Tensor:
    """Heights and widths whose longest side is scaled to `size`. :param shapes: (B, 2) int64. :return: likewise."""
    longest = shapes.amax(dim=1, keepdim=True).double()
    # A number over a tensor would be the tensor's reciprocal times the number, which rounds twice.
    return (shapes * (th.full_like(longest, size) / longest) + 0.5).long().clamp(min=1)


def cells_inside(shapes: th.Tensor, size: int, side: int, height: int, width: int) -> th.Tensor:
    """Which cells of a grid over the padded square have their centre on the photograph, (B, height, width) bool.

    :param shapes: of photographs, (B, 2) int64. :param size: of the square in pixels. :param side: cells a side.
    :param height: so many rows of the grid, from the top. :param width: so many columns, from the left.
    """
    resized = resized_shapes(shapes, size)
    rows, columns = (
        ((th.arange(count) + 0.5).double() * size / side < resized[:, axis, None]) | (th.arange(count) == 0)
        for axis, count in enumerate((height, width))
    )
    return rows[:, :, None] & columns[:, None, :]


def to_square(points: th.Tensor, shapes: th.Tensor, size: int) -> th.Tensor:
    """Points in pixels of the photographs, (B, N, 2) x, y float32, in pixels of the padded square."""
    scale = (resized_shapes(shapes, size).double() / shapes.double()).float()
    return points * scale.flip(1)[:, None]


def click_places(shapes: th.Tensor, grid: ClickGrid) -> tuple[th.Tensor, th.Tensor]:
    """Where patches are clicked, and which can be.

    :param shapes: of photographs, (B, 2) int64.
    :return: the pixel of each row and of each column of patches, (B, 2, G) int64; which patches can be clicked,
        (B, G, G) bool.
    """
    length, resized = shapes[:, :, None].double(), resized_shapes(shapes, grid.image_size)[:, :, None].double()
    places = th.arange(grid.num_patches)
    # As a tensor: onnx keeps no more than float32 of a number.
    side = th.tensor(grid.image_size / grid.num_patches, dtype=th.float64)
    pixels = ((places + 0.5).double() * side * length / resized).long()
    back = ((pixels + 0.5).double() * resized / length * grid.num_patches / grid.image_size).long()
    valid = (pixels < length) & (back == places)
    valid = valid | (places == 0) & ~valid.any(dim=2, keepdim=True)
    pixels = pixels.where(places > 0, pixels.minimum(shapes[:, :, None] - 1))
    return pixels, valid[:, 0, :, None] & valid[:, 1, None, :]
