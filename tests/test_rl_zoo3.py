"""rl_zoo3 on our files and folders, and SB3 on our zips, as their users know them."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys

import gymnasium as gym
import pytest
import yaml

import sb3_alignsam  # noqa: F401  registers the environments
from sb3_alignsam.policies.loading import MASKABLE
from sb3_alignsam.training.config import ALGORITHMS
from tests.cli.commands import call
from tests.conftest import REPOSITORY, short_run

ENV = "SamSegShapes-v0"
AGENTS = {"implicit": ("ppo", []), "explicit": ("ppo_explicit", ["--env-kwargs", "text_model:'tiny'"])}
"""Our file of hyperparameters, and what rl_zoo3 has to be told of the environment."""


def _train(file, *more):
    config = str(REPOSITORY / "zoo_configs" / f"{file}.yml")
    return [
        "rl_zoo3.train",
        "--algo",
        "ppo",
        "--env",
        ENV,
        "--gym-packages",
        "sb3_alignsam",
        "--conf-file",
        config,
        *more,
    ]


def _enjoy(logs, *more):
    command = ["rl_zoo3.enjoy", "--algo", "ppo", "--env", ENV, "--gym-packages", "sb3_alignsam", "--no-render"]
    return [*command, "-f", str(logs), *more]


def _here(command, monkeypatch):
    """Run a module with its arguments in this process, which has loaded most of what it needs."""
    pytest.importorskip("rl_zoo3")
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.delitem(sys.modules, command[0], raising=False)
    runpy.run_module(command[0], run_name="__main__")


@pytest.mark.parametrize("agent", AGENTS)
def test_rl_zoo3_trains_and_enjoys_and_we_evaluate_what_it_trained(agent, tmp_path, monkeypatch, capsys):
    file, env_kwargs = AGENTS[agent]
    small = ["-n", "32", "-params", "n_envs:2", "n_steps:8", "n_epochs:1", "--eval-freq", "-1", "--seed", "1"]
    _here(_train(file, "-f", str(tmp_path), *small, *env_kwargs), monkeypatch)
    run = tmp_path / "ppo" / f"{ENV}_1"
    assert (run / f"{ENV}.zip").is_file()
    _here(_enjoy(tmp_path, "-n", "6"), monkeypatch)
    assert "1 Episodes" in capsys.readouterr().out
    evaluate = ["eval", run, "--episodes", 2, "--baselines", "none", "--out", tmp_path / "report"]
    code, _, err = call(evaluate, capsys)
    assert code == 2
    assert "--trust" in err
    code, out, err = call([*evaluate, "--trust"], capsys)  # its run folder says which environment it was
    assert (code, err) == (0, "")
    assert "2 episodes" in out


@pytest.mark.parametrize("agent", AGENTS)
def test_rl_zoo3_enjoys_what_we_trained(agent, tmp_path, monkeypatch, capsys):
    run = short_run("ppo", tmp_path, agent=agent, eval_freq=32, eval_episodes=2, save_freq=32)
    for which in ([], ["--load-best"], ["--load-last-checkpoint"]):
        _here(_enjoy(tmp_path, "-n", "6", *which), monkeypatch)
        out = capsys.readouterr().out
        assert f"Loading {run}" in out
        assert "1 Episodes" in out


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_sb3_loads_a_zip_with_an_environment_of_the_runs_own_keywords(algo, agent, tmp_path):
    run = short_run(algo, tmp_path, agent=agent, eval_freq=0)
    kwargs = yaml.safe_load((run / ENV / "args.yml").read_text())["env_kwargs"]
    env = gym.make(ENV, **kwargs)
    model = ALGORITHMS[algo].load(run / f"{ENV}.zip", env=env, device="cpu")
    observation, _ = env.reset(seed=0)
    masks = {"action_masks": env.unwrapped.action_masks()} if algo in MASKABLE else {}
    action, _ = model.predict(observation, deterministic=True, **masks)
    assert env.action_space.contains(action.item())
    env.step(action.item())


@pytest.mark.long
@pytest.mark.parametrize("agent", AGENTS)
def test_the_commands_of_the_docs_as_they_are_typed(agent, tmp_path):
    file, env_kwargs = AGENTS[agent]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    for command in (_train(file, "-n", "2000", *env_kwargs), _enjoy("logs", "-n", "50")):
        result = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr[-2000:]
    assert "10 Episodes" in result.stdout
    assert (tmp_path / "logs" / "ppo" / f"{ENV}_1" / f"{ENV}.zip").is_file()
