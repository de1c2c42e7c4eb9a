from __future__ import annotations

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Image, configure

from sb3_alignsam.callbacks import MlflowCallback
from sb3_alignsam.callbacks.mlflow import MAX_VALUE
from sb3_alignsam.envs import make_env
from sb3_alignsam.policies import ImplicitPolicy
from sb3_alignsam.tracking.journal import journal_of, read_entries

CLOSED = "http://127.0.0.1:9"
"""Nobody listens there: all is in the journal."""


@pytest.fixture
def impatient(monkeypatch):
    """Nobody waits for a server at the end."""
    for name in ("PATIENCE", "PATIENCE_WHEN_STOPPED"):
        monkeypatch.setattr(f"sb3_alignsam.callbacks.mlflow.{name}", 0.0)


def _entries(folder, kind):
    return [entry for entry, _ in read_entries(journal_of(folder)) if entry["kind"] == kind]


def test_a_script_of_ones_own_is_tracked_with_its_last_update(tmp_path):
    env = make_env("SamSegShapes-v0", {"split": "dev", "max_steps": 2})
    model = PPO(ImplicitPolicy, env, n_steps=8, batch_size=8, n_epochs=1, device="cpu", seed=0)
    params = {"a": {"b": [1, 2], "c": {"d": "x" * 7000}}, "user@host": 1}
    lines = []
    with MlflowCallback(
        tmp_path, CLOSED, "mine", params=params, files={"*.zip": "zips"}, report=lines.append
    ) as tracking:
        model.learn(16, tracking)
        model.save(tmp_path / "model.zip")
    (begin,) = _entries(tmp_path, "begin")
    assert begin["params"] == {"a.b": "[1, 2]", "a.c.d": "x" * MAX_VALUE, "user_host": "1"}
    metrics = _entries(tmp_path, "metrics")
    assert [each["step"] for each in metrics] == [8, 16, 16]
    assert "train/loss" in metrics[-1]["values"]
    assert [each["path"] for each in _entries(tmp_path, "file")] == ["model.zip"]
    assert [each["status"] for each in _entries(tmp_path, "status")] == ["FINISHED"]
    assert len(lines) == 1


def test_dumps_that_are_made_again_are_not_kept_twice(impatient, tmp_path):
    for made in (0, 2, 2):
        with MlflowCallback(tmp_path, CLOSED, report=lambda line: None) as tracking:
            logger = configure(str(tmp_path / "log"), ["csv"])
            tracking.begin(logger)
            tracking.load_state_dict({"dumps": made})
            for step in range(made, 4):
                logger.record("a", step)
                logger.dump(step)
    assert [each["step"] for each in _entries(tmp_path, "metrics")] == [0, 1, 2, 3]
    assert len({each["id"] for each in _entries(tmp_path, "begin")}) == 1


def test_pictures_of_the_logger_become_files(impatient, tmp_path):
    with MlflowCallback(tmp_path, CLOSED, report=lambda line: None) as tracking:
        logger = configure(str(tmp_path / "log"), [])
        tracking.begin(logger)
        logger.record("a/b", Image(np.zeros((4, 4, 3), np.uint8), "HWC"))
        logger.dump(5)
    assert (tmp_path / "plots" / "a_b_5.png").is_file()
    assert [each["path"] for each in _entries(tmp_path, "file")] == ["plots/a_b_5.png"]


def test_whoever_stops_training_leaves_a_run_that_says_so(impatient, tmp_path):
    for number, error in enumerate((KeyboardInterrupt, ValueError)):
        folder = tmp_path / str(number)
        try:
            with MlflowCallback(folder, CLOSED, report=lambda line: None) as tracking:
                tracking.begin(configure(str(tmp_path / "log"), []))
                raise error
        except (KeyboardInterrupt, ValueError):
            pass
    statuses = [_entries(tmp_path / str(number), "status")[0]["status"] for number in (0, 1)]
    assert statuses == ["KILLED", "FAILED"]
