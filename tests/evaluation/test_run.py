from __future__ import annotations

import json

import pytest

from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.agents import load_agent, make_clickers
from sb3_alignsam.evaluation.run import evaluate_run


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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["eval_dev.json", "eval_dev.png"]


def test_the_reported_split_is_never_the_one_chosen_on_by_default(run_folder):
    assert load_agent(run_folder).env.dataset.split == "val"
    assert load_agent(run_folder, split="dev").env.dataset.split == "dev"


def test_wrong_baselines_and_splits_are_named(run_folder):
    agent = load_agent(run_folder)
    with pytest.raises(InputError, match="baseline 'orakle'"):
        make_clickers(agent, ["orakle"], 2)
    with pytest.raises(InputError, match="split 'test'"):
        evaluate_run(run_folder, split="test")
