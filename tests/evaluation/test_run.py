from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.agents import load_agent, make_clickers
from sb3_alignsam.evaluation.parts import Parts
from sb3_alignsam.evaluation.protocol import evaluate
from sb3_alignsam.evaluation.run import evaluate_run, evaluate_runs
from sb3_alignsam.policies.clickers import STOP
from sb3_alignsam.training.config import read_hyperparams, shipped_config
from sb3_alignsam.training.run import train
from sb3_alignsam.training.settings import RunSettings
from tests.conftest import REPOSITORY, short_run


def test_an_evaluation_leaves_figures_and_curves_beside_the_run(run_folder):
    report = evaluate_run(run_folder, episodes=2, clicks=2, baselines=["majority", "oracle_grid"])
    folder = run_folder / "report"
    assert json.loads((folder / "eval_val.json").read_text()) == report
    assert (folder / "eval_val.png").stat().st_size > 10_000
    assert [row["name"] for row in report["clickers"]] == ["agent", "majority", "oracle_grid"]
    assert report["split"] == "val"
    assert report["num_episodes"] == 2


def test_the_best_model_and_another_place_can_be_asked_for(run_folder, tmp_path):
    report = evaluate_run(run_folder, load_best=True, split="dev", episodes=1, clicks=1, out=tmp_path)
    assert report["zip"] == "best_model.zip"
    assert report["calibration"]["note"].startswith("raw predicted IoU: the split reported is")
    endings = (".json", ".md", ".png", "_coco.json", "_episodes.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"eval_dev{ending}" for ending in endings]


def test_the_reported_split_is_never_the_one_chosen_on_by_default(run_folder):
    assert load_agent(run_folder).env.dataset.split == "val"
    assert load_agent(run_folder, split="dev").env.dataset.split == "dev"


def test_wrong_baselines_and_splits_are_named(run_folder):
    agent = load_agent(run_folder)
    with pytest.raises(InputError, match="baseline 'orakle'"):
        make_clickers(agent, ["orakle"], 2)
    with pytest.raises(InputError, match="split 'test'"):
        evaluate_run(run_folder, split="test")


def test_a_run_on_photographs_is_evaluated_where_it_was_trained_unless_told_otherwise(tmp_path):
    ShapesDataset("val").write_coco(tmp_path / "data", 40)
    folder = _coco_run(tmp_path)
    agent = load_agent(folder)
    assert (agent.env.dataset.name, agent.env.dataset.split) == ("coco", "val")
    moved = (tmp_path / "data").rename(tmp_path / "moved")
    agent = load_agent(folder, env_kwargs={"root": str(moved)})
    names = [clicker.name for clicker in make_clickers(agent, ["majority"], 2)]
    assert names == ["agent", "majority"]


def test_an_explicit_agent_is_of_use_for_other_categories_an_implicit_one_is_not(run_folder, tmp_path):
    annotations = ShapesDataset("val").write_coco(tmp_path / "data", 3)
    annotations.write_text(annotations.read_text().replace('"star"', '"traffic light"'))
    kwargs = {"dataset": "coco", "root": str(tmp_path / "data")}
    explicit = short_run("maskable_ppo", tmp_path, agent="explicit", eval_freq=0)
    baselines = ["clip", "clip_best"]
    report = evaluate_run(explicit, split="val", env_kwargs=kwargs, episodes=2, clicks=2, baselines=baselines)
    assert [row["name"] for row in report["clickers"]] == ["agent", "clip", "clip_best"]
    with pytest.raises(InputError, match="trained on other categories"):
        load_agent(run_folder, split="val", env_kwargs=kwargs)


def test_clip_baselines_are_compared_by_default_where_there_is_a_text_model(run_folder):
    names = [clicker.name for clicker in make_clickers(load_agent(run_folder), None, 1)]
    assert "clip" not in names
    seen = load_agent(run_folder, env_kwargs={"text_model": "tiny"})
    assert {"clip", "clip_best"} <= {clicker.name for clicker in make_clickers(seen, None, 1)}


def test_without_dev_episodes_majority_is_left_out_unless_asked_for(tmp_path):
    ShapesDataset("val").write_coco(tmp_path / "data", 3)
    agent, notices = load_agent(_coco_run(tmp_path)), []
    assert "majority" not in [clicker.name for clicker in make_clickers(agent, None, 2, notices.append)]
    assert "left out: baseline 'majority'" in notices[0]
    with pytest.raises(InputError, match="no dev episodes"):
        make_clickers(agent, ["majority"], 2)


def test_a_dataset_of_other_categories_is_refused(tmp_path):
    ShapesDataset("val").write_coco(tmp_path / "data", 8)
    folder = _coco_run(tmp_path)
    annotations = tmp_path / "data" / "annotations" / "instances_val.json"
    annotations.write_text(annotations.read_text().replace('"circle"', '"disc"'))
    with pytest.raises(InputError, match="trained on other categories"):
        load_agent(folder)


@pytest.mark.parametrize("place", ["out", "json"])
def test_a_place_that_cannot_be_written_is_named_before_the_work(run_folder, tmp_path, place):
    (tmp_path / "file").write_text("")
    wrong = {"out": {"out": tmp_path / "file" / "x"}, "json": {"json_file": tmp_path}}[place]
    with pytest.raises(InputError, match="cannot be written"):
        evaluate_run(run_folder, episodes=1, clicks=1, baselines=[], **({"out": tmp_path / "o"} | wrong))


def _coco_run(tmp_path):
    overrides = {"n_timesteps": 16, "n_steps": 8, "n_envs": 1, "batch_size": 8, "n_epochs": 1}
    hyperparams = read_hyperparams(shipped_config("ppo", "implicit"), "SamSegCoco-v0", "ppo", overrides)
    kwargs = {"root": str(tmp_path / "data"), "split": "val", "max_steps": 2}
    settings = RunSettings("ppo", "SamSegCoco-v0", kwargs, logs=tmp_path / "logs", vec_env="dummy", eval_freq=0)
    return train(settings, hyperparams, report=lambda line: None)


KILLED = """
import os, signal, sys
from pathlib import Path
from sb3_alignsam.evaluation import run
evaluate = run.evaluate
def killed(env, clickers, indices, clicks, progress, parts):
    return evaluate(env, clickers, indices, clicks, lambda done: os.kill(os.getpid(), signal.SIGKILL), parts)
run.evaluate = killed
run.evaluate_run(Path(sys.argv[1]), episodes=20, clicks=2, baselines=["random", "oracle"], out=Path(sys.argv[2]))
"""


def test_an_evaluation_that_was_killed_goes_on_and_ends_as_one_that_was_not(run_folder, tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    settings = {"episodes": 20, "clicks": 2, "baselines": ["random", "oracle"]}
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", KILLED, str(run_folder), str(killed)]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (killed / "eval_val.json").exists()
    (part,) = killed.glob(".parts_*/*.json")
    (part.parent / "00001.json").write_text(part.read_text()[:-5])  # torn
    resumed = evaluate_run(run_folder, out=killed, **settings)
    assert resumed == evaluate_run(run_folder, out=whole, **settings)
    for name in ("eval_val.json", "eval_val.md", "eval_val_coco.json", "eval_val_episodes.png"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert not list(killed.glob(".parts_*"))


def test_batches_that_are_there_are_not_played_again(run_folder, tmp_path):
    agent = load_agent(run_folder)
    parts = Parts(tmp_path, {})
    evaluate(agent.env, [agent.clicker], range(17), 1, parts=parts)
    played = []
    agent.clicker.next_clicks = lambda states: played.append(len(states)) or [STOP for _ in states]
    evaluate(agent.env, [agent.clicker], range(17), 1, parts=parts)
    assert played == []


def test_runs_of_one_configuration_are_reported_together(run_folder, other_run_folder, tmp_path):
    settings = {"episodes": 3, "clicks": 2, "baselines": ["majority", "oracle"], "out": tmp_path}
    shown = Console(file=io.StringIO(), width=100)
    report = evaluate_runs([run_folder, other_run_folder], console=shown, **settings)
    assert report["num_runs"] == 2
    agent, _, oracle = report["clickers"]
    assert [row["name"] for row in report["clickers"]] == ["agent", "majority", "oracle"]
    assert oracle["miou_of_runs"][0] == oracle["miou_of_runs"][1]
    assert agent["miou_at"][1]["mean"] == pytest.approx(np.mean(agent["miou_of_runs"]))
    assert set(report["differences"]) == {"majority", "oracle"}
    names = [f"1_{run_folder.name}", f"2_{other_run_folder.name}"]
    files = ["eval_val_2_runs.json", "eval_val_2_runs.md", "eval_val_2_runs.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, *files]
    alone = json.loads((tmp_path / names[1] / "eval_val.json").read_text())
    assert [row["name"] for row in alone["clickers"]] == ["agent", "majority", "oracle"]
    assert np.mean(alone["clickers"][0]["answer_iou"], axis=0)[1] == pytest.approx(agent["miou_of_runs"][1], abs=1e-4)
    assert max(len(line.rstrip()) for line in shown.file.getvalue().splitlines() if "/" not in line) <= 100


def test_runs_that_differ_in_more_than_their_seed_are_not_mixed(run_folder, tmp_path):
    with pytest.raises(InputError, match="named twice"):
        evaluate_runs([run_folder, run_folder], out=tmp_path)
    other = short_run("maskable_ppo", tmp_path, agent="explicit", eval_freq=0)
    with pytest.raises(InputError, match="not seeds of one configuration: their env_kwargs are"):
        evaluate_runs([run_folder, other], out=tmp_path)


def test_scores_are_calibrated_on_dev_and_written_as_coco_results(run_folder, tmp_path):
    report = evaluate_run(run_folder, episodes=4, clicks=1, out=tmp_path)
    calibration = report["calibration"]
    assert calibration["episodes"] in (0, 64)
    results = json.loads((tmp_path / "eval_val_coco.json").read_text())
    assert len(results) <= 4
    assert all(0 <= each["score"] <= 1 for each in results)
    figures = report["clickers"][0]["coco"]
    assert set(figures) == {"unions", "instances"}
    assert 0 <= figures["unions"]["AP"] <= 1
