from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.learning_curves import Curve, grouped_runs, on_common_steps, plot_clicks, plot_learning
from sb3_alignsam.evaluation.run import evaluate_run


def _colours(path):
    with Image.open(path) as picture:
        return np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)


def test_seeds_of_one_algorithm_and_policy_are_one_line(run_folder, other_run_folder, tmp_path):
    groups = grouped_runs([run_folder, other_run_folder])
    assert groups == {"SamSegShapes-v0 maskable_ppo MaskableImplicitPolicy": [run_folder, other_run_folder]}
    plot_learning([run_folder, other_run_folder], tmp_path / "a" / "learning.png")
    assert len(_colours(tmp_path / "a" / "learning.png")) > 20


def test_seeds_are_compared_where_all_of_them_were():
    curves = [Curve(np.array([0.0, 10, 20]), np.array([0, 1, 2])), Curve(np.array([5.0, 15]), np.array([4, 8]))]
    steps, values = on_common_steps(curves, "x")
    assert steps.tolist() == [5, 10, 15]
    assert values.tolist() == [[0.5, 1, 1.5], [4, 6, 8]]
    with pytest.raises(InputError, match="no environment step in common"):
        on_common_steps([curves[0], Curve(np.array([30.0]), np.array([1]))], "x")


def test_runs_without_evaluations_are_drawn_by_their_training_episodes(run_folder, tmp_path):
    run = tmp_path / "ppo" / "SamSegShapes-v0_1"
    run.mkdir(parents=True)
    with pytest.raises(InputError, match=r"neither evaluations\.npz nor a progress\.csv"):
        plot_learning([run], tmp_path / "learning.png")
    (run / "progress.csv").write_bytes((run_folder / "progress.csv").read_bytes())
    plot_learning([run], tmp_path / "learning.png")
    assert (tmp_path / "learning.png").is_file()
    (run / "evaluations.npz").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"evaluations\.npz cannot be read"):
        plot_learning([run], tmp_path / "learning.png")


def test_click_curves_come_from_the_reports_of_eval(run_folder, other_run_folder, tmp_path):
    for run in (run_folder, other_run_folder):
        evaluate_run(run, split="dev", episodes=3, clicks=2, baselines=["oracle"])
    plot_clicks([run_folder, other_run_folder], tmp_path / "clicks.png", "dev")
    assert len(_colours(tmp_path / "clicks.png")) > 20
    evaluate_run(other_run_folder, split="dev", episodes=2, clicks=2)
    with pytest.raises(InputError, match="not of the same episodes"):
        plot_clicks([run_folder, other_run_folder], tmp_path / "clicks.png", "dev")
    report = other_run_folder / "report" / "eval_dev.json"
    report.write_text(json.dumps({"clickers": []}))
    with pytest.raises(InputError, match="is no report of `eval`"):
        plot_clicks([other_run_folder], tmp_path / "clicks.png", "dev")
    report.unlink()
