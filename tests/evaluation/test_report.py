from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.curves import plot_curves
from sb3_alignsam.evaluation.report import check_writable, write_json
from sb3_alignsam.evaluation.summary import summary
from sb3_alignsam.evaluation.tables import print_table
from tests.evaluation.made_up import episode_id, made_record


def _report(most=1):
    ids = [episode_id(0, 11, "star"), episode_id(3, 14, "ring", 2000)]
    good, bad = np.array([[0.5, 0.9], [0.7, 0.8]]), np.array([[0.1, 0.2], [0.1, 0.1]])
    records = [made_record("random", bad), made_record("oracle", good, True, most)]
    return summary(ids, records, {"split": "val", "zip": "x.zip"})


def test_the_summary_is_json_with_every_episode_by_id(tmp_path):
    write_json(_report(), tmp_path / "report" / "a.json")
    read = json.loads((tmp_path / "report" / "a.json").read_text())
    keys = ("index", "image_id", "category", "area", "size_class", "instance_ids")
    assert [[each[key] for key in keys] for each in read["episodes"]] == [
        [0, 11, "star", 400, "small", [1]],
        [3, 14, "ring", 2000, "medium", [4]],
    ]
    oracle = read["clickers"][1]
    assert oracle["uses_ground_truth"] is True
    assert [round(each["mean"], 3) for each in oracle["miou_at"]] == [0.6, 0.85]
    assert oracle["answer_iou"] == [[0.5, 0.9], [0.7, 0.8]]


def test_the_table_puts_the_best_first_and_says_who_saw_ground_truth():
    out = io.StringIO()
    print_table(_report(), Console(file=out, width=100))
    lines = out.getvalue().splitlines()
    oracle = next(index for index, line in enumerate(lines) if "oracle" in line)
    random = next(index for index, line in enumerate(lines) if "random" in line)
    assert oracle < random
    assert "yes" in lines[oracle]
    assert "0.850" in lines[oracle]
    assert "val: 2 episodes" in lines[0]


def test_the_curves_are_a_picture(tmp_path):
    plot_curves(_report(), tmp_path / "curves.png")
    picture = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    assert picture.shape[0] >= 400
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10


def test_who_makes_more_clicks_than_its_columns_say_is_named():
    for most, said in ((1, False), (4, True)):
        console = Console(file=io.StringIO(), width=80)
        print_table(_report(most), console)
        shown = " ".join(console.file.getvalue().split())
        assert ("clicks on average, all in the first step: oracle 8" in shown) is said


def _shown(report):
    console = Console(file=io.StringIO(), width=100)
    print_table(report, console)
    return console.file.getvalue()


def test_how_an_agent_stopped_and_fell_is_said_beside_its_figures():
    ids = [episode_id(0, 11, "star"), episode_id(3, 14, "ring")]
    scores = np.array([[0.6, 0.5, 0.5], [0.1, 0.3, 0.9]])
    agent = made_record("agent", scores, stopped_at=np.array([2, -1]))
    shown = _shown(summary(ids, [agent, made_record("random", scores / 2)], {"split": "val"}))
    assert "agent: stopped 50% of the episodes; 2.5 clicks on average" in shown
    assert "agent: IoU 0.500 at the stop, the best that was reached 0.600" in shown
    assert "agent: largest fall 0.050 on average (0.050 of the latest mask), 0.000 of the mean curve" in shown


def test_the_tables_fit_into_a_hundred_columns_even_with_many_clicks():
    ids = [episode_id(0, 11, "star"), episode_id(3, 14, "ring")]
    scores = np.full((2, 20), 0.5)
    records = [made_record(name, scores, most=9) for name in ("agent", "oracle_best_of_three", "random_positive")]
    lines = _shown(summary(ids, records, {"split": "val2017"})).splitlines()
    assert max(map(len, lines)) <= 100
    assert not any("…" in line for line in lines)
    assert "@20" in lines[1]


def test_figures_are_grouped_by_category_and_by_the_unions_area():
    ids = [episode_id(0, 11, "star", 1023), episode_id(3, 14, "ring", 1024), episode_id(4, 15, "ring", 9216)]
    report = summary(ids, [made_record("agent", np.array([[0.1], [0.2], [0.6]]))], {"split": "val"})
    (row,) = report["clickers"]
    assert {name: each["miou"]["mean"] for name, each in row["by_size"].items()} == {
        "small": 0.1,
        "medium": 0.2,
        "large": 0.6,
    }
    assert (row["by_category"]["ring"]["episodes"], row["by_category"]["ring"]["dice"]["mean"]) == (2, 0.4)


def test_the_agents_lead_is_the_mean_of_paired_differences():
    ids = [episode_id(index, index, "star") for index in range(6)]
    scores = np.random.default_rng(0).random((6, 2))
    report = summary(ids, [made_record("agent", scores), made_record("random", scores - 0.1)], {"split": "val"})
    lead = report["differences"]["random"]
    assert (lead["low"], lead["mean"], lead["high"]) == (pytest.approx(0.1),) * 3


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_json({}, tmp_path / "file" / "a.json")


def test_places_that_cannot_be_written_are_known_before_the_work(tmp_path):
    check_writable(tmp_path / "new" / "a.json")
    (tmp_path / "file").write_text("")
    for path, words in ((tmp_path / "new", "it is a folder"), (tmp_path / "file" / "a", "cannot be written")):
        with pytest.raises(InputError, match=words):
            check_writable(path)
