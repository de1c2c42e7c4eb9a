"""Training, resuming and evaluating on folders of every kind."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from dataclasses import replace
from typing import get_args

import pytest
import torch as th
from rich.console import Console

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.datasets.sampling import Rule
from sb3_alignsam.evaluation.run import evaluate_run
from sb3_alignsam.training.config import read_hyperparams, shipped_config
from sb3_alignsam.training.resume import resume
from sb3_alignsam.training.run import RunSettings, train
from tests.datasets.folders import write_cityscapes, write_full_release, write_scene_parsing

STEPS = 96
TRAINING = 40
"""Images to train on, so many that some are dev images."""
SMALL = {"n_envs": 2, "n_steps": 8, "batch_size": 8, "n_epochs": 1}


def _write_coco(root):
    ShapesDataset("dev").write_coco(root, TRAINING)
    (root / "annotations" / "instances_dev.json").rename(root / "annotations" / "instances_train2017.json")
    (root / "dev").rename(root / "train2017")
    ShapesDataset("val").write_coco(root, 3)


def _write_ade20k(root):
    write_scene_parsing(root, "training", TRAINING)
    write_scene_parsing(root, "validation", 4, first=TRAINING)


def _write_cityscapes(root):
    write_cityscapes(root, "train", TRAINING)
    write_cityscapes(root, "val", 4, first=TRAINING)


FOLDERS = {
    "SamSegCoco-v0": (_write_coco, "val"),
    "SamSegADE20K-v0": (_write_ade20k, None),
    "SamSegCityscapes-v0": (_write_cityscapes, None),
}
"""How each environment's folder is written, and which split to evaluate on; None: what `eval` takes by itself."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Roots by environment; not to be written to, but for the indexes."""
    roots = {env_id: tmp_path_factory.mktemp(env_id) for env_id in FOLDERS}
    for env_id, (write, _) in FOLDERS.items():
        write(roots[env_id])
    return roots


def _train(env_id, logs, steps=16, kind="dummy", **env_kwargs):
    overrides = {**SMALL, "n_timesteps": steps}
    hyperparams = read_hyperparams(shipped_config("maskable_ppo", "implicit"), env_id, "maskable_ppo", overrides)
    settings = RunSettings("maskable_ppo", env_id, env_kwargs, logs=logs, vec_env=kind, device="cpu", eval_freq=0)
    settings = replace(settings, save_freq=16, keep_checkpoints=0)
    return train(settings, hyperparams, ["test"], lambda line: None)


def _evaluate(run, **settings):
    text = io.StringIO()
    report = evaluate_run(run, console=Console(file=text), episodes=4, clicks=1, **settings)
    return report, text.getvalue()


@pytest.mark.parametrize("env_id", FOLDERS)
def test_training_and_evaluation_run_and_share_no_image(env_id, folders, tmp_path):
    run = _train(env_id, tmp_path, root=str(folders[env_id]), max_steps=2)
    record = json.loads((run / env_id / "images.json").read_text())
    assert len(record["digest"]) == 64
    assert len(record["ids"]) > 20
    report, told = _evaluate(run, split=FOLDERS[env_id][1])
    assert report["split"] in ("val", "validation")
    assert report["images_trained_on"] == 0
    assert "warning" not in told
    report, told = _evaluate(run, split=record["split"])
    assert report["images_trained_on"] > 0
    assert f"warning: {report['images_trained_on']} of the images are ones that the run was trained on" in told
    report, told = _evaluate(run, split=record["split"], env_kwargs={"subset": "dev"})
    assert report["images_trained_on"] == 0


def test_the_full_release_trains_too(tmp_path):
    write_full_release(tmp_path / "data", "training", 10)
    kwargs = {"root": str(tmp_path / "data"), "max_steps": 2, "target": "instance", "sampling": "inverse_frequency"}
    assert (_train("SamSegADE20K-v0", tmp_path, **kwargs) / "SamSegADE20K-v0.zip").is_file()


def test_where_a_run_was_on_an_endless_split_its_evaluation_there_warns(run_folder, tmp_path):
    report, told = _evaluate(run_folder, split="train", out=tmp_path)
    assert report["images_trained_on"] is None
    assert "warning: some of the images" in told
    assert _evaluate(run_folder, out=tmp_path)[0]["images_trained_on"] == 0


def _weights(run, env_id):
    with zipfile.ZipFile(run / f"{env_id}.zip") as archive:
        return th.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)


RULES = [("dummy", rule) for rule in get_args(Rule)] + [("batched", "hard")]


@pytest.mark.parametrize(("kind", "sampling"), RULES)
def test_a_run_of_any_rule_that_was_resumed_is_the_one_that_was_not(kind, sampling, folders, tmp_path):
    """From its first checkpoint: scores of ``hard`` are in it, and some that have no say yet."""
    env_id = "SamSegCoco-v0"
    kwargs = {"root": str(folders[env_id]), "max_steps": 1, "allow_stop": True}
    kwargs |= {"sampling": sampling, "absent_rate": 0.2}
    whole = _train(env_id, tmp_path / "whole", STEPS, kind, **kwargs)
    stopped = shutil.copytree(whole, tmp_path / "stopped" / whole.name)
    checkpoints = sorted(stopped.glob("rl_model_*_steps.zip"), key=lambda path: int(path.stem.split("_")[2]))
    for path in (*checkpoints[1:], stopped / f"{env_id}.zip", stopped / env_id / "finished"):
        path.unlink()
    lines = []
    resume(stopped, {}, lines.append)
    assert lines[0].startswith("resuming")
    expected = _weights(whole, env_id)
    assert all(th.equal(value, expected[key]) for key, value in _weights(stopped, env_id).items())
    rows = [(run / "0.monitor.csv").read_text().splitlines()[2:] for run in (whole, stopped)]
    images = [[row.split(",")[-2:] for row in each] for each in rows]
    assert images[0] == images[1]


def test_a_resume_on_other_images_is_told(folders, tmp_path):
    env_id = "SamSegADE20K-v0"
    root = shutil.copytree(folders[env_id], tmp_path / "data")
    run = _train(env_id, tmp_path, STEPS, root=str(root), max_steps=1)
    (run / env_id / "finished").unlink()
    for path in sorted(run.glob("rl_model_*_steps.zip"), key=lambda path: int(path.stem.split("_")[2]))[1:]:
        path.unlink()
    write_scene_parsing(root, "training", 2, first=60)
    lines = []
    resume(run, {}, lines.append)
    assert any("images: " in line and " then, " in line for line in lines)
