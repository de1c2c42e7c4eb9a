from __future__ import annotations

import csv
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch as th
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.devices import resolve_device
from sb3_alignsam.policies.loading import read_description
from sb3_alignsam.training.config import ALGORITHMS, read_hyperparams, shipped_config
from sb3_alignsam.training.run import train
from sb3_alignsam.training.settings import RunSettings
from sb3_alignsam.training.vec_envs import VEC_ENVS
from tests.conftest import short_run

SMALL = {"n_timesteps": 32, "n_steps": 8, "n_envs": 2, "batch_size": 16, "n_epochs": 1}


def _train(logs, kind="dummy", algo="ppo", **settings):
    hyperparams = read_hyperparams(shipped_config(algo, "implicit"), "SamSegShapes-v0", algo, SMALL)
    run = RunSettings(algo, "SamSegShapes-v0", logs=logs, vec_env=kind, device="cpu", eval_freq=0)
    return train(replace(run, **settings), hyperparams, ["sb3-alignsam", "train"], lambda line: None)


def test_the_run_folder_is_laid_out_as_rl_zoo3_does(run_folder):
    assert run_folder.name == "SamSegShapes-v0_1"
    assert run_folder.parent.name == "maskable_ppo"
    files = {str(path.relative_to(run_folder)) for path in run_folder.rglob("*") if path.is_file()}
    expected = {"SamSegShapes-v0.zip", "best_model.zip", "evaluations.npz", "0.monitor.csv", "1.monitor.csv"}
    expected |= {
        f"SamSegShapes-v0/{name}" for name in ("config.yml", "args.yml", "command.txt", "versions.yml", "images.json")
    }
    assert expected <= files
    assert yaml.safe_load((run_folder / "SamSegShapes-v0" / "config.yml").read_text())["n_envs"] == 2
    assert yaml.safe_load((run_folder / "SamSegShapes-v0" / "args.yml").read_text())["algo"] == "maskable_ppo"


def test_monitor_files_have_a_row_an_episode_with_its_iou(run_folder):
    with (run_folder / "0.monitor.csv").open() as file:
        file.readline()
        rows = list(csv.DictReader(file))
    assert len(rows) == 64 // 2 // 5
    assert all(0 <= float(row["iou"]) <= 1 and row["category"] for row in rows)
    assert len({row["image_id"] for row in rows}) == len(rows)


def test_tensorboard_gets_training_and_click_figures(run_folder):
    events = EventAccumulator(str(run_folder / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {
        "rollout/ep_rew_mean",
        "rollout/iou",
        "reward/gain",
        "sampling/images",
        "eval/miou_at_5",
        "train/loss",
    } <= tags
    assert events.Scalars("train/loss")[-1].step == 64  # the last update's figures are not lost


def test_runs_are_numbered_and_the_same_seed_gives_the_same_weights(tmp_path):
    first, again, other = _train(tmp_path), _train(tmp_path), _train(tmp_path, seed=1)
    assert [folder.name.rpartition("_")[2] for folder in (first, again, other)] == ["1", "2", "3"]
    weights = [_weights(folder) for folder in (first, again, other)]
    assert all(th.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not all(th.equal(weights[0][key], weights[2][key]) for key in weights[0])


@pytest.mark.parametrize("algo", ["ppo", "maskable_ppo"])
def test_every_kind_of_vec_env_plays_the_same_episodes_and_learns_the_same(tmp_path, algo):
    folders = {kind: _train(tmp_path / kind, kind, algo) for kind in VEC_ENVS}
    rows = {kind: _monitor_rows(folder) for kind, folder in folders.items()}
    weights = {kind: _weights(folder, algo) for kind, folder in folders.items()}
    assert len(rows["dummy"]) == 2 * 3
    for kind in ("batched", "subproc"):
        assert [row[0] for row in rows[kind]] == [row[0] for row in rows["dummy"]]
        assert np.allclose([row[1] for row in rows[kind]], [row[1] for row in rows["dummy"]], atol=1e-4)
        assert all(np.allclose(weights[kind][key], each, atol=1e-4) for key, each in weights["dummy"].items())


def _monitor_rows(folder):
    """Image and reward of every episode, by image."""
    rows = []
    for file in folder.glob("*.monitor.csv"):
        with file.open() as lines:
            lines.readline()
            rows += [(int(row["image_id"]), float(row["r"])) for row in csv.DictReader(lines)]
    return sorted(rows)


def test_a_zip_names_the_keywords_of_its_environment(tmp_path):
    folder = _train(tmp_path, env_kwargs={"max_steps": 2, "categories": ["star", "ring"]})
    description = read_description(folder / "SamSegShapes-v0.zip")
    assert description.env_kwargs == {"max_steps": 2, "categories": ["star", "ring"]}
    assert description.num_timesteps == 32


def test_photographs_are_trained_on(coco_mini, tmp_path):
    hyperparams = read_hyperparams(shipped_config("maskable_ppo", "implicit"), "SamSegCoco-v0", "maskable_ppo", SMALL)
    kwargs = {"root": str(coco_mini), "split": "train2017"}
    settings = RunSettings(
        "maskable_ppo", "SamSegCoco-v0", kwargs, logs=tmp_path, vec_env="dummy", eval_freq=16, eval_episodes=2
    )
    folder = train(settings, hyperparams, report=lambda line: None)
    assert (folder / "SamSegCoco-v0.zip").is_file()
    assert (folder / "best_model.zip").is_file()


def test_callbacks_of_the_configuration_are_used(tmp_path):
    stop = {"stable_baselines3.common.callbacks.StopTrainingOnMaxEpisodes": {"max_episodes": 1}}
    overrides = SMALL | {"callback": stop}
    hyperparams = read_hyperparams(shipped_config("ppo", "implicit"), "SamSegShapes-v0", "ppo", overrides)
    settings = RunSettings("ppo", "SamSegShapes-v0", logs=tmp_path, vec_env="dummy", device="cpu", eval_freq=0)
    folder = train(settings, hyperparams, report=lambda line: None)
    assert read_description(folder / "SamSegShapes-v0.zip").num_timesteps < 32


def test_imitation_comes_first_and_what_it_reaches_alone_is_kept(tmp_path):
    folder = _train(tmp_path, imitate=256, eval_freq=1000, eval_episodes=2)
    alone, last = (read_description(folder / f"{name}.zip") for name in ("imitation", "SamSegShapes-v0"))
    assert (alone.imitation_steps, alone.num_timesteps) == (256, 0)
    assert (last.imitation_steps, last.num_timesteps) == (256, 32)
    with np.load(folder / "evaluations.npz") as stored:
        assert list(stored["timesteps"]) == [0, 32]  # what imitation reached may be the best


def test_a_mistake_leaves_no_run_folder(tmp_path):
    with pytest.raises(InputError, match="split 'test'"):
        _train(tmp_path, env_kwargs={"split": "test"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "kwargs", [{"chanels": 3}, {"channels": "abc"}, {"channels": -1}, {"features_extractor_class": "nn.Linear"}]
)
def test_wrong_policy_keywords_are_named_before_anything_is_written(tmp_path, kwargs):
    overrides = SMALL | {"policy_kwargs": kwargs}
    hyperparams = read_hyperparams(shipped_config("ppo", "implicit"), "SamSegShapes-v0", "ppo", overrides)
    with pytest.raises(InputError):
        train(RunSettings("ppo", "SamSegShapes-v0", logs=tmp_path, vec_env="dummy"), hyperparams)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", VEC_ENVS)
def test_a_photograph_that_is_missing_ends_the_run_with_one_line_and_what_was_learnt(tmp_path, kind):
    ShapesDataset("val").write_coco(tmp_path / "data", 30)
    for picture in list((tmp_path / "data" / "val").iterdir())[:20]:
        picture.unlink()
    hyperparams = read_hyperparams(
        shipped_config("ppo", "implicit"),
        "SamSegCoco-v0",
        "ppo",
        SMALL | {"n_envs": 1, "n_timesteps": 4096, "batch_size": 8},
    )
    kwargs = {"root": str(tmp_path / "data"), "split": "val", "max_steps": 1}
    settings = RunSettings("ppo", "SamSegCoco-v0", kwargs, logs=tmp_path / "logs", vec_env=kind, eval_freq=0)
    with pytest.raises(InputError) as caught:
        train(settings, hyperparams, report=lambda line: None)
    assert "\n" not in str(caught.value)
    assert ".png" in str(caught.value)
    assert list((tmp_path / "logs").rglob("SamSegCoco-v0.zip"))
    assert not any("progress.csv" in str(path) for path in _open_files())


def _open_files():
    """Files that this process has open, where the system tells."""
    for descriptor in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):  # the folder itself, which was open while it was listed
            yield descriptor.readlink()


def test_a_log_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        _train(tmp_path / "file")


def test_devices_that_are_not_there_are_named():
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda", "mps")
    with pytest.raises(InputError, match="device 'tpu' is not there; on this machine: cpu"):
        resolve_device("tpu")


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_training_runs_on_an_accelerator(device, tmp_path):
    present = {"cuda": th.cuda.is_available(), "mps": th.backends.mps.is_available()}[device]
    if not present:
        pytest.skip(f"no {device} device on this machine")
    assert (short_run("ppo", tmp_path, device=device, eval_freq=0) / "SamSegShapes-v0.zip").is_file()


def _weights(folder, algo="ppo"):
    return ALGORITHMS[algo].load(folder / "SamSegShapes-v0.zip", device="cpu").policy.state_dict()
