"""A run that is repeated, as a user types it, and what a run's folder records for that."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest
import torch as th
import yaml

import sb3_alignsam
from sb3_alignsam.perception import load_segmenter
from sb3_alignsam.policies.loading import load_policy
from sb3_alignsam.training.config import ALGORITHMS
from sb3_alignsam.training.versions import PACKAGES
from tests.cli.commands import assert_refused, call
from tests.conftest import short_run

ENV = "SamSegShapes-v0"


def _again(run, logs, capsys, *options):
    code, out, err = call(["train", "--from-run", run, "-f", logs, *options], capsys)
    assert (code, err) == (0, "")
    (folder,) = (logs / "maskable_ppo").iterdir()
    return folder, out


def _weights(folder, algo="maskable_ppo"):
    return ALGORITHMS[algo].load(folder / f"{ENV}.zip", device="cpu").policy.state_dict()


def _same(first, second):
    return all(th.equal(value, second[name]) for name, value in first.items())


def _record(folder, name):
    return yaml.safe_load((folder / ENV / name).read_text())


@pytest.mark.parametrize("fixture", ["run_folder", "explicit_run"])
def test_a_repeated_run_ends_with_the_same_weights(fixture, request, tmp_path, capsys):
    run = request.getfixturevalue(fixture)
    folder, out = _again(run, tmp_path, capsys)
    assert _same(_weights(run), _weights(folder))
    assert "not as in" not in out
    assert _record(folder, "config.yml") == _record(run, "config.yml")
    changed = {"logs", "progress"}
    before, after = ({k: v for k, v in _record(each, "args.yml").items() if k not in changed} for each in (run, folder))
    assert before == after


def test_only_what_was_typed_replaces_what_the_run_had(run_folder, tmp_path, capsys):
    options = ["--seed", 1, "--eval-freq", 0, "-n", 32, "-params", "n_epochs:1", "policy_kwargs:{channels: 8}"]
    folder, _ = _again(run_folder, tmp_path, capsys, *options, "--env-kwargs", "max_steps:3")
    args, config, before = _record(folder, "args.yml"), _record(folder, "config.yml"), _record(run_folder, "config.yml")
    assert (args["seed"], args["eval_freq"], args["env_kwargs"]) == (1, 0, {"max_steps": 3})
    assert (args["vec_env"], args["save_freq"], args["eval_episodes"]) == ("dummy", 32, 4)
    assert (config["n_timesteps"], config["n_epochs"], config["n_steps"]) == (32, 1, before["n_steps"])
    assert config["policy_kwargs"] == before["policy_kwargs"] | {"channels": 8}


def test_another_agent_or_file_brings_its_own_hyperparameters(run_folder, tmp_path, capsys):
    folder, _ = _again(
        run_folder, tmp_path, capsys, "--agent", "explicit", "-n", 16, "-params", "n_envs:2", "n_steps:8"
    )
    assert _record(folder, "config.yml")["policy"].endswith("MaskableExplicitPolicy")
    assert _record(folder, "args.yml")["env_kwargs"] == {"text_model": "tiny"}


def test_what_differs_from_then_is_told(run_folder, tmp_path, capsys):
    run = tmp_path / run_folder.name
    shutil.copytree(run_folder, run)
    versions = run / ENV / "versions.yml"
    versions.write_text(versions.read_text().replace(f"torch: {th.__version__.split('+')[0]}", "torch: 1.0"))
    assert "torch: 1.0 then" in _again(run, tmp_path / "a", capsys)[1]
    versions.unlink()
    assert "what the run was made with is not known" in _again(run, tmp_path / "b", capsys)[1]


def test_a_run_records_what_it_was_made_with(explicit_run):
    versions = _record(explicit_run, "versions.yml")
    assert versions["sb3-alignsam"] == sb3_alignsam.__version__
    assert set(versions["packages"]) == set(PACKAGES)
    assert (versions["device"], versions["threads"]) == ("cpu", 1)
    assert versions["weights"]["segmenter"] == load_segmenter("tiny").weights_digest
    assert all(len(each) == 64 for each in versions["weights"].values())
    assert set(versions["weights"]) == {"segmenter", "text_model"}
    commit = versions["commit"]
    assert commit is None or len(commit.removesuffix("+changes")) == 40


def test_one_seed_reaches_every_generator(tmp_path):
    """Whatever state the generators were in before."""
    seen = []
    for scramble in (1, 2):
        random.seed(scramble)
        np.random.seed(scramble)
        th.manual_seed(scramble)
        folder = short_run("ppo", tmp_path, eval_freq=0, seed=7)
        seen.append((_weights(folder, "ppo"), random.random(), np.random.random(), th.rand(1).item()))
    assert _same(seen[0][0], seen[1][0])
    assert seen[0][1:] == seen[1][1:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("seed: 0", "seed: many"), ":4: setting 'seed' needs a whole number, got 'many'"),
        (("algo: maskable_ppo", "algo: dqn"), ":1: algorithm 'dqn' is not known"),
        (("env_id: ", "env: "), "was not written by sb3-alignsam: it has no env_id"),
        (("seed: 0", "sede: 0"), ":4: setting 'sede' is not known; did you mean seed"),
        (("seed: 0", "seed: !!python/object/apply:os.getcwd []"), ":4: tag 'python/object/apply:os.getcwd' is refused"),
    ],
)
def test_a_record_that_cannot_be_used_is_named_with_its_line(change, words, run_folder, tmp_path, capsys):
    run = tmp_path / run_folder.name
    shutil.copytree(run_folder, run)
    args = run / ENV / "args.yml"
    assert change[0] in args.read_text()
    args.write_text(args.read_text().replace(*change))
    assert_refused(["train", "--from-run", run, "-f", tmp_path / "logs"], words, capsys)
    assert not (tmp_path / "logs").exists()


def test_what_is_no_run_is_named(tmp_path, capsys):
    assert_refused(["train", "--from-run", tmp_path], "is no run folder: it has no <environment>/args.yml", capsys)
    assert_refused(["train", "--from-run", tmp_path / "none"], "is no run folder", capsys)


def test_a_repeated_runs_zip_is_read_as_any_other(run_folder, tmp_path, capsys, env):
    folder, _ = _again(run_folder, tmp_path, capsys, "-n", 32, "--eval-freq", 0)
    load_policy(folder / f"{ENV}.zip", env)
