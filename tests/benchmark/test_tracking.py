from __future__ import annotations

import json

import pytest

from tests.cli.commands import assert_refused, call


@pytest.mark.long
def test_training_with_tracking_and_without_takes_turns(tmp_path, capsys):
    path = tmp_path / "figures.json"
    options = ["--blocks", 1, "--seconds", 15, "--freq", 256]
    code, out, err = call(["benchmark", "tracking", *options, "--json", path], capsys)
    assert (code, err) == (0, "")
    assert max(map(len, out.replace(str(path), "").splitlines())) <= 80
    figures = json.loads(path.read_text())
    assert figures["on"]["films"] >= 1
    assert figures["off"]["films"] == figures["off"]["checkpoints"] == 0
    speeds = [figures[name]["steps_per_second"]["median"] for name in ("on", "off")]
    assert figures["ratio"]["median"] == pytest.approx(speeds[0] / speeds[1])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--blocks", "0"], "--blocks needs a whole number >= 1"),
        (["--freq", "0"], "--freq needs a whole number >= 1"),
        (["--seconds", "nan"], "--seconds needs a number above 0"),
    ],
)
def test_mistakes_are_named(option, words, capsys):
    assert_refused(["benchmark", "tracking", *option], words, capsys)
