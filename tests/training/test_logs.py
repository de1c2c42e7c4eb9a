from __future__ import annotations

import csv

import pytest
from stable_baselines3.common.logger import CSVOutputFormat, Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_alignsam.training.logs import ProgressFile, RunLogger, cut_back

ROWS = [{"a": 1.5}, {"a": 2, "b": 'two, or\n"2"'}, {"b": 3, "c": 0.25}]


def _read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_progress_is_what_sb3_writes(tmp_path):
    ours, theirs = ProgressFile(tmp_path / "ours.csv"), CSVOutputFormat(str(tmp_path / "theirs.csv"))
    for row in ROWS[:1] + ROWS[:1]:
        ours.write(row, {})
        theirs.write(row, {})
    theirs.close()
    assert _read(tmp_path / "ours.csv") == _read(tmp_path / "theirs.csv")


def test_progress_goes_on_in_another_process_and_takes_new_keys(tmp_path):
    for row in ROWS:
        ProgressFile(tmp_path / "progress.csv").write(row, {})
    rows = _read(tmp_path / "progress.csv")
    assert [row["a"] for row in rows] == ["1.5", "2", ""]
    assert rows[1]["b"] == ROWS[1]["b"]
    assert [row["c"] for row in rows] == ["", "", "0.25"]


def test_what_cannot_stand_in_a_table_is_left_out(tmp_path):
    ProgressFile(tmp_path / "progress.csv").write({"a": 1, "picture": Image("x", "HWC")}, {"a": ("tensorboard",)})
    assert _read(tmp_path / "progress.csv") == [{"a": "1"}]


def _log(logger, steps):
    logger.record("time/iterations", 1, exclude="tensorboard")
    logger.record("loss", steps / 100)
    logger.dump(steps)


@pytest.mark.parametrize("purges", [True, False])
def test_logs_are_cut_back_to_a_checkpoint_and_go_on_in_one_branch(tmp_path, purges):
    logger = RunLogger(tmp_path)
    _log(logger, 10)
    (tmp_path / "0.monitor.csv").write_text("kept\n")
    known = logger.reach()
    _log(logger, 20)
    logger.close()
    with (tmp_path / "0.monitor.csv").open("a") as file:
        file.write("dropped\nha")
    RunLogger(tmp_path, 20).close()  # It was resumed once, from a later checkpoint.
    (tmp_path / "1.monitor.csv").write_text("of later")
    for _ in range(2):  # Killed at once, and again.
        cut_back(tmp_path, known)
    logger = RunLogger(tmp_path, 10, iterations=1)
    _log(logger, 30)
    logger.close()
    assert [path.read_text() for path in tmp_path.glob("*.monitor.csv")] == ["kept\n"]
    assert [row["loss"] for row in _read(tmp_path / "progress.csv")] == ["0.1", "0.3"]
    assert [row["time/iterations"] for row in _read(tmp_path / "progress.csv")] == ["1", "2"]
    events = EventAccumulator(str(tmp_path / "tensorboard"), purge_orphaned_data=purges).Reload()
    assert [(event.step, round(event.value, 2)) for event in events.Scalars("loss")] == [(10, 0.1), (30, 0.3)]


def test_without_a_checkpoint_everything_is_dropped(tmp_path):
    logger = RunLogger(tmp_path)
    _log(logger, 10)
    logger.close()
    cut_back(tmp_path, None)
    assert [path.name for path in tmp_path.rglob("*")] == ["tensorboard"]


def test_figures_that_wait_for_the_next_dump_are_kept(tmp_path):
    logger = RunLogger(tmp_path)
    logger.record("train/loss", 0.5, exclude="stdout")
    logger.record("picture", Image("x", "HWC"))
    state = logger.state_dict()
    assert set(state["values"]) == {"train/loss"}
    other = RunLogger(tmp_path)
    other.load_state_dict(state)
    assert other.name_to_value["train/loss"] == 0.5
    assert other.name_to_excluded["train/loss"] == ("stdout",)
    for each in (logger, other):
        each.close()
