"""`sb3-alignsam annotate` as a user types it, killed processes included."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch as th
from PIL import Image
from pycocotools import mask as native
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sb3_alignsam.datasets.coco_masks import decode_segmentation
from tests.cli.commands import assert_refused, call
from tests.conftest import REPOSITORY

CATEGORIES = "star,ring"
DIES_AT_FULL_FILES = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, getattr(signal, sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
from sb3_alignsam.cli import main
main(sys.argv[3:])
"""
"""Once a file has that many bytes, which is in mid-line, the kernel kills it (SIG_DFL), refuses to write (SIG_IGN), or
it is interrupted as by Ctrl-C (default_int_handler)."""


@pytest.fixture
def annotate(run_folder, photographs, tmp_path, capsys):
    """Runs the command on the scenes; returns the results, the review list and what was printed."""

    def run(*more, out=tmp_path / "results.json", categories=CATEGORIES, images=photographs / "val", agent=run_folder):
        args = ["annotate", agent, "--images", images, "--categories", categories, "-o", out, *more]
        code, shown, err = call(args, capsys)
        assert code == 0, err
        review = json.loads(out.with_suffix(".review.json").read_text())
        return json.loads(out.read_text()), review, shown + err

    return run


def test_without_annotations_it_makes_a_whole_dataset_that_pycocotools_loads(annotate, tmp_path):
    content, review, shown = annotate()
    dataset = COCO(tmp_path / "results.json")
    assert [image["file_name"] for image in content["images"]] == [f"{n:012d}.png" for n in range(1, 7)]
    assert [(each["id"], each["name"]) for each in content["categories"]] == [(1, "star"), (2, "ring")]
    assert f"6 images, {len(content['annotations'])} objects" in shown
    assert len(content["annotations"]) + len(review["left_out"]) == 12
    for each in content["annotations"]:
        assert each["iscrowd"] == 0
        mask = _mask(dataset, each)
        assert each["area"] == np.count_nonzero(mask) > 0
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert each["bbox"] == [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]


def test_the_review_list_holds_traces_and_begins_with_the_least_sure(annotate):
    content, review, _ = annotate("--review-below", "0.6")
    scores = [each["score"] for each in content["annotations"]]
    doubtful = review["needs_review"]
    assert [each["score"] for each in doubtful] == sorted(score for score in scores if score < 0.6)
    assert all(scores[each["annotation"] - 1] == each["score"] for each in doubtful)
    assert [each["annotation"] for each in review["objects"]] == [each["id"] for each in content["annotations"]]
    assert all(len(each["clicks"]) == 5 for each in review["objects"])
    assert review["objects"][0]["clicks"][0].keys() == {"x", "y", "positive", "predicted_iou", "by"}


def test_another_format_of_the_same_masks_is_written_without_new_work(annotate, tmp_path):
    exact, review, _ = annotate()
    done = (tmp_path / "results.progress.jsonl").read_bytes()
    masks = [_mask(COCO(tmp_path / "results.json"), each) for each in exact["annotations"]]
    polygons, again, _ = annotate("--format", "coco-polygons")
    dataset = COCO(tmp_path / "results.json")
    for mask, each, same in zip(masks, polygons["annotations"], exact["annotations"], strict=True):
        drawn = _mask(dataset, each)
        assert np.count_nonzero(drawn & mask) / np.count_nonzero(drawn | mask) > 0.95
        assert {**each, "segmentation": None} == {**same, "segmentation": None}
    tasks, _, _ = annotate("--format", "label-studio")
    assert len(tasks) == 6
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=val/000000000001.png"
    assert '<Label value="ring"/>' in (tmp_path / "results.label_config.xml").read_text()
    assert again == review
    assert (tmp_path / "results.progress.jsonl").read_bytes() == done


def test_polygons_are_what_cvat_documents_for_coco_import(annotate):
    """CVAT's page on COCO: ``images``, ``categories`` and ``annotations`` with ``iscrowd`` 0 and polygons, which are
    lists of at least three points; images are found by ``file_name``."""
    content, _, _ = annotate("--format", "coco-polygons")
    ids = [{each["id"] for each in content[key]} for key in ("images", "categories", "annotations")]
    assert [len(each) for each in ids] == [len(content[key]) for key in ("images", "categories", "annotations")]
    assert {each["iscrowd"] for each in content["annotations"]} == {0}
    for each in content["annotations"]:
        assert each["image_id"] in ids[0]
        assert each["category_id"] in ids[1]
        assert each["segmentation"]
        assert all(isinstance(polygon, list) and len(polygon) >= 6 for polygon in each["segmentation"])
        assert all(0 <= value <= 256 for polygon in each["segmentation"] for value in polygon)


def test_with_annotations_the_results_are_evaluated_under_their_ids(annotate, photographs, tmp_path):
    source = json.loads((photographs / "annotations" / "instances_val.json").read_text())
    for image in source["images"]:
        image["id"] += 1000
    for each in source["annotations"]:
        each["image_id"] += 1000
    source["images"].append({"id": 5, "file_name": "elsewhere.png", "width": 8, "height": 8})
    (tmp_path / "truth.json").write_text(json.dumps(source))
    results, review, _ = annotate("--annotations", tmp_path / "truth.json")
    truth = COCO(tmp_path / "truth.json")
    found = truth.loadRes(str(tmp_path / "results.json"))
    evaluation = COCOeval(truth, found, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] >= 0
    assert {each["image_id"] for each in results} <= set(range(1001, 1007))
    names = {each["id"]: each["name"] for each in source["categories"]}
    assert {names[each["category_id"]] for each in results} == {"star", "ring"}
    assert results[0].keys() == {"image_id", "category_id", "segmentation", "score"}
    assert all(each["area"] == native.area(each["segmentation"]) for each in found.anns.values())
    assert review["not_in_folder"] == ["elsewhere.png"]


def test_photographs_are_annotated_under_cocos_ids(annotate, coco_mini, tmp_path, explicit_run, capsys):
    images = tmp_path / "val2017"
    images.mkdir()
    for path in sorted((coco_mini / "val2017").iterdir())[:2]:
        shutil.copy(path, images)
    annotations, out = coco_mini / "annotations" / "instances_val2017.json", tmp_path / "r.json"
    args = ["annotate", explicit_run, "--images", images, "--categories", "person,cup", "-o", out]
    code, _, err = call([*args, "--annotations", annotations], capsys)
    assert code == 0, err
    found = COCO(annotations).loadRes(str(out))
    assert set(found.getImgIds(imgIds=[each["image_id"] for each in found.anns.values()])) <= {139, 802, 397133}
    review = json.loads((tmp_path / "r.review.json").read_text())
    assert len(found.anns) + len(review["left_out"]) == 4
    assert len(review["not_in_folder"]) == 77


def test_killed_interrupted_or_out_of_space_in_mid_write_it_goes_on_to_the_same_files(
    annotate, run_folder, photographs, tmp_path
):
    annotate(out=tmp_path / "whole" / "results.json")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    cut = len(whole["results.progress.jsonl"]) // 2
    for kind, code, words in (
        ("SIG_DFL", -signal.SIGXFSZ, ""),
        ("SIG_IGN", 2, "Error: .* cannot be written \\(File too large\\); mend that and give the same command\n"),
        ("default_int_handler", 130, r"\d images are done; the same command goes on\n\n?Stopped.\n"),
    ):
        out = tmp_path / kind / "results.json"
        args = ["annotate", run_folder, "--images", photographs / "val", "--categories", CATEGORIES, "-o", out]
        ended = subprocess.run(
            [sys.executable, "-c", DIES_AT_FULL_FILES, kind, str(cut), *(str(each) for each in args)],
            cwd=REPOSITORY, capture_output=True, text=True, check=False,
            # A sum over another number of threads is rounded otherwise, and the bytes would tell.
            env={**os.environ, "OMP_NUM_THREADS": str(th.get_num_threads())},
        )  # fmt: skip
        assert ended.returncode == code, ended.stderr
        assert re.fullmatch(words, ended.stderr), ended.stderr
        assert not out.exists()
        left = (out.parent / "results.progress.jsonl").read_bytes()
        assert len(left) == cut
        assert not left.endswith(b"\n")
        annotate(out=out)
        assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == whole


def test_new_changed_and_mended_images_are_done_at_the_next_start_and_no_others(annotate, photographs, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(photographs / "val", images / "below")
    names = sorted(path.name for path in (images / "below").iterdir())
    (images / "below" / names[0]).write_bytes(b"torn")
    moved = (images / "below" / names[1]).rename(tmp_path / "later.png")
    content, review, shown = annotate(images=images)
    assert [each["image"] for each in review["unreadable"]] == [f"below/{names[0]}"]
    assert "is not an image" in review["unreadable"][0]["reason"]
    assert f"cannot be read: below/{names[0]};" in shown
    assert len(content["images"]) == 4
    progress = tmp_path / "results.progress.jsonl"
    before = len(progress.read_text().splitlines())
    moved.rename(images / "below" / names[1])
    for name in (names[0], names[2]):
        Image.new("RGB", (40, 30)).save(images / "below" / name)
    content, review, _ = annotate(images=images)
    assert review["unreadable"] == []
    assert [(each["width"], each["height"]) for each in content["images"]] == [(40, 30), (256, 256), (40, 30)] + [
        (256, 256)
    ] * 3
    assert len(progress.read_text().splitlines()) == before + 3


def test_objects_are_found_one_by_one_where_the_target_is_an_instance(annotate, instance_zip, tmp_path):
    content, review, _ = annotate("--max-objects", "3", agent=instance_zip)
    dataset = COCO(tmp_path / "results.json")
    pairs = [(each["image_id"], each["category_id"]) for each in content["annotations"]]
    assert max(pairs.count(pair) for pair in pairs) == 3
    for image_id, category_id in pairs:
        annotations = dataset.loadAnns(dataset.getAnnIds([image_id], [category_id]))
        assert np.sum([_mask(dataset, each) for each in annotations], axis=0).max() <= 1
    assert all(each["score"] >= 0.5 for each in content["annotations"])
    reasons = {each["reason"] for each in review["left_out"]}
    assert "it is the rest of an object found before" in reasons
    assert reasons <= {"it is the rest of an object found before", "the mask is empty", "predicted IoU is below 0.5"}


def test_photographs_are_turned_upright_but_not_where_cocos_ids_are_used(annotate, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(images / "a.jpg", exif=exif)
    content, _, _ = annotate(images=images)
    assert (content["images"][0]["width"], content["images"][0]["height"]) == (30, 40)
    truth = {"images": [{"id": 3, "file_name": "a.jpg", "width": 40, "height": 30}], "annotations": []}
    (tmp_path / "truth.json").write_text(json.dumps(truth | {"categories": [{"id": 8, "name": "star"}]}))
    _, review, _ = annotate(
        "--annotations", tmp_path / "truth.json", images=images, out=tmp_path / "b.json", categories="star"
    )
    assert review["unreadable"] == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--images", "none"], "there is no image folder none"),
        (["--images", "EMPTY"], "holds no image (.bmp"),
        (["--categories", "star,rign"], "category 'rign'"),
        (["--categories", "star,,ring"], "category '' is no name"),
        (["--annotations", "none.json"], "there is no annotation file none.json"),
        (["--annotations", "TEXT"], "is no valid JSON"),
        (["--annotations", "OTHER"], "category 'star' is not in"),
        (["--annotations", "TRUTH", "--format", "label-studio"], "does not go with --annotations"),
        (["--annotations", "TRUTH", "-o", "TRUTH"], "would replace the annotation file"),
        (["--annotations", "TWICE"], "two images have the same file_name"),
        (["--format", "voc"], "'voc' is not one of"),
        (["--max-objects", "3"], "--max-objects is for agents of target:instance"),
        (["--max-objects", "0"], "--max-objects needs a whole number >= 1"),
        (["--review-below", "7"], "--review-below needs a number from 0 to 1"),
        (["-o", "TEXT"], "is there already"),
        (["-o", "EMPTY"], "it is a folder"),
        (["-o", "TEXT/r.json"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_costs_nothing(more, words, run_folder, photographs, tmp_path, capsys):
    truth = photographs / "annotations" / "instances_val.json"
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "TEXT").write_text("text")
    shutil.copy(truth, tmp_path / "TRUTH")
    image = {"id": 1, "file_name": "a.png", "width": 1, "height": 1}
    (tmp_path / "OTHER").write_text(json.dumps({"images": [image], "categories": [{"id": 1, "name": "dog"}]}))
    (tmp_path / "TWICE").write_text(json.dumps({"images": [image, image | {"id": 2}], "categories": []}))
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    more = [str(tmp_path / each) if each.partition("/")[0].isupper() else each for each in more]
    args = ["annotate", run_folder, "--images", photographs / "val", "--categories", CATEGORIES, "-o"]
    assert_refused([*args, tmp_path / "r.json", *more], words, capsys)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_another_job_under_the_same_name_is_refused(annotate, run_folder, photographs, tmp_path, capsys):
    annotate()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    args = ["annotate", run_folder, "--images", photographs / "val", "--categories", "ring,star"]
    code, _, err = call([*args, "--load-best", "-o", tmp_path / "results.json"], capsys)
    assert code == 2
    assert "was begun with another agent, categories; choose another place with -o" in err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_second_process_is_kept_from_the_same_results(annotate, run_folder, photographs, tmp_path, capsys):
    annotate()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    args = ["annotate", run_folder, "--images", photographs / "val", "--categories", CATEGORIES, "-o"]
    holder = "import sys, time; from sb3_alignsam.file_locks import only_process; from pathlib import Path\n"
    holder += "with only_process(Path(sys.argv[1]), ''): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holder, tmp_path / "results.progress.jsonl"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        assert_refused([*args, tmp_path / "results.json"], "another process is annotating into", capsys)
        other.kill()
    annotate()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def _mask(dataset, annotation):
    image = dataset.imgs[annotation["image_id"]]
    return decode_segmentation(annotation["segmentation"], image["height"], image["width"], "test")
