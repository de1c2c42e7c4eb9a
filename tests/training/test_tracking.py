"""A run as it can be read back from MLflow."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from base64 import b64encode
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch as th
from PIL import Image
from stable_baselines3.common.callbacks import BaseCallback

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.errors import InputError, RunError
from sb3_alignsam.tracking.addresses import default_store
from sb3_alignsam.tracking.journal import journal_of, read_entries
from sb3_alignsam.tracking.late import sync
from sb3_alignsam.training.config import read_hyperparams, shipped_config
from sb3_alignsam.training.resume import resume
from sb3_alignsam.training.run import train
from sb3_alignsam.training.settings import RunSettings
from tests.cli.commands import assert_refused, call
from tests.conftest import short_run
from tests.training.forks import Forks

ENV = "SamSegShapes-v0"
SMALL = {"n_timesteps": 96, "n_envs": 2, "n_steps": 8, "batch_size": 8, "n_epochs": 1}
CLOSED = "http://127.0.0.1:9"
"""Nobody listens there."""
EVALUATED = {"eval_freq": 32, "eval_episodes": 2}


def _client(uri):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _only_run(client):
    experiments = [each.experiment_id for each in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    return run


def _points(client, run):
    return {key: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics if not key.startswith("time/")}  # fmt: skip


def _artifacts(client, run, folder=""):
    return {each.path for each in client.list_artifacts(run.info.run_id, folder)}


def _weights(run):
    with zipfile.ZipFile(run / f"{ENV}.zip") as archive:
        return th.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)


def _photograph():
    sample, buffer = ShapesDataset("val").get(3), io.BytesIO()
    Image.fromarray(sample.image).save(buffer, "PNG")
    return buffer.getvalue(), sample


@pytest.fixture(scope="module")
def tracked_run(tmp_path_factory):
    """A run with everything on, and a client of its store."""
    logs = tmp_path_factory.mktemp("tracked")
    run = short_run("maskable_ppo", logs, track="mlflow", video_freq=32, imitate=32, **EVALUATED)
    sync(run)  # on a crowded machine the end of training may not have waited long enough
    return run, _client(default_store(logs))


def test_parameters_tags_and_figures_are_there(tracked_run):
    folder, client = tracked_run
    run = _only_run(client)
    assert run.info.status == "FINISHED"
    assert run.data.params["hyperparams.policy_kwargs.channels"] == "32"
    assert (run.data.tags["algo"], run.data.tags["env_id"], run.data.tags["seed"]) == ("maskable_ppo", ENV, "0")
    assert run.data.tags["version.torch"] == th.__version__.partition("+")[0]
    points = _points(client, run)
    assert [step for step, _ in points["train/loss"]] == [64, 64]  # the last update's figures too
    assert [step for step, _ in points["rollout/iou"]] == [32, 64]
    assert {"imitation/loss", "eval/miou_at_5", "rollout/iou_gain_per_click", "train/action_entropy"} <= set(points)
    dumps = [each for each, _ in read_entries(journal_of(folder)) if each["kind"] == "metrics"]
    assert len(dumps) == 1 + 2 + 1  # one entry, so one call, a dump: imitation, two rollouts, the end


def test_files_are_there(tracked_run):
    _, client = tracked_run
    run = _only_run(client)
    assert {"best_model.zip", f"{ENV}.zip", "imitation.zip", "progress.csv", "model"} <= _artifacts(client, run)
    inner = {f"configuration/{name}" for name in ("args.yml", "config.yml", "versions.yml", "command.txt")}
    assert _artifacts(client, run, "configuration") == inner
    assert _artifacts(client, run, "videos") == {f"videos/training_{n}_steps.mp4" for n in (32, 64)}
    assert "plots/episodes_strips_64.png" in _artifacts(client, run, "plots")


def test_the_best_model_is_registered_and_takes_photographs(tracked_run):
    import mlflow

    _, client = tracked_run
    (version,) = client.search_model_versions(f"name = '{ENV}-maskable_ppo'")
    mlflow.set_tracking_uri(client.tracking_uri)
    model = mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}")
    content, sample = _photograph()
    answer = model.predict(pd.DataFrame({"image": [content] * 2, "category": [sample.category, "ring"]}))
    assert list(answer.columns) == ["mask", "score"]
    assert np.asarray(Image.open(io.BytesIO(answer["mask"][0]))).shape == sample.image.shape[:2]
    for image, category, words in ((b"no image", "ring", "not an image"), (content, "rnig", "did you mean ring")):
        with pytest.raises(mlflow.exceptions.MlflowException, match=words):
            model.predict(pd.DataFrame({"image": [image], "category": [category]}))


def test_neither_tracking_nor_films_change_what_is_learnt(tracked_run, tmp_path):
    folder, _ = tracked_run
    plain = _weights(short_run("maskable_ppo", tmp_path, imitate=32, **EVALUATED))
    assert all(th.equal(value, plain[key]) for key, value in _weights(folder).items())


def test_sync_sends_what_is_new_and_nothing_twice(tracked_run, capsys):
    folder, client = tracked_run
    before = _points(client, _only_run(client))
    (folder / "report").mkdir()
    (folder / "report" / "eval_val.md").write_text("# report")
    code, out, err = call(["sync", folder], capsys)
    assert (code, err) == (0, "")
    assert out.startswith("sent 0 entries of the journal and 1 new files to sqlite:///")
    assert "report/eval_val.md" in _artifacts(client, _only_run(client), "report")
    assert _points(client, _only_run(client)) == before


def test_sync_refuses_what_was_not_tracked(run_folder, tmp_path, capsys):
    assert_refused(["sync", run_folder], "holds no tracking/journal.jsonl", capsys)
    assert_refused(["sync", tmp_path / "none"], "holds no tracking/journal.jsonl", capsys)


class _Breaks(BaseCallback):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def _on_step(self):
        if self.num_timesteps >= self.steps:
            raise RunError("broken")
        return True


def _broken_and_resumed(logs, **settings):
    hyperparams = read_hyperparams(shipped_config("ppo", "implicit"), ENV, "ppo", SMALL)
    run = RunSettings("ppo", ENV, logs=logs, vec_env="dummy", device="cpu", track="mlflow", **EVALUATED, **settings)
    with pytest.raises(RunError, match="broken"):
        train(run, replace(hyperparams, callbacks=[(_Breaks, {"steps": 60})]), ["test"], lambda line: None)
    folder = logs / "ppo" / f"{ENV}_1"
    _forget_the_newest(folder)
    return resume(folder, {}, lambda line: None)


def _forget_the_newest(folder):
    """So that what is made again has been tracked already."""
    numbers = sorted(int(path.stem.split("_")[2]) for path in folder.glob("rl_model_*_steps.zip"))
    assert numbers[-2:] == [32, 48]
    (folder / "rl_model_48_steps.zip").unlink()


def test_a_resumed_run_goes_on_with_its_mlflow_run_and_no_point_is_double(tmp_path):
    folder = _broken_and_resumed(tmp_path, save_freq=16)
    sync(folder)
    client = _client(default_store(tmp_path))
    run = _only_run(client)
    assert run.info.status == "FINISHED"
    points = _points(client, run)
    assert [step for step, _ in points["rollout/iou"]] == list(range(16, 97, 16))
    assert [step for step, _ in points["train/loss"]] == [*range(32, 97, 16), 96]
    assert len({p.step for p in client.get_metric_history(run.info.run_id, "time/fps")}) == 6


def test_a_server_that_is_not_there_changes_nothing_and_no_password_is_written(tmp_path, capsys):
    address = CLOSED.replace("//", "//me:secret@")
    options = ["-n", 32, "-f", tmp_path, "--eval-freq", 0, "--vec-env", "dummy", "--device", "cpu"]
    options += ["-params", "n_envs:2", "n_steps:8", "batch_size:16", "--tracking-uri", address]
    code, out, err = call(["train", "--env", ENV, *options], capsys)
    folder = tmp_path / "ppo" / f"{ENV}_1"
    assert (code, err) == (0, "")
    assert out.count("warning") == 1
    assert f"sb3-alignsam sync {folder}" in out
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    assert "me:***@127.0.0.1" in (folder / ENV / "args.yml").read_text()
    code, _, err = call(["sync", folder], capsys)
    assert code == 1
    assert "what is missing is kept" in err
    other = default_store(tmp_path / "other")
    (tmp_path / "other").mkdir()
    assert sync(folder, other).entries > 3
    run = _only_run(_client(other))
    assert run.info.status == "FINISHED"
    assert [step for step, _ in _points(_client(other), run)["rollout/iou"]] == [16, 32]


# With a server, as `mlflow server` starts it.


@pytest.fixture
def server(tmp_path):
    """Starts servers on one free port with one database; ends those that are left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []

    def start():
        place = tmp_path / "server"
        place.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers"]
        command += ["1", "--backend-store-uri", f"sqlite:///{place}/s.db", "--artifacts-destination", str(place / "a")]
        started.append(_serve(command, f"http://127.0.0.1:{port}/health"))
        return f"http://127.0.0.1:{port}", started[-1]

    yield start
    for process in started:
        _end(process)


def _serve(command, health):
    # `mlflow models serve` calls uvicorn by its name.
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env=os.environ | {"PATH": path},
    )  # fmt: skip
    for _ in range(1200):
        try:
            with urllib.request.urlopen(health, timeout=5) as answer:
                if answer.status == 200:
                    return process
        except OSError:
            assert process.poll() is None
            time.sleep(0.5)
    raise AssertionError(f"{command} does not answer")


def _end(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _command(logs, uri, steps):
    return ["train", "--env", ENV, "--algo", "maskable_ppo", "-n", steps, "--vec-env", "dummy", "--device", "cpu",
            "-f", logs, "--tracking-uri", uri, "--eval-freq", 200, "--eval-episodes", 4, "--video-freq", 200,
            "-params", "n_envs:4", "n_steps:25", "batch_size:50"]  # fmt: skip


@pytest.mark.long
def test_a_run_against_a_server_can_be_read_back_and_served(server, tmp_path, capsys):
    uri, _ = server()
    code, _, err = call(_command(tmp_path / "logs", uri, 500), capsys)
    assert (code, err) == (0, "")
    folder = tmp_path / "logs" / "maskable_ppo" / f"{ENV}_1"
    assert not (tmp_path / "logs" / "mlflow.db").exists()
    sync(folder)
    client = _client(uri)
    run = _only_run(client)
    assert run.info.status == "FINISHED"
    assert [step for step, _ in _points(client, run)["rollout/iou"]] == [100, 200, 300, 400, 500]
    assert {"best_model.zip", "configuration", "videos", "plots", "model"} <= _artifacts(client, run)
    (version,) = client.search_model_versions(f"name = '{ENV}-maskable_ppo'")
    _assert_served(uri, f"models:/{version.name}/{version.version}")


def _assert_served(tracking_uri, model):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    try:
        process = _serve([*command, "--port", str(port), "--host", "127.0.0.1"], f"http://127.0.0.1:{port}/ping")
    finally:
        del os.environ["MLFLOW_TRACKING_URI"]
    try:
        content, sample = _photograph()
        rows = [{"image": b64encode(content).decode(), "category": sample.category}]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"dataframe_records": rows}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            (row,) = json.load(answer)["predictions"]
        assert set(row) == {"mask", "score"}
    finally:
        _end(process)


@pytest.mark.long
def test_a_server_that_is_killed_does_not_stop_training_and_sync_sends_the_rest(server, tmp_path):
    uri, process = server()
    forks = Forks(tmp_path / "log")
    try:
        pid = forks.start(_command(tmp_path / "logs", uri, 1500))
        folder = tmp_path / "logs" / "maskable_ppo" / f"{ENV}_1"
        while not _sent(folder):
            time.sleep(0.05)
        _end(process)
        assert forks.wait(pid) == 0
    finally:
        forks.close()
    assert (tmp_path / "log").read_text().count("warning") <= 1
    with pytest.raises(RunError, match="what is missing is kept"):
        sync(folder)
    uri, _ = server()
    assert sync(folder).entries > 0
    client = _client(uri)
    run = _only_run(client)
    assert run.info.status == "FINISHED"
    assert [step for step, _ in _points(client, run)["rollout/iou"]] == list(range(100, 1501, 100))


def _sent(folder):
    """Whether a figure has reached the server."""
    try:
        (state,) = json.loads((folder / "tracking" / "sent.json").read_text()).values()
    except (OSError, ValueError):
        return False
    sent = [entry for entry, end in read_entries(journal_of(folder)) if end <= state["offset"]]
    return any(entry["kind"] == "metrics" for entry in sent)


def test_a_journal_without_its_beginning_is_named(tmp_path):
    journal_of(tmp_path).parent.mkdir()
    journal_of(tmp_path).write_text('{"kind": "status", "status": "FINISHED"}\n')
    with pytest.raises(InputError, match="no run folder"):
        sync(tmp_path)
