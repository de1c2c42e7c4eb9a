from __future__ import annotations

import pytest
import torch as th

from sb3_alignsam.perception.clip_surgery import ClipSurgery


def test_points_are_the_highest_and_the_lowest_cells_and_at_most_half_of_each():
    scores = th.arange(16.0).reshape(4, 4).repeat_interleave(2, 0).repeat_interleave(2, 1).flatten()
    points, labels = ClipSurgery.points(scores, (80, 160), threshold=0.8)
    assert labels.tolist() == [1] * 4 + [0] * 4
    # Cells 12 to 15 lie in the last row, 0 to 3 in the first; each cell is 40 pixels wide and 20 high.
    assert points.tolist() == [[x, y] for y in (70, 10) for x in (20, 60, 100, 140)]
    assert ClipSurgery.points(scores, (80, 160), threshold=0.0)[1].tolist() == [1] * 8 + [0] * 8


def test_scores_with_cls_are_refused():
    with pytest.raises(ValueError, match="square grid, without CLS"):
        ClipSurgery.similarity_map(th.zeros(1, 17, 2), (48, 40))
    with pytest.raises(ValueError, match="square grid, without CLS"):
        ClipSurgery.points(th.zeros(17), (48, 40))
