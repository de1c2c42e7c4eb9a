"""Searches as a user types them, at the smallest size."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import optuna
import pytest
import torch as th
import yaml
from optuna.trial import TrialState, create_trial

from sb3_alignsam.errors import InputError
from sb3_alignsam.training.config import ALGORITHMS
from sb3_alignsam.training.studies import SamplerOfTrials, open_study
from tests.cli.commands import assert_refused, call
from tests.conftest import REPOSITORY

ENV = "SamSegShapes-v0"
SPACE = (
    "default: {n_epochs: [1, 2], ent_coef: {low: 1.0e-4, high: 1.0e-2, log: true}, policy_kwargs: {channels: [4, 8]}}"
)


@pytest.fixture
def typed(tmp_path):
    """A small search as it is typed; its study is `small`, under ``tmp_path / "logs"``."""
    (tmp_path / "space.yml").write_text(SPACE)
    args = ["optimize", "--env", ENV, "-n", 32, "-f", tmp_path / "logs", "--space", tmp_path / "space.yml"]
    args += ["--study-name", "small", "--vec-env", "dummy", "--device", "cpu", "--eval-episodes", 2]
    args += ["--n-evaluations", 2, "--env-kwargs", "max_steps:2"]
    return [*args, "-params", "n_envs:2", "n_steps:8", "batch_size:8"]


def _study(tmp_path):
    return optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path / 'logs' / 'optimize' / 'studies.db'}")


def test_the_best_trial_can_be_trained_again_by_the_file_that_is_written(typed, tmp_path, capsys):
    code, out, err = call([*typed, "--n-trials", 2], capsys)
    assert (code, err) == (0, "")
    folder = tmp_path / "logs" / "optimize" / "small"
    assert f"--conf-file {folder / 'best.yml'}" in out
    assert [line.split()[:3] for line in out.splitlines() if line.startswith("trial ")] == [
        ["trial", "0", "complete"],
        ["trial", "1", "complete"],
    ]
    trials = json.loads((folder / "trials.json").read_text())["trials"]
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["miou"]) for row in rows] == [trial["miou"] for trial in trials]
    assert {"n_epochs", "ent_coef", "policy_kwargs.channels"} <= set(rows[0])
    best = max(trials, key=lambda trial: trial["miou"])
    entry = yaml.safe_load((folder / "best.yml").read_text())[ENV]
    assert entry["env_kwargs"] == {"max_steps": 2}
    assert entry["policy_kwargs"]["channels"] == best["params"]["policy_kwargs.channels"]
    train = ["train", "--env", ENV, "--conf-file", folder / "best.yml", "-f", tmp_path / "again", "--track", "none"]
    code, _, err = call([*train, "--vec-env", "dummy", "--device", "cpu", "--eval-freq", 0], capsys)
    assert (code, err) == (0, "")
    first, again = (
        ALGORITHMS["ppo"].load(f"{run}/{ENV}.zip", device="cpu").policy.state_dict()
        for run in (best["run"], tmp_path / "again" / "ppo" / f"{ENV}_1")
    )
    assert all(th.equal(value, again[name]) for name, value in first.items())


def test_processes_share_a_study(typed, tmp_path):
    command = [sys.executable, "-m", "sb3_alignsam", *map(str, typed), "--n-trials", "2"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        _, err = process.communicate()
        assert process.returncode == 0, err
    trials = _study(tmp_path).trials
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    assert len({trial.params["ent_coef"] for trial in trials}) == 4  # the same seed, and yet no trial twice
    assert len({trial.user_attrs["run"] for trial in trials}) == 4
    folder = tmp_path / "logs" / "optimize" / "small"
    assert len(json.loads((folder / "trials.json").read_text())["trials"]) == 4
    assert {path.name for path in folder.iterdir()} == {"trials.json", "trials.csv", "best.yml", "runs"}


def test_a_trial_that_falls_behind_is_pruned(typed, tmp_path, capsys):
    """Behind trials of which the study already knows that they were nearly perfect from the beginning."""
    assert call([*typed, "--n-trials", 1], capsys)[0] == 0
    study = _study(tmp_path)
    params, distributions = study.trials[0].params, study.trials[0].distributions
    for _ in range(3):
        values = {"value": 1.0, "intermediate_values": {1: 1.0, 2: 1.0}, "user_attrs": study.trials[0].user_attrs}
        study.add_trial(create_trial(params=params, distributions=distributions, **values))
    code, out, _ = call([*typed, "--n-trials", 1, "--n-startup-trials", 1], capsys)
    assert code == 0
    assert "trial   4  pruned" in out
    pruned = _study(tmp_path).trials[4]
    assert pruned.state == TrialState.PRUNED
    assert list(pruned.intermediate_values) == [1]


def test_hyperparameters_that_do_not_go_together_are_a_pruned_trial(typed, tmp_path, capsys):
    (tmp_path / "space.yml").write_text("default: {n_steps: [8, 16], batch_size: [15, 31]}")
    args = [*typed, "--algo", "maskable_ppo", "--n-trials", 4, "--sampler", "random"]
    code, out, err = call(args, capsys)
    assert (code, err) == (0, "")
    for trial in _study(tmp_path).trials:
        fits = trial.params["n_steps"] * 2 % trial.params["batch_size"] != 1
        assert trial.state == (TrialState.COMPLETE if fits else TrialState.PRUNED)
        assert fits or "leaves a last minibatch of one" in trial.user_attrs["reason"]
    assert "leaves a last minibatch of one" in out


def test_a_search_that_is_stopped_goes_on_by_the_same_command(typed, tmp_path, capsys):
    command = [sys.executable, "-m", "sb3_alignsam", *map(str, typed), "-n", "100000", "--n-trials", "1"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    runs = tmp_path / "logs" / "optimize" / "small" / "runs"
    while process.poll() is None and not list(runs.glob("ppo/*/progress.csv")):
        os.sched_yield()
    process.terminate()
    _, err = process.communicate()
    assert process.returncode == 143
    assert err == "Stopped: the trial counts as failed; the same command goes on with study 'small'\n"
    assert [trial.state for trial in _study(tmp_path).trials] == [TrialState.FAIL]


def test_a_limit_for_the_whole_study_counts_all_trials(typed, tmp_path, capsys):
    for _ in range(2):
        assert call([*typed, "--n-trials", 2, "--max-total-trials", 3], capsys)[0] == 0
    assert len(_study(tmp_path).trials) == 3
    assert call([*typed, "--n-trials", 2, "--max-total-trials", 3], capsys)[0] == 0
    assert len(_study(tmp_path).trials) == 3


KILLED = """
import sys, time
from sb3_alignsam.training.studies import open_study
study = open_study(sys.argv[1], "small", {})
study.optimize(lambda trial: time.sleep(1000))
"""


def test_a_killed_trial_does_not_hold_up_the_study(typed, tmp_path, capsys):
    limited = [*typed, "--n-trials", 1, "--max-total-trials", 2]
    assert call(limited, capsys)[0] == 0
    file = tmp_path / "logs" / "optimize" / "studies.db"
    script = KILLED.replace("{}", repr(_study(tmp_path).user_attrs["about"]))
    process = subprocess.Popen([sys.executable, "-c", script, file], env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    with closing(sqlite3.connect(file, timeout=100)) as database:
        while not database.execute("SELECT * FROM trial_heartbeats WHERE trial_id = 2").fetchall():
            assert process.poll() is None
            os.sched_yield()
        process.kill()
        process.wait()
        assert call(limited, capsys)[0] == 0  # It may still be at work.
        assert [trial.state for trial in _study(tmp_path).trials] == [TrialState.COMPLETE, TrialState.RUNNING]
        with database:
            database.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-11 minutes')")
    assert call(limited, capsys)[0] == 0
    states = [trial.state for trial in _study(tmp_path).trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]


def test_what_is_drawn_depends_on_the_studys_trials_alone():
    def drawn(sampler):
        study = optuna.create_study(sampler=sampler)
        for _ in range(4):
            trial = study.ask()
            study.tell(trial, trial.suggest_float("a", 0, 1) + trial.suggest_int("b", 1, 9))
        return [trial.params for trial in study.trials]

    once, again = drawn(SamplerOfTrials("tpe", 3, 2)), drawn(SamplerOfTrials("tpe", 3, 2))
    assert once == again
    assert once != drawn(SamplerOfTrials("tpe", 4, 2))
    assert len({each["a"] for each in once}) == 4


def test_a_study_is_about_one_thing(tmp_path):
    storage = str(tmp_path / "a.db")
    open_study(storage, "one", {"seed": 0, "space": {"gamma": (0, 1)}})
    open_study(storage, "one", {"seed": 0, "space": {"gamma": (0, 1)}})
    with pytest.raises(InputError, match="study 'one' was begun with seed 0, not 1; choose another --study-name"):
        open_study(storage, "one", {"seed": 1, "space": {"gamma": (0, 1)}})


def test_a_storage_that_cannot_be_used_is_one_line_without_the_password(tmp_path):
    (tmp_path / "text.db").write_text("this is no database, whatever its name may say" * 100)
    for storage, words in (
        (str(tmp_path / "text.db"), "cannot be used: file is not a database"),
        ("nosuch://user:secret@host/database", "nosuch://user:\\*\\*\\*@host/database cannot be used"),
        ("no scheme://user:secret@host", "cannot be used"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            open_study(storage, "one", {})
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--study-name", "../up"], "--study-name needs letters"),
        (["--n-trials", "0"], "--n-trials needs a whole number >= 1"),
        (["--space", "none.yml"], "none.yml does not exist"),
        (["--env", "SamSegShape-v0"], "no entry 'SamSegShape-v0'"),
        (["--algo", "dqn"], "algorithm 'dqn' is not known"),
        (["-params", "policy_kwargs:{chanels: 3}"], "cannot be used"),
    ],
)
def test_a_mistake_is_named_before_any_trial(options, words, typed, tmp_path, capsys):
    assert_refused([*typed, *options], words, capsys)
    assert not (tmp_path / "logs" / "optimize" / "small").exists()


def test_a_dataset_without_dev_episodes_cannot_be_searched_on(photographs, typed, capsys):
    args = [*typed, "--env", "SamSegCoco-v0", "--env-kwargs", f"root:{photographs}", "split:val"]
    assert_refused(args, "there are no dev episodes to judge trials by", capsys)


def test_a_wrong_keyword_of_the_policy_is_named_with_its_line(typed, tmp_path, capsys):
    (tmp_path / "space.yml").write_text("default:\n  policy_kwargs:\n    chanels: [3, 4]\n")
    assert_refused(typed, "space.yml:3: policy_kwargs", capsys)


def test_without_optuna_it_says_how_to_install_it(typed, monkeypatch, capsys):
    monkeypatch.setattr("sb3_alignsam.cli.optimize_command.find_spec", lambda name: None)
    assert_refused(typed, "pip install 'sb3-alignsam[sweeps]'", capsys)
