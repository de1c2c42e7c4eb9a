"""The commands as a user types them, in processes of their own where that is what matters."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sb3_alignsam.cli import COMMANDS
from tests.cli.commands import call
from tests.conftest import REPOSITORY

EXPLICIT = str(REPOSITORY / "zoo_configs" / "ppo_explicit.yml")
TRAIN = ["train", "--env", "SamSegShapes-v0", "--vec-env", "dummy", "--device", "cpu", "--track", "none"]


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_explains_each_command_with_an_example(command, capsys):
    code, out, _ = call([*([command] if command else []), "--help"], capsys)
    assert code == 0
    assert "Usage: sb3-alignsam" in out
    assert command is None or f"sb3-alignsam {command}" in out.replace("Usage: sb3-alignsam", "")


def test_train_then_eval_then_record(tmp_path, capsys):
    logs = tmp_path / "logs"
    options = ["-n", 32, "--imitate", 16, "-f", logs, "--eval-freq", 0]
    options += ["-params", "n_envs:2", "n_steps:8", "batch_size:16"]
    code, out, err = call([*TRAIN, "--algo", "ppo", *options, "--env-kwargs", "max_steps:2", "num_patches:8"], capsys)
    assert (code, err) == (0, "")
    run = logs / "ppo" / "SamSegShapes-v0_1"
    assert f"sb3-alignsam eval {run}" in out
    code, out, _ = call(
        ["eval", run, "--episodes", 3, "--baselines", "random,oracle", "--json", tmp_path / "f.json"], capsys
    )
    assert code == 0
    assert "oracle" in out
    assert "@2" in out
    assert "…" not in out  # in a pipe there is room for every figure
    assert "`SamSegShapes-v0.zip` (32 steps after 16 of imitation)" in (run / "report" / "eval_val.md").read_text()
    assert (tmp_path / "f.json").is_file()
    assert (run / "report" / "eval_val.png").is_file()
    code, out, _ = call(["record", run, "-n", 1, "--gif", tmp_path / "a.gif"], capsys)
    assert code == 0
    assert len(list((run / "videos").glob("*.mp4"))) == 1
    assert (tmp_path / "a.gif").is_file()


def test_the_explicit_agent_trains_with_its_maps_shown(tmp_path, capsys):
    options = ["-n", 16, "-f", tmp_path, "--eval-freq", 0, "--agent", "explicit"]
    options += ["-params", "n_envs:2", "n_steps:8", "batch_size:16", "policy_kwargs:{channels: 8, keep_maps: true}"]
    code, _, err = call([*TRAIN, *options, "--env-kwargs", "max_steps:2"], capsys)
    assert (code, err) == (0, "")
    (events,) = (tmp_path / "ppo" / "SamSegShapes-v0_1" / "tensorboard").iterdir()
    assert b"maps/seen" in events.read_bytes()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train"], "Missing option '--env'"),
        (["trian"], "No such command 'trian'"),
        ([*TRAIN[:2], "SamSegShape-v0"], "'SamSegShape-v0'"),
        ([*TRAIN, "--algo", "dqn"], "algorithm 'dqn' is not known"),
        ([*TRAIN, "--agent", "explict"], "agent 'explict' is not known"),
        ([*TRAIN, "--agent", "explicit", "--text-model", "tinny"], "text_model 'tinny' is not known"),
        (
            ["train", "--env", "SamSegCoco-v0", "--agent", "explicit"],
            "needs a text model for this dataset",
        ),
        ([*TRAIN, "--env-kwargs", "observation_keys:[clip_similarity]"], "needs a text model: text_model:tiny"),
        (["cache", "--env", "SamSegShapes-v0"], "the images of dataset 'shapes' are drawn anew"),
        ([*TRAIN, "--agent", "explicit", "-params", "policy_kwargs:{heads: 2.0}"], "'heads' needs a whole number"),
        (
            [*TRAIN, "--agent", "explicit", "-params", "policy_kwargs:{autocast: 'off'}"],
            "needs true or false",
        ),
        ([*TRAIN, "-params", "policy_kwargs:{channels: 0}"], "channels needs a whole number >= 1, got 0"),
        ([*TRAIN, "-params", "policy_kwargs:{blocks: -1}"], "blocks needs a whole number >= 0, got -1"),
        ([*TRAIN, "--conf-file", EXPLICIT], "Error: ExplicitExtractor reads 'clip_similarity'"),
        ([*TRAIN, "--env-kwargs", "cache:''"], "cache needs a folder, true or false"),
        ([*TRAIN, "--vec-env", "threads"], "'threads' is not one of"),
        ([*TRAIN, "--device", "abacus"], "device 'abacus' is not there"),
        ([*TRAIN, "-n", "0"], "'n_timesteps' needs a whole number >= 1"),
        ([*TRAIN, "-n", "many"], "'many' is not a valid integer"),
        ([*TRAIN, "--seed", "-1"], "--seed needs a whole number >= 0"),
        ([*TRAIN, "--imitate", "-1"], "--imitate needs a whole number >= 0"),
        ([*TRAIN, "--video-freq", "-1"], "--video-freq needs a whole number >= 0"),
        ([*TRAIN, "--track", "wandb"], "'wandb' is not one of"),
        ([*TRAIN, "--tracking-uri", "logs"], "--tracking-uri needs an address such as http://host:5000"),
        ([*TRAIN, "--tracking-uri", "sqlite:///no/folder/a.db"], "there is no folder no/folder"),
        (["sync", "RUN", "--tracking-uri", "file:///mlruns"], "--tracking-uri needs an address"),
        (["sync"], "Missing argument 'RUN'"),
        ([*TRAIN, "-params", "n_step:8"], "'n_step' is not known; did you mean n_steps"),
        ([*TRAIN, "-params", "n_steps"], "-params takes key:value pairs, got 'n_steps'"),
        ([*TRAIN, "--env-kwargs", "split:test"], "split 'test' is not in shapes"),
        ([*TRAIN, "--env-kwargs", "categories:[stra]"], "category 'stra' is not in shapes; did you mean star"),
        ([*TRAIN, "--env-kwargs", "colour:red"], "environment keyword 'colour' is not known"),
        ([*TRAIN, "--conf-file", "none.yml"], "none.yml does not exist"),
        (["train", "--env", "SamSegCoco-v0", "--env-kwargs", "root:/no/such/folder"], "/no/such/folder"),
        (["eval", "no/run"], "no/run does not exist"),
        (["eval", "RUN", "--episodes", "some"], "--episodes needs a whole number >= 1, or all"),
        (["eval", "RUN", "--baselines", "orakle"], "baseline 'orakle' is not known"),
        (["eval", "RUN", "--split", "test"], "split 'test'"),
        ([*TRAIN, "--env-kwargs", "split:2020-13-45"], "value '2020-13-45' cannot be read"),
        ([*TRAIN, "--env-kwargs", "subset:dev"], "--env-kwargs subset is chosen by the command"),
        ([*TRAIN, "--env-kwargs", "device:tpu"], "device 'tpu' is not there"),
        ([*TRAIN, "--env-kwargs", "render_size:0"], "render_size needs a whole number from 32 to 2048"),
        ([*TRAIN, "-params", "policy_kwargs:{chanels: 3}"], "policy_kwargs {"),
        ([*TRAIN, "--seed", "99999999999"], "--seed needs a whole number below 2**32"),
        (["eval", "RUN", "--episodes", "²"], "--episodes needs a whole number >= 1, or all"),
        (["eval", "RUN", "--json", "/"], "cannot be written"),
        (["eval", "RUN", "--clicks", "0"], "--clicks needs a whole number >= 1"),
        (["record", "RUN", "-n", "0"], "--episodes needs a whole number >= 1"),
        (["record", "no/run"], "no/run does not exist"),
        (["record", "RUN", "--tiles", "17"], "--tiles needs a whole number <= 16"),
        (["eval"], "Missing argument 'RUN...'"),
        (["eval", "RUN", "RUN"], "a run is named twice"),
        (["eval", "RUN", "--baselines", "everything"], "needs a text model"),
        (["plot", "RUN"], "Missing option '--output'"),
        (["plot", "no/run", "-o", "curves.png"], "no/run is no run folder"),
        (["plot", "RUN", "-o", "curves.jpg"], "--output needs a file that ends in .png"),
        (["plot", "RUN", "-o", "curves.png", "--split", "val"], "--split chooses a report"),
        (["plot", "RUN", "-o", "curves.png", "--clicks", "--split", "test"], "has no report of split test"),
        (["demo", "-n", "0"], "--n-timesteps needs a whole number >= 1"),
    ],
)
def test_a_mistake_is_one_line_that_names_it_and_exit_code_2(args, words, run_folder, tmp_path, capsys):
    # A later option replaces an earlier one of the same name, so a wrong log folder is never written to.
    args = [run_folder if each == "RUN" else each for each in args]
    code, _, err = call([*args, "-f", tmp_path] if args[0] == "train" and len(args) > 1 else args, capsys)
    assert code == 2
    assert words in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_both_ways_to_start_it_work_and_help_is_quick_to_import():
    code = "import sys, sb3_alignsam.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0
    shown = subprocess.run(
        [sys.executable, "-m", "sb3_alignsam", "--version"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("sb3-alignsam, version ")


@pytest.mark.long
def test_the_demo_runs_whole(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "sb3_alignsam", "demo", "-n", "1024", "--episodes", "8", "-f", str(tmp_path)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    run = tmp_path / "maskable_ppo" / "SamSegShapes-v0_1"
    for path in (run / "report" / "eval_val.png", run / "report" / "eval_val.json", run / "videos"):
        assert path.exists()
        assert str(path) in result.stdout
    assert len(list((run / "videos").glob("*.mp4"))) == 4
