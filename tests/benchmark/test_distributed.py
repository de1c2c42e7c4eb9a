from __future__ import annotations

import json

import pytest

from sb3_alignsam.benchmark.timing import cores
from tests.cli.commands import assert_refused, call


@pytest.mark.skipif(cores() < 2, reason="two ranks need two cores")
def test_one_rank_and_two_update_in_turns(tmp_path, capsys):
    path = tmp_path / "figures.json"
    params = ["n_envs:2", "n_steps:8", "batch_size:8", "n_epochs:1"]
    code, out, err = call(["benchmark", "distributed", "--repeats", 2, "--json", path, "-params", *params], capsys)
    assert (code, err) == (0, "")
    assert max(map(len, out.replace(str(path), "").splitlines())) <= 80
    figures = json.loads(path.read_text())
    alone, together = (figures[f"{name}_seconds"]["values"] for name in ("alone", "together"))
    assert figures["ratio"]["values"] == pytest.approx([a / b for a, b in zip(alone, together, strict=True)])
    assert all(0 < each < 1 for each in figures["waiting_share"]["values"])
    assert (figures["steps"], figures["num_envs"]) == (16, 2)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--ranks", "1"], "--ranks needs a whole number >= 2"),
        (["--ranks", str(cores() + 1)], f"--ranks {cores() + 1} needs as many cores; this process may use {cores()}"),
        (["--repeats", "0"], "--repeats needs a whole number >= 1"),
    ],
)
def test_mistakes_are_named(option, words, capsys):
    assert_refused(["benchmark", "distributed", *option], words, capsys)
