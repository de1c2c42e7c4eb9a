from __future__ import annotations

import csv
import zipfile

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.logger import configure

from sb3_alignsam.callbacks import CheckpointCallback, ClickMetricsCallback, EvaluationCallback
from sb3_alignsam.envs import make_env
from sb3_alignsam.policies import ImplicitPolicy


@pytest.fixture
def model():
    env = make_env("SamSegShapes-v0", {"split": "dev", "max_steps": 2})
    return PPO(ImplicitPolicy, env, n_steps=8, batch_size=8, n_epochs=1, device="cpu", seed=0)


def test_checkpoints_come_at_the_ends_of_rollouts_and_keep_their_distance(model, tmp_path):
    saved = []
    model.learn(48, CheckpointCallback(saved.append, tmp_path, save_freq=12))
    assert [path.name for path in saved] == [f"rl_model_{steps}_steps.zip" for steps in (16, 32, 48)]


def test_the_last_few_checkpoints_are_kept_and_nothing_else_is_removed(model, tmp_path):
    for name in ("rl_model_4000_steps.zip", "rl_model_best_steps.zip", "best_model.zip"):
        (tmp_path / name).touch()
    model.learn(48, CheckpointCallback(lambda path: path.touch(), tmp_path, save_freq=8, keep=2))
    expected = {f"rl_model_{steps}_steps.zip" for steps in (40, 48, 4000, "best")} | {"best_model.zip"}
    assert {path.name for path in tmp_path.iterdir()} == expected


def test_checkpoints_come_by_minutes_too(model, tmp_path):
    saved = []
    model.learn(32, CheckpointCallback(saved.append, tmp_path, save_minutes=1e-9))
    assert [path.name for path in saved] == [f"rl_model_{steps}_steps.zip" for steps in (8, 16, 24, 32)]
    model.learn(16, CheckpointCallback(saved.append, tmp_path, save_minutes=1000))
    assert len(saved) == 4


def test_a_checkpoint_that_cannot_be_written_is_told_once_and_tried_again(model, tmp_path):
    lines, saved = [], []

    def save(path):
        if len(saved) in (1, 2):
            saved.append(None)
            raise OSError(28, "No space left on device")
        saved.append(path.name)

    model.learn(48, CheckpointCallback(save, tmp_path, save_freq=8, report=lines.append))
    assert saved == ["rl_model_8_steps.zip", None, None, *(f"rl_model_{n}_steps.zip" for n in (32, 40, 48))]
    assert len(lines) == 1
    assert "warning: no checkpoint at 16 steps (No space left on device)" in lines[0]


def test_an_evaluation_goes_on_from_its_state(model, tmp_path):
    def callback():
        dev = make_env("SamSegShapes-v0", {"split": "dev", "max_steps": 2})
        return EvaluationCallback(dev, [0, 1], False, 16, tmp_path, lambda path: saved.append(path.name))

    saved = []
    first = callback()
    model.learn(16, first)
    state = first.state_dict()
    state["best_miou"] = 2.0
    model.learn(16, first)  # what is lost
    saved.clear()
    second = callback()
    second.load_state_dict(state)
    with np.load(tmp_path / "evaluations.npz") as written:
        assert written["timesteps"].tolist() == [16, 16]
    model.learn(16, second, reset_num_timesteps=False)
    assert not saved  # nothing is better than the best before
    assert second.state_dict()["timesteps"][:2] == [16, 16]
    second.load_state_dict({"best_miou": -np.inf, "timesteps": [], "results": []})
    assert not (tmp_path / "evaluations.npz").exists()


def test_evaluations_are_written_as_sb3_writes_them_and_the_best_is_kept(model, tmp_path):
    dev = make_env("SamSegShapes-v0", {"split": "dev", "max_steps": 2})
    saved, lines = [], []
    callback = EvaluationCallback(dev, [0, 1, 2], False, 16, tmp_path, saved.append, lines.append)
    model.learn(32, callback)
    with np.load(tmp_path / "evaluations.npz") as written:
        assert written["timesteps"].tolist() == [16, 32, 32]  # the last one sees the last update
        assert written["results"].shape == written["ep_lengths"].shape == (3, 3)
        means = written["results"].mean(axis=1)
    risen = [index for index in range(3) if index == 0 or means[index] > means[:index].max()]
    assert saved == [tmp_path / "best_model.zip"] * len(risen)
    assert callback.best_miou == pytest.approx(means.max())
    assert len(lines) == 3
    assert "dev mIoU@1" in lines[0]


def test_click_metrics_are_means_over_the_rollout(model, tmp_path):
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(16, ClickMetricsCallback())
    with (tmp_path / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row in rows:
        assert 0 <= float(row["rollout/iou"]) <= 1
        assert 0 <= float(row["rollout/right_labels"]) <= 1
        assert float(row["reward/step_cost"]) == 1.0
        assert -1 <= float(row["reward/gain"]) <= 1


def test_a_run_has_checkpoints_that_describe_themselves(run_folder):
    names = sorted(path.name for path in run_folder.glob("rl_model_*.zip"))
    assert names == ["rl_model_32_steps.zip", "rl_model_64_steps.zip"]
    with zipfile.ZipFile(run_folder / names[0]) as archive:
        assert "sb3_alignsam.json" in archive.namelist()
