from __future__ import annotations

import json

import pytest

from sb3_alignsam.training.vec_envs import VEC_ENVS
from tests.cli.commands import assert_refused, call

ENV = ["benchmark", "env"]


@pytest.mark.long
def test_every_kind_of_vec_env_is_played_and_compared(tmp_path, capsys):
    path = tmp_path / "figures.json"
    options = ["--num-envs", 2, "--steps", 3, "--repeats", 1, "--env-kwargs", "max_steps:3", "num_patches:8"]
    code, out, err = call([*ENV, *options, "--json", path], capsys)
    assert (code, err) == (0, "")
    assert max(map(len, out.replace(str(path), "").splitlines())) <= 80
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["num_envs"], list(row["kinds"])) == (2, list(VEC_ENVS))
    for kind, figures in row["kinds"].items():
        assert f"2 {kind}" in out
        assert figures["steps_per_second"]["median"] > 0
        ours, dummy = figures["steps_per_second"]["median"], row["kinds"]["dummy"]["steps_per_second"]["median"]
        assert figures["times_dummy"]["median"] == pytest.approx(ours / dummy)
        # A process of its own has the segmenter where nobody can look.
        assert (figures["segment_share"] is None) == (kind == "subproc")
    assert 0 < row["kinds"]["dummy"]["segment_share"]["median"] < 1
    bare = row["bare"][0]
    limit = 1 / (bare["segment"] + (bare["draw"] + bare["encode"]) / 3)
    assert row["limit_steps_per_second"]["median"] == pytest.approx(limit)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--num-envs", "1,two"], "--num-envs needs whole numbers from 1 to 1024 with commas between, got '1,two'"),
        (["--num-envs", "0"], "--num-envs needs whole numbers"),
        (["--steps", "0"], "--steps needs a whole number >= 1"),
        (["--repeats", "0"], "--repeats needs a whole number >= 1"),
        (["--checkpoint", "x.pt"], "--checkpoint is for repvit_sam"),
        (["--json", "/"], "cannot be written"),
        (["--env-kwargs", "max_steps:many"], "'max_steps' needs a whole number, got 'many'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(args, words, capsys):
    assert_refused([*ENV, *args], words, capsys)
