"""The model card's figures, on a part of the val split: a change that breaks the tiny SAM or eases the scenes shows."""

from __future__ import annotations

import json

import numpy as np
from click.testing import CliRunner

from sb3_alignsam.perception import Click
from sb3_alignsam.perception.tiny.measure import flood_fill, main


def test_the_tiny_sam_follows_clicks_and_the_scenes_need_one(tmp_path):
    result = CliRunner().invoke(main, ["--scenes", "24", "--json", str(tmp_path / "figures.json")])
    assert result.exit_code == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["oracle mIoU@1 single instances"] >= 0.65
    assert figures["oracle mIoU@5 single instances"] >= 0.75
    assert figures["oracle mIoU@5 category unions"] >= 0.68
    assert figures["flood fill, best tolerance, single instances"] <= 0.45
    assert figures["centre click, category unions"] <= 0.30
    assert figures["whole picture, category unions"] <= 0.25
    assert figures["weights, MB"] <= 6
    assert all(name in result.output for name in figures)


def test_weights_that_are_not_there_are_one_line_and_exit_code_2(tmp_path):
    result = CliRunner().invoke(main, ["--weights", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert result.output.startswith("Error: checkpoint")
    assert result.output.count("\n") == 1


def test_flood_fill_fills_what_is_connected_and_of_about_one_colour():
    image = np.full((20, 30, 3), 100, np.uint8)
    image[:, 10:12] = 200
    image[:, 12:] = 104
    filled = flood_fill(image, Click(3, 3, True), 10)
    assert filled[:, :10].all()
    assert not filled[:, 10:].any()
    assert flood_fill(image, Click(3, 3, True), 150).all()
