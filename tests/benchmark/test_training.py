from __future__ import annotations

import json

import pytest

from tests.cli.commands import assert_refused, call

TRAIN = ["benchmark", "train"]
SMALL = ["-params", "n_envs:2", "n_steps:4", "batch_size:4", "n_epochs:1", "--iterations", "1"]


def test_a_run_on_drawn_scenes_is_measured(tmp_path, capsys):
    path = tmp_path / "figures.json"
    options = [*SMALL, "--vec-env", "dummy", "--algo", "ppo", "--agent", "explicit"]
    code, out, err = call([*TRAIN, *options, "--json", path], capsys)
    assert (code, err) == (0, "")
    assert max(map(len, out.replace(str(path), "").splitlines())) <= 80
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["images"], row["num_envs"], row["steps"]) == ("drawn", 2, 16)
    _check(row)


@pytest.mark.long
def test_photographs_are_new_once_and_then_out_of_the_cache(coco_mini, tmp_path, capsys):
    path = tmp_path / "figures.json"
    code, out, err = call([*TRAIN, *SMALL, "--root", coco_mini, "--json", path], capsys)
    assert (code, err) == (0, "")
    assert max(map(len, out.replace(str(path), "").splitlines())) <= 80
    new, cached = json.loads(path.read_text())["rows"]
    assert (new["images"], cached["images"]) == ("new", "cached")
    for row in (new, cached):
        _check(row)
    assert cached["limit_steps_per_second"] == pytest.approx(1 / cached["bare"]["segment"])
    assert new["limit_steps_per_second"] < 1 / new["bare"]["segment"]


def _check(row):
    step = row["rollout_seconds_per_step"]["median"] + row["update_seconds_per_step"]["median"]
    assert row["steps_per_second"]["median"] == pytest.approx(1 / step)
    assert row["of_limit"]["median"] == pytest.approx(1 / step / row["limit_steps_per_second"])
    assert 0 < row["segment_share_of_rollout"]["median"] < 1
    assert row["wall_seconds"] > step * row["steps"] / 2
    assert row["peak_pss_bytes"] is None or row["peak_pss_bytes"] > 3e8
    # An embedding of 128 kB belongs to five steps; Explicit's maps, masks and clicks come on top.
    assert 25_000 < row["stored_bytes_per_step"] < 160_000
    assert set(row["zip_bytes"]) == {f"{row_id}.zip" for row_id in ("best_model", _env_id(row))}
    assert all(size > row["policy_bytes"] for size in row["zip_bytes"].values())


def _env_id(row):
    return "SamSegShapes-v0" if row["images"] == "drawn" else "SamSegCoco-v0"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--iterations", "0"], "--iterations needs a whole number >= 1"),
        (["-params", "n_steps:none"], "hyperparameter 'n_steps' needs a whole number >= 1"),
        (["--root", "nowhere"], "there is no dataset folder nowhere"),
        (["--agent", "explicit", "--root", "nowhere"], "the explicit agent needs a text model"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(args, words, capsys):
    assert_refused([*TRAIN, *args], words, capsys)
