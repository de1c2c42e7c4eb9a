from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.commands import assert_refused, call
from tests.datasets.folders import write_cityscapes, write_scene_parsing


@pytest.fixture
def root(photographs: Path, tmp_path: Path) -> Path:
    """A folder of six scenes that may be written to."""
    return Path(shutil.copytree(photographs, tmp_path / "data"))


def _change(root: Path, key: str, place: int, **values: object) -> dict:
    path = root / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    content[key][place] |= values
    path.write_text(json.dumps(content))
    return content


def test_a_sound_folder_is_told_so(root, capsys):
    code, out, err = call(["validate", root], capsys)
    assert (code, err) == (0, "")
    head, last = out.splitlines()
    assert "instances_val.json: 6 images, " in head
    assert head.endswith(f"8 categories; photographs in {root / 'val'}")
    assert last == "0 errors, 0 warnings"


def test_errors_are_listed_and_give_exit_code_2(root, tmp_path, capsys):
    content = _change(root, "annotations", 1, iscrowd=3)
    (root / "val" / content["images"][0]["file_name"]).write_bytes(b"")
    _change(root, "images", 2, file_name=content["images"][1]["file_name"])
    code, out, _ = call(["validate", root, "--json", tmp_path / "found.json"], capsys)
    assert code == 2
    assert f"error: annotations[1].iscrowd (id {content['annotations'][1]['id']}): 'iscrowd' is 3" in out
    assert "error: images (id 1): the" not in out
    assert "is not an image; save it as one of JPEG, PNG" in out
    assert "warning: images[2].file_name (id 3): 'file_name' is" in out
    assert "2 errors, 1 warning\n" in out
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["errors"], found["warnings"]) == (2, 1)
    (part,) = found["parts"]
    assert part["counts"] == {"error": {"field": 1, "image": 1}, "warning": {"duplicate-name": 1}}
    first = next(each for each in part["findings"] if each["kind"] == "field")
    assert (first["place"], first["value"], first["level"]) == ("annotations[1].iscrowd", "3", "error")
    assert first["file"].endswith("instances_val.json")


def test_warnings_alone_give_exit_code_0(root, capsys):
    _change(root, "annotations", 0, area=9999)
    code, out, _ = call(["validate", root], capsys)
    assert code == 0
    assert "warning: annotations[0].area (id 1): 'area' is 9999, but its segmentation covers" in out
    assert out.endswith("0 errors, 1 warning\n")


def test_of_many_faults_of_one_kind_some_are_shown(root, capsys):
    path = root / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    content["annotations"] += [{**content["annotations"][0], "id": 0}] * 1500
    path.write_text(json.dumps(content))
    code, out, _ = call(["validate", root], capsys)
    assert code == 2
    assert out.count("error: annotations[") == 20
    assert "error: 1480 more of kind id\n" in out
    assert "1500 errors" in out


def test_photographs_may_lie_elsewhere_or_be_left_alone(root, tmp_path, capsys):
    alone = tmp_path / "own.json"
    shutil.copy(root / "annotations" / "instances_val.json", alone)
    code, out, _ = call(["validate", alone], capsys)
    assert (code, "photographs not looked at (--images FOLDER)" in out) == (0, True)
    shutil.move(root / "val", tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "000000000003.png").unlink()
    code, out, _ = call(["validate", alone, "--images", tmp_path / "elsewhere"], capsys)
    assert code == 2
    assert "there is no image file" in out


def test_quick_reads_headers_only(root, capsys):
    path = root / "val" / "000000000003.png"
    path.write_bytes(path.read_bytes()[:-2000])
    assert call(["validate", root, "--quick"], capsys)[0] == 0
    code, out, _ = call(["validate", root], capsys)
    assert code == 2
    assert "000000000003.png cannot be read" in out
    Image.new("RGB", (8, 8)).save(path)
    code, out, _ = call(["validate", root, "--quick"], capsys)
    assert code == 2
    assert "000000000003.png is 8x8" in out


def test_fix_writes_a_copy_without_what_cannot_be_used(root, tmp_path, capsys):
    content = _change(root, "annotations", 1, iscrowd=3)
    (root / "val" / "000000000003.png").write_bytes(b"")
    code, out, _ = call(["validate", root, "--fix", tmp_path / "out"], capsys)
    assert code == 2
    lost = sum(each["image_id"] == 3 or each["iscrowd"] == 3 for each in content["annotations"])
    assert f"repaired copy of instances_val.json in {tmp_path / 'out'}, without 1 images, {lost} annotations" in out
    assert call(["validate", tmp_path / "out"], capsys)[0] == 0
    fixed = json.loads((tmp_path / "out" / "annotations" / "instances_val.json").read_text())
    assert [each["id"] for each in fixed["images"]] == [1, 2, 4, 5, 6]
    kept = [each for each in content["annotations"] if each["image_id"] != 3 and each["iscrowd"] == 0]
    assert fixed["annotations"] == kept
    assert fixed["categories"] == content["categories"]
    assert not (tmp_path / "out" / "val" / "000000000003.png").exists()
    listed = (tmp_path / "out" / "left_out_instances_val.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in listed]
    assert len(entries) == lost + 1
    assert {"list": "annotations", "place": "annotations[1]", "id": content["annotations"][1]["id"]}.items() <= next(
        each for each in entries if "'iscrowd' is 3" in each["reason"]
    ).items()
    assert any(each["reason"] == "its image 3 was left out" for each in entries)
    assert_refused(["validate", root, "--fix", tmp_path / "out"], "exists and is not empty", capsys)


def test_what_cannot_be_read_at_all_is_not_repaired(root, tmp_path, capsys):
    (root / "annotations" / "instances_val.json").write_text("{")
    code, out, err = call(["validate", root, "--fix", tmp_path / "out"], capsys)
    assert code == 2
    assert "nothing that can be read" in out
    assert "1 error, 0 warnings" in out
    assert "cannot be repaired" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["."], "is no dataset of a kind that is known (coco, ade20k, cityscapes)"),
        (["data", "--images", "nowhere"], "there is no image folder nowhere"),
        (["data", "--json", "/"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_line(args, words, root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert_refused(["validate", *args], words, capsys)


def test_folders_of_label_images_are_checked_split_by_split(tmp_path, capsys):
    root, found = tmp_path / "ade", tmp_path / "found.json"
    for split, count in (("training", 3), ("validation", 2)):
        write_scene_parsing(root, split, count)
    code, out, _ = call(["validate", root], capsys)
    assert code == 0
    head = f"{root}/annotations/training: 3 images, 3 categories; photographs in {root}/images/training"
    assert out.splitlines()[0] == head
    assert out.endswith("0 errors, 0 warnings\n")
    victim = root / "annotations" / "validation" / "ADE_val_00000002.png"
    Image.new("L", (256, 256), 200).save(victim)
    code, out, _ = call(["validate", root, "--json", found], capsys)
    assert code == 2
    assert f"error: {victim} holds the label 200; SceneParsing's are 0 to 150" in out
    training, validation = json.loads(found.read_text())["parts"]
    assert (training["kind"], training["counts"]["error"]) == ("ade20k", {})
    (finding,) = validation["findings"]
    assert (finding["kind"], finding["file"], finding["id"], finding["value"]) == ("label", str(victim), 2, "200")
    assert_refused(["validate", root, "--fix", tmp_path / "out"], "--fix is for COCO's layout", capsys)
    assert_refused(["validate", root, "--images", root], "--images is for COCO's layout", capsys)


def test_quick_reads_all_of_label_images_but_headers_of_photographs(tmp_path, capsys):
    root = write_cityscapes(tmp_path, "train", 2)
    stem = "aachen/aachen_000000_000000"
    path = root / "leftImg8bit" / "train" / f"{stem}_leftImg8bit.png"
    path.write_bytes(path.read_bytes()[:-2000])
    assert call(["validate", root, "--quick"], capsys)[0] == 0
    code, out, _ = call(["validate", root], capsys)
    assert code == 2
    assert f"the image {path} cannot be read" in out
    assert out.endswith("1 error, 0 warnings\n")
    path = root / "gtFine" / "train" / f"{stem}_gtFine_labelIds.png"
    path.write_bytes(path.read_bytes()[:-200])
    code, out, _ = call(["validate", root, "--quick"], capsys)
    assert code == 2
    assert f"the image {path} cannot be read" in out


def test_the_photographs_for_development_have_no_errors(coco_mini, capsys):
    code, out, _ = call(["validate", coco_mini], capsys)
    assert code == 0
    assert out.endswith("0 errors, 3 warnings\n")
    assert out.count("area (id 90") == 3  # Crowds: their ids begin so, and COCO states their areas otherwise.
