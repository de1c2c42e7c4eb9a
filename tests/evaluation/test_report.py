from __future__ import annotations

import io
import json

import numpy as np
from PIL import Image
from rich.console import Console

from sb3_alignsam.evaluation.curves import plot_curves
from sb3_alignsam.evaluation.report import write_json
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
