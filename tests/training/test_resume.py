"""A run that was stopped and resumed is, bit for bit, the run that was not."""

from __future__ import annotations

import csv
import io
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
import zipfile
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch as th
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.errors import InputError
from sb3_alignsam.training.config import agent_env_kwargs, read_hyperparams, shipped_config
from sb3_alignsam.training.distributed import Ranks
from sb3_alignsam.training.resume import resume
from sb3_alignsam.training.run import train
from sb3_alignsam.training.run_folder import alone
from sb3_alignsam.training.settings import RunSettings
from sb3_alignsam.training.vec_envs import VEC_ENVS
from tests.cli.commands import assert_refused
from tests.training.forks import Forks

ENV = "SamSegShapes-v0"
ALGOS = ("ppo", "maskable_ppo")
STEPS = 96
SMALL = {"n_envs": 2, "n_steps": 8, "batch_size": 8, "n_epochs": 2}
"""With the shipped ``learning_rate: lin_2.0e-3``, so that the schedule has to go on too."""
TIMES = ("time/fps", "time/time_elapsed")


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    server = Forks(tmp_path_factory.mktemp("forks") / "log")
    yield server
    server.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs that were never stopped, each trained once."""
    runs = {}

    def trained(algo, kind, steps=STEPS, imitate=0, eval_freq=32, env=ENV, agent="implicit", **env_kwargs):
        key = (algo, kind, steps, imitate, eval_freq, env, agent, *env_kwargs.items())
        if key not in runs:
            logs = tmp_path_factory.mktemp("whole")
            hyperparams = read_hyperparams(shipped_config(algo, agent), env, algo, {**SMALL, "n_timesteps": steps})
            env_kwargs = agent_env_kwargs(agent, env, {**hyperparams.env_kwargs, **env_kwargs})
            settings = RunSettings(algo, env, env_kwargs, logs=logs, vec_env=kind, device="cpu", eval_episodes=2)
            settings = replace(settings, save_freq=16, imitate=imitate, eval_freq=eval_freq)
            runs[key] = train(settings, hyperparams, ["test"], lambda line: None)
        return runs[key]

    return trained


@pytest.fixture(scope="module")
def stopped(forks, tmp_path_factory):
    """A ppo run that SIGTERM has stopped behind its checkpoint at 48 steps; not to be written to."""
    return _interrupted(forks, "ppo", "dummy", tmp_path_factory.mktemp("stopped"), signal.SIGTERM, after=48)


def _command(
    algo, kind, logs, steps=STEPS, save_freq=16, imitate=0, eval_freq=32, env=ENV, agent="implicit", **env_kwargs
):
    pairs = [f"{key}:{value}" for key, value in SMALL.items()]
    keywords = [f"{key}:{value}" for key, value in env_kwargs.items()]
    return [
        "train", "--env", env, "--algo", algo, "--agent", agent, "--vec-env", kind, "--device", "cpu", "-n", steps,
        "-f", logs, "-params", *pairs, *(["--env-kwargs", *keywords] if keywords else []), "--eval-freq", eval_freq,
        "--eval-episodes", 2, "--save-freq", save_freq, "--save-minutes", 0, "--imitate", imitate, "--track", "none",
    ]  # fmt: skip


def _interrupted(forks, algo, kind, logs, number, after, group=False, **options):
    """The folder of a run that got a signal as soon as a checkpoint was there (None: rows of finished episodes)."""
    pattern = f"rl_model_{after}_steps.zip" if after else "0.monitor.csv"
    for attempt in range(5):  # On a crowded machine it may be done before it is seen.
        pid = forks.start(_command(algo, kind, logs / str(attempt), **options))
        run = logs / str(attempt) / algo / f"{options.get('env', ENV)}_1"
        seen = run / pattern
        _wait_for(lambda seen=seen: seen.is_file() and (after or seen.read_text().count("\n") > 2))
        (os.killpg if group else os.kill)(pid, number)
        code = forks.wait(pid)
        if code != 0:
            assert code == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number], forks.log.read_text()
            return run
    raise AssertionError("no run was slow enough to be stopped")


def _wait_for(condition):
    """Ask seldom, so that who is waited for gets the processor."""
    while not condition():
        time.sleep(0.005)


def _resume(run):
    lines = []
    assert resume(run, {}, lines.append) == run
    return lines


def _weights(run):
    with zipfile.ZipFile(run / f"{run.name.removesuffix('_1')}.zip") as archive:
        return th.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)


def _monitors(run):
    files = sorted(run.glob("*.monitor.csv"))
    return {file.name: _rows(file.read_text().splitlines()[1:], ("t",)) for file in files}


def _rows(lines, left_out):
    return [{key: value for key, value in row.items() if key not in left_out} for row in csv.DictReader(lines)]


def _events(run):
    """Steps and values of every scalar in the order of the files, later ones hiding nothing."""
    found = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    found.Reload()
    scalars = {tag: [(each.step, each.value) for each in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    scalars.pop("time/fps")
    return scalars


def _assert_same(run, other, evaluated=True):
    weights = _weights(other)
    assert all(th.equal(value, weights[key]) for key, value in _weights(run).items())
    assert _monitors(run) == _monitors(other)
    progress = [_rows((each / "progress.csv").read_text().splitlines(), TIMES) for each in (run, other)]
    assert progress[0] == progress[1]
    assert _events(run) == _events(other)
    if not evaluated:
        return
    with np.load(run / "evaluations.npz") as one, np.load(other / "evaluations.npz") as two:
        assert all(np.array_equal(one[key], two[key]) for key in one.files)
    assert (run / "best_model.zip").is_file()


@pytest.mark.parametrize("kind", VEC_ENVS)
@pytest.mark.parametrize("algo", ALGOS)
def test_a_killed_run_ends_as_if_it_never_had_been(forks, whole, tmp_path, algo, kind):
    run = _interrupted(forks, algo, kind, tmp_path, signal.SIGKILL, after=32)
    lines = _resume(run)
    assert re.match(rf"resuming .* at \d+ of {STEPS} steps", lines[0])
    _assert_same(run, whole(algo, kind))


@pytest.mark.long
def test_a_killed_run_of_the_explicit_agent_ends_as_if_it_never_had_been(forks, whole, tmp_path):
    run = _interrupted(forks, "maskable_ppo", "batched", tmp_path, signal.SIGKILL, after=32, agent="explicit")
    assert _resume(run)[0].startswith("resuming")
    _assert_same(run, whole("maskable_ppo", "batched", agent="explicit"))


@pytest.mark.parametrize("kind", ["batched", pytest.param("subproc", marks=pytest.mark.long)])
def test_a_killed_run_on_a_coco_folder_ends_as_if_it_never_had_been(forks, whole, tmp_path, kind):
    """With features in the cache, scores of what was drawn, and episodes without their target."""
    ShapesDataset("dev").write_coco(tmp_path, 40)
    options = {"env": "SamSegCoco-v0", "root": tmp_path, "split": "dev", "sampling": "hard", "absent_rate": 0.2}
    options["max_steps"] = 2  # so many episodes that old scores have a say
    run = _interrupted(forks, "ppo", kind, tmp_path / "logs", signal.SIGKILL, after=64, **options)
    assert _resume(run)[0].startswith("resuming")
    _assert_same(run, whole("ppo", kind, **{**options, "root": str(tmp_path)}))


def test_a_run_killed_behind_its_imitation_does_not_imitate_again(forks, whole, tmp_path):
    run = _interrupted(forks, "ppo", "dummy", tmp_path, signal.SIGKILL, after=16, imitate=64)
    lines = _resume(run)
    assert not any("imitating" in line for line in lines)
    _assert_same(run, whole("ppo", "dummy", imitate=64))


def test_a_run_killed_before_its_first_checkpoint_begins_again_in_its_folder(forks, whole, tmp_path):
    run = _interrupted(forks, "ppo", "dummy", tmp_path, signal.SIGKILL, after=None, save_freq=0)
    assert "no checkpoint yet: beginning again" in _resume(run)[0]
    _assert_same(run, whole("ppo", "dummy"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_saves_and_says_how_to_go_on(forks, whole, tmp_path, number):
    """As Ctrl-C in a terminal and a cluster's scheduler send it; checkpoints were not asked for."""
    run = _interrupted(forks, "ppo", "subproc", tmp_path, number, after=None, group=True, save_freq=0)
    assert f"Stopped: go on with: sb3-alignsam train --resume {run}\n" in forks.log.read_text()
    assert (run / f"{ENV}.zip").is_file()
    assert list(run.glob("rl_model_*_steps.zip"))
    assert _resume(run)[0].startswith("resuming")
    _assert_same(run, whole("ppo", "subproc"))


def _copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / run.name)


def _damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_newest_checkpoint_is_recognised_and_the_one_before_used(stopped, whole, tmp_path):
    run = _copy(stopped, tmp_path)
    paths = sorted(run.glob("rl_model_*.zip"), key=lambda path: int(path.stem.split("_")[2]))
    _damage(paths[-1])
    lines = _resume(run)
    assert lines[0].startswith(f"warning: {paths[-1]} is damaged")
    assert paths[-2].name in lines[1]
    _assert_same(run, whole("ppo", "dummy"))


def test_without_a_checkpoint_that_can_be_used_nothing_is_touched(stopped, tmp_path, capsys):
    run = _copy(stopped, tmp_path)
    for path in run.glob("rl_model_*.zip"):
        path.write_bytes(path.read_bytes()[:1000])
    before = _monitors(run)
    assert_refused(["train", "--resume", run], "has no checkpoint that can be used", capsys)
    assert _monitors(run) == before


def test_ranks_that_cannot_imitate_leave_a_run_killed_during_imitation_as_it_is(run_folder, tmp_path):
    run = _copy(run_folder, tmp_path)
    for path in (*run.glob("rl_model_*.zip"), run / ENV / "finished"):
        path.unlink()
    args = run / ENV / "args.yml"
    args.write_text(args.read_text().replace("imitate: 0", "imitate: 64"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="--imitate is for one process"):
        resume(run, {}, lambda line: None, Ranks(0, 2))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_checkpoint_is_a_zip_of_sb3_with_the_state_beside_it(stopped):
    path = min(stopped.glob("rl_model_*.zip"))
    with zipfile.ZipFile(path) as archive:
        assert {"data", "policy.pth", "resume.npz", "resume.json", "digests.json"} <= set(archive.namelist())


def test_another_number_of_environments_is_refused(stopped, tmp_path):
    run = _copy(stopped, tmp_path)
    config = run / ENV / "config.yml"
    config.write_text(config.read_text().replace("n_envs: 2", "n_envs: 4"))
    with pytest.raises(InputError, match=r"checkpoint is one of 2 environments, config.yml says 4"):
        resume(run, {}, lambda line: None)


def test_mistakes_beside_resume_are_told_in_one_line(stopped, run_folder, tmp_path, capsys):
    assert_refused(["train", "--resume", run_folder], "is finished: all of its 64 steps", capsys)
    assert_refused(["train", "--resume", tmp_path / "none"], "is no run folder", capsys)
    assert_refused(["train", "--resume", tmp_path], "is no run folder", capsys)
    words = "--resume goes on with the run's own configuration; leave out --env, --seed"
    assert_refused(["train", "--resume", stopped, "--env", ENV, "--seed", 3], words, capsys)
    assert_refused(["train", "--resume", stopped, "--device", "abacus"], "device 'abacus' is not there", capsys)
    assert_refused(["train", "--resume", stopped, "--save-minutes", -1], "--save-minutes needs a number >= 0", capsys)
    with alone(stopped, ENV):
        assert_refused(["train", "--resume", stopped], "another process is training in", capsys)
    old = _copy(stopped, tmp_path)
    args = old / ENV / "args.yml"
    args.write_text("".join(line for line in args.read_text().splitlines(True) if "keep_checkpoints" not in line))
    assert_refused(["train", "--resume", old], "the run is of an earlier version", capsys)
    args.write_text("!!python/object/apply:os.system ['exit']")
    assert_refused(["train", "--resume", old], "args.yml", capsys)


def test_where_checkpoints_find_no_room_training_goes_on_with_a_warning(forks, whole, tmp_path):
    before = len(forks.log.read_text())
    # Without evaluations, whose pictures TensorBoard would get: so only checkpoints are larger than the limit.
    pid = forks.start(_command("ppo", "dummy", tmp_path, eval_freq=0))
    run = tmp_path / "ppo" / f"{ENV}_1"
    _wait_for((run / "rl_model_16_steps.zip").is_file)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (440_000, 440_000))
    assert forks.wait(pid) == 0
    assert forks.log.read_text()[before:].count("(File too large); training goes on") == 1
    assert (run / "rl_model_16_steps.zip").is_file()
    assert not list(run.glob("*.tmp"))
    _assert_same(run, whole("ppo", "dummy", eval_freq=0), evaluated=False)


def _fill(disk):
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


@pytest.mark.parametrize("kind", ["dummy", "subproc"])
def test_a_full_disk_ends_the_run_with_one_line_and_nothing_is_lost(forks, whole, tmp_path, kind):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        before = len(forks.log.read_text())
        pid = forks.start(_command("ppo", kind, disk))
        run = disk / "ppo" / f"{ENV}_1"
        _wait_for((run / "rl_model_16_steps.zip").is_file)
        _fill(disk)
        assert forks.wait(pid) == 1
        told = forks.log.read_text()[before:]
        assert "No space left on device" in told
        assert told.endswith(f"make room, then go on with: sb3-alignsam train --resume {run}\n")
        assert "Traceback" not in told
        (disk / "filler").unlink()
        _resume(run)
        _assert_same(run, whole("ppo", kind))
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.long
@pytest.mark.parametrize("kind", VEC_ENVS)
@pytest.mark.parametrize("algo", ALGOS)
def test_kills_at_random_instants_change_nothing(forks, whole, tmp_path, algo, kind):
    steps, draw, kills = 256, random.Random(f"{algo} {kind}"), 0
    command, run = _command(algo, kind, tmp_path, steps), tmp_path / algo / f"{ENV}_1"
    seconds = 12.0
    while kills < 4:
        pid = forks.start(["train", "--resume", run] if (run / ENV / "args.yml").is_file() else command)
        if not run.is_dir():  # Nothing could be lost before.
            _wait_for((run / ENV / "args.yml").is_file)
        time.sleep(draw.uniform(0, seconds))
        os.kill(pid, signal.SIGKILL)
        if forks.wait(pid) == 0:  # It was done sooner: begin anew, and kill sooner.
            shutil.rmtree(run)
            seconds /= 2
            continue
        kills += 1
    _resume(run)
    _assert_same(run, whole(algo, kind, steps))
