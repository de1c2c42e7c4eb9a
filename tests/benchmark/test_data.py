from __future__ import annotations

import json

import pytest

from tests.cli.commands import assert_refused, call


def test_opening_and_reading_are_timed(tmp_path, capsys):
    path = tmp_path / "figures.json"
    sizes = ["--images", 60, "--annotations", 300, "--workers", 1, "--samples", 3]
    code, out, err = call(["benchmark", "data", *sizes, "--json", path], capsys)
    assert (code, err) == (0, "")
    assert max(map(len, out.replace(str(path), "").splitlines())) <= 80
    figures = json.loads(path.read_text())
    assert (figures["images"], figures["annotations"]) == (60, 300)
    assert figures["json_bytes"] > 100_000
    for part in ("first", "again"):
        assert figures["open"][part]["episodes"] > 100
        assert 0 < figures["open"][part]["cpu_seconds"] < 60
    assert len(figures["samples"]["seconds"]["values"]) == 3
    assert figures["samples"]["instances"] >= 1
    assert "opened from its index" in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--samples", "0"], "--samples needs a whole number >= 1"),
        (["--json", "/"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(args, words, capsys):
    assert_refused(["benchmark", "data", *args], words, capsys)
