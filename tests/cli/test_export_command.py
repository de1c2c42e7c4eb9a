"""`sb3-alignsam export` as a user types it."""

from __future__ import annotations

import json

import pytest

from tests.cli.commands import assert_refused, call


def test_it_tells_what_it_wrote_and_how_far_that_is_from_the_agent(run_folder, tmp_path, capsys):
    out, figures = tmp_path / "out", tmp_path / "parity.json"
    args = ["export", run_folder, "--format", "torch_export", "-o", out, "--check", 2, "--json", figures]
    code, told, err = call(args, capsys)
    assert (code, err) == (0, "")
    assert "2 episodes: the same clicks in 2" in told
    for name in ("policy.pt2", "sam_encoder.pt2", "sam_decoder.pt2", "agent.json", "runner.py"):
        assert (out / name).is_file()
        assert name == "agent.json" or str(out / name) in told
    parity = json.loads(figures.read_text())
    assert (parity["format"], parity["half"], parity["episodes"], parity["same_clicks"]) == (
        "torch_export",
        False,
        2,
        2,
    )
    assert parity["pixels_equal"] > 0.999


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"RUN": "no/run"}, "no/run does not exist"),
        ({"--format": "tflite"}, "'tflite' is not one of 'onnx', 'torch_export'"),
        ({"--check": -1}, "--check needs a whole number >= 0, got -1"),
        ({"--categories": "lamp"}, "category 'lamp' is not in the categories that"),
        ({"--env-kwargs": "root:x"}, "'root' says nothing about photographs"),
        ({"--json": "/"}, "cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(change, words, run_folder, tmp_path, capsys):
    options = {"RUN": run_folder, "-o": tmp_path / "out"} | change
    run = options.pop("RUN")
    assert_refused(["export", run, *(each for pair in options.items() for each in pair)], words, capsys)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
