"""Runs on two ranks, in real processes that talk by gloo."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch as th
import torch.distributed as dist

from sb3_alignsam.errors import InputError
from sb3_alignsam.training.config import read_hyperparams, shipped_config
from sb3_alignsam.training.distributed import Ranks, _name_of_attempt
from sb3_alignsam.training.learning import check_ranks
from sb3_alignsam.training.resume import resume
from sb3_alignsam.training.run import check_imitation, train
from sb3_alignsam.training.run_folder import launched_run, write_launch
from sb3_alignsam.training.settings import RunSettings
from tests.cli.commands import call
from tests.training.forks import Forks
from tests.training.test_resume import _assert_same, _wait_for

ENV = "SamSegShapes-v0"
SMALL = {"n_envs": 4, "n_steps": 6, "batch_size": 8, "n_epochs": 2, "n_timesteps": 96}
"""Four rollouts of 24 steps, 6 for each rank's two environments."""
ENDING = "tests.training.ending_ranks"
ON_TWO = "torchrun --nproc-per-node 2 -m sb3_alignsam train --resume"


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    server = Forks(tmp_path_factory.mktemp("forks") / "log")
    yield server
    server.close()


@pytest.fixture(scope="module")
def whole(forks, tmp_path_factory):
    """A run of two ranks that was never stopped."""
    logs = tmp_path_factory.mktemp("whole")
    assert _ended(forks, forks.start_ranks(_command(logs))) == [0, 0], forks.log.read_text()
    return logs / "maskable_ppo" / f"{ENV}_1"


@pytest.fixture(scope="module")
def killed(forks, tmp_path_factory):
    """A run whose second rank was killed in the third rollout; not to be written to."""
    logs = tmp_path_factory.mktemp("killed")
    forks.log.write_text("")
    pids = forks.start_ranks(_command(logs), ENDING, {"ENDS": f"1:15:{int(signal.SIGKILL)}"})
    assert _ended(forks, pids) == [1, -signal.SIGKILL]
    return logs / "maskable_ppo" / f"{ENV}_1", forks.log.read_text()


def _command(logs):
    pairs = [f"{key}:{value}" for key, value in SMALL.items()]
    return [
        "train", "--env", ENV, "--algo", "maskable_ppo", "--device", "cpu", "-f", logs, "-params", *pairs,
        "--eval-freq", 48, "--eval-episodes", 2, "--save-minutes", 0, "--track", "none",
    ]  # fmt: skip


def _ended(forks, pids):
    return [forks.wait(pid) for pid in pids]


def _images(run, name):
    with (run / name).open() as file:
        file.readline()
        return [(row["image_id"], row["category"]) for row in csv.DictReader(file)]


class TestTwoRanks:
    def test_play_together_what_one_process_would_have_played(self, whole, tmp_path):
        hyperparams = read_hyperparams(shipped_config("maskable_ppo", "implicit"), ENV, "maskable_ppo", SMALL)
        settings = RunSettings("maskable_ppo", ENV, logs=tmp_path, vec_env="dummy", device="cpu", eval_freq=0)
        alone = train(settings, hyperparams, ["test"], lambda line: None)
        assert sorted(path.name for path in whole.glob("*.csv")) == ["0.monitor.csv", "2.monitor.csv", "progress.csv"]
        for rank, numbers in ((0, (0, 1)), (2, (2, 3))):
            played = {image for number in numbers for image in _images(alone, f"{number}.monitor.csv")}
            assert set(_images(whole, f"{rank}.monitor.csv")) == played

    def test_count_the_steps_and_episodes_of_both(self, whole):
        with (whole / "progress.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [int(row["time/total_timesteps"]) for row in rows[:4]] == [24, 48, 72, 96]
        assert rows[3]["time/iterations"] == "4"
        returns = [
            float(row["r"])
            for name in ("0.monitor.csv", "2.monitor.csv")
            for row in csv.DictReader((whole / name).read_text().splitlines()[1:])
        ]
        assert float(rows[3]["rollout/ep_rew_mean"]) == pytest.approx(sum(returns) / len(returns), abs=1e-4)

    def test_name_how_to_go_on_when_one_was_killed(self, killed):
        run, told = killed
        assert f"Error: another rank of this run has ended, or does not answer; what was learnt is in {run}" in told
        assert f"go on with: {ON_TWO} {run}" in told
        assert "Traceback" not in told
        assert [path.name for path in run.glob("rl_model_*")] == ["rl_model_48_steps.zip"]

    def test_go_on_exactly_where_one_was_killed(self, whole, killed, forks, tmp_path):
        run = shutil.copytree(killed[0], tmp_path / killed[0].name)
        assert _ended(forks, forks.start_ranks(["train", "--resume", run])) == [0, 0], forks.log.read_text()
        _assert_same(run, whole)

    def test_can_be_followed_by_one(self, killed, tmp_path):
        run = shutil.copytree(killed[0], tmp_path / "run")
        lines = []
        resume(run, {}, lines.append)
        assert any(line.startswith("it was one of 2 ranks, this is one of 1") for line in lines)
        assert "96 steps" in lines[-1]

    @pytest.mark.long
    def test_stop_at_a_signal_and_go_on_exactly(self, whole, forks, tmp_path):
        forks.log.write_text("")
        ends = ",".join(f"{rank}:15:{int(signal.SIGTERM)}" for rank in (0, 1))
        assert _ended(forks, forks.start_ranks(_command(tmp_path), ENDING, {"ENDS": ends})) == [143, 143]
        run = tmp_path / "maskable_ppo" / f"{ENV}_1"
        (told,) = [line for line in forks.log.read_text().splitlines() if line.startswith("Stopped: ")]
        assert told.endswith(f"go on with: {ON_TWO} {run}")
        assert _ended(forks, forks.start_ranks(["train", "--resume", run])) == [0, 0], forks.log.read_text()
        _assert_same(run, whole)


@pytest.mark.long
def test_a_leader_that_waits_for_a_rank_that_hangs_saves_and_ends_at_a_signal(forks, tmp_path):
    forks.log.write_text("")
    leader, other = forks.start_ranks(_command(tmp_path), ENDING, {"ENDS": f"1:15:{int(signal.SIGSTOP)}"})
    run = tmp_path / "maskable_ppo" / f"{ENV}_1"
    _wait_for(lambda: (run / "0.monitor.csv").is_file() and len(_images(run, "0.monitor.csv")) >= 6)
    _wait_for(lambda: _is_idle(leader))
    os.kill(leader, signal.SIGTERM)
    assert forks.wait(leader) == 143
    os.kill(other, signal.SIGKILL)
    assert forks.wait(other) == -signal.SIGKILL
    assert f"Stopped: no answer from another rank; go on with: {ON_TWO} {run}" in forks.log.read_text()
    assert [path.name for path in run.glob("rl_model_*")] == ["rl_model_48_steps.zip"]


def _is_idle(pid):
    """Whether a process has used no processor for a second."""
    before = Path(f"/proc/{pid}/stat").read_text().split()[13:15]
    time.sleep(1)
    return Path(f"/proc/{pid}/stat").read_text().split()[13:15] == before


@pytest.mark.long
def test_torchrun_goes_on_with_the_run_that_a_rank_has_died_in(whole, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*command, "--max-restarts", "1", "-m", ENDING, *map(str, _command(tmp_path))],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ENDS": f"1:15:{int(signal.SIGKILL)}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    (run,) = (tmp_path / "maskable_ppo").iterdir()
    assert f"resuming {run} at 48 of 96 steps" in ended.stdout
    _assert_same(run, whole)


class TestRanks:
    def test_divide_evenly(self):
        assert [list(Ranks(rank, 2).part(4)) for rank in (0, 1)] == [[0, 1], [2, 3]]
        with pytest.raises(InputError, match="evenly"):
            Ranks(0, 2).part(5)

    def test_put_in_places_what_a_sum_of_float32_must_not_round(self):
        values = [th.tensor([1e8 + 1 / 3, -2 / 7], dtype=th.float64), th.tensor([1e-8, 2 / 7 + 1e-9], dtype=th.float64)]
        places = [Ranks(rank, 2).in_places(each) for rank, each in enumerate(values)]
        assert {each.dtype for each in places} == {th.float32}
        assert th.allclose(Ranks(1, 2).of_places(places[0] + places[1]), values[0] + values[1], rtol=1e-13, atol=1e-14)

    def test_name_the_command_of_as_many(self):
        assert Ranks().command == "sb3-alignsam"
        assert Ranks(3, 8, 1, 2).command == "torchrun --nnodes 4 --nproc-per-node 2 -m sb3_alignsam"

    @pytest.mark.parametrize(("name", "value"), [("n_envs", 5), ("batch_size", 9)])
    def test_refuse_what_they_cannot_have_evenly(self, name, value):
        overrides = {**SMALL, name: value}
        hyperparams = read_hyperparams(shipped_config("ppo", "implicit"), ENV, "ppo", overrides)
        with pytest.raises(InputError, match=rf"'{name}' is {value}.*-params {name}:{value + 1}$"):
            check_ranks(RunSettings("ppo", ENV), hyperparams, "cpu", Ranks(0, 2))

    def test_refuse_to_imitate(self):
        with pytest.raises(InputError, match="--imitate is for one process"):
            check_imitation(RunSettings("ppo", ENV, imitate=64), Ranks(1, 2))


def test_ranks_of_a_new_attempt_do_not_find_their_predecessors():
    """The store of torchrun outlives the processes that it starts again."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    names = []
    for _ in range(3):
        clients = [dist.TCPStore("127.0.0.1", store.port, wait_for_workers=False) for _ in range(3)]
        with ThreadPoolExecutor(3) as threads:
            # The leader is last.
            asked = [threads.submit(_name_of_attempt, clients[rank], rank, 3) for rank in (2, 1, 0)]
            names += {each.result() for each in asked}
    assert len(names) == len(set(names)) == 3


def test_the_run_of_a_launch_is_found_again(tmp_path):
    for number, name in enumerate(("a", "b", "a", None), start=1):
        inner = tmp_path / "ppo" / f"{ENV}_{number}" / ENV
        inner.mkdir(parents=True)
        (inner / "args.yml").touch()
        write_launch(inner.parent, ENV, name)
        if name:
            os.utime(inner / "launch.txt", (number, number))
    assert launched_run(tmp_path, "ppo", ENV, "a") == tmp_path / "ppo" / f"{ENV}_3"
    assert launched_run(tmp_path, "ppo", ENV, "c") is None
    assert launched_run(tmp_path, "ppo", ENV, None) is None


@pytest.mark.parametrize(
    ("rank", "restarts", "forgotten", "told"),
    [(0, 0, True, "device 'abacus'"), (1, 0, False, "device 'abacus'"), (0, 1, False, "it has no env_id")],
)
def test_a_first_attempt_that_fails_leaves_no_run_of_an_earlier_launch_to_go_on_with(
    tmp_path, monkeypatch, capsys, rank, restarts, forgotten, told
):
    """As with the same --rdzv-id a week later; what the leader's first attempt is not leaves all as it is."""
    runs = [tmp_path / "maskable_ppo" / f"{ENV}_{number}" for number in (1, 2)]
    for run, name in zip(runs, ("1", "2"), strict=True):
        (run / ENV).mkdir(parents=True)
        (run / ENV / "args.yml").write_text("seed: 0\n")
        write_launch(run, ENV, name)
    for variable, value in {"RUN_ID": 1, "RESTART_COUNT": restarts}.items():
        monkeypatch.setenv(f"TORCHELASTIC_{variable}", str(value))
    monkeypatch.setenv("RANK", str(rank))
    code, _, error = call([*_command(tmp_path), "--device", "abacus"], capsys)
    assert (code, told in error) == (2, True)
    assert launched_run(tmp_path, "maskable_ppo", ENV, "1") == (None if forgotten else runs[0])
    assert launched_run(tmp_path, "maskable_ppo", ENV, "2") == runs[1]
