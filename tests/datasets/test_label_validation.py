"""Each fault of a folder of ADE20K or Cityscapes is found where it is, and keeps what it is in from being used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sb3_alignsam.datasets import Ade20kDataset, CityscapesDataset
from sb3_alignsam.datasets.findings import DatasetError
from sb3_alignsam.datasets.validation import Options, validate
from tests.datasets.broken import write_huge_header
from tests.datasets.folders import write_cityscapes, write_full_release, write_scene_parsing

STREET = "images/ADE/training/urban/street/ADE_train_00000002"
AACHEN = "aachen/aachen_000000_000000"
FILES = {
    "parsing": ("images/training/ADE_train_00000002.jpg", "annotations/training/ADE_train_00000002.png"),
    "full": (f"{STREET}.jpg", f"{STREET}_seg.png"),
    "cityscapes": (f"leftImg8bit/train/{AACHEN}_leftImg8bit.png", f"gtFine/train/{AACHEN}_gtFine_labelIds.png"),
}
"""The photograph and the label image that get a fault, of each layout."""
INSTANCES = f"gtFine/train/{AACHEN}_gtFine_instanceIds.png"
OPEN = {"parsing": Ade20kDataset, "full": Ade20kDataset, "cityscapes": CityscapesDataset}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder of three images of each layout; not to be written to."""
    writers = {"parsing": write_scene_parsing, "full": write_full_release}
    folders = {name: write(tmp_path_factory.mktemp(name), "training", 3) for name, write in writers.items()}
    return folders | {"cityscapes": write_cityscapes(tmp_path_factory.mktemp("cityscapes"), "train", 3)}


@pytest.fixture
def folder(sound, tmp_path):
    """Gives a copy of a sound folder of a layout."""
    return lambda layout: Path(shutil.copytree(sound[layout], tmp_path / "d" / "data"))


def _empty(path):
    path.write_bytes(b"")


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _smaller(path):
    image = Image.open(path)
    image.crop((0, 0, image.width - 1, image.height)).save(path)


def _gif(path):
    Image.open(path).convert("P").save(path, "GIF")


def _link_out(path):
    target = next(each for each in path.parents if each.name == "d") / "outside"
    shutil.move(path, target)
    path.symlink_to(target)


def _repaint(change):
    def put(path):
        Image.fromarray(change(np.array(Image.open(path)))).save(path)

    return put


def _describe(change):
    def put(path):
        content = json.loads(path.read_text())
        change(content["annotation"]["object"])
        path.write_text(json.dumps(content))

    return put


def _found(root):
    _, (checked,) = validate(root, Options())
    return checked


def _read_all(kind, root):
    dataset = kind(root)
    for index in range(len(dataset)):
        dataset.get(index)


def _assert_found(root, layout, kind, path, words):
    """One error is found, of that kind and about that file, and opening the folder or reading it stops at it."""
    checked = _found(root)
    (finding,) = checked.findings.listed
    assert (finding.level, finding.kind, finding.file) == ("error", kind, str(root / path))
    assert words in finding.message
    assert "\n" not in str(finding)
    assert str(finding).count(str(root / path)) == 1
    with pytest.raises(DatasetError) as told:
        _read_all(OPEN[layout], root)
    assert told.value.finding.kind == kind


@pytest.mark.parametrize("layout", list(FILES))
def test_in_a_sound_folder_nothing_is_found(folder, layout):
    root = folder(layout)
    checked = _found(root)
    assert checked.findings.listed == []
    assert checked.records["images"] == 3
    assert checked.records["categories"] == len({pair[1] for pair in OPEN[layout](root, min_area=0).pairs().tolist()})


@pytest.mark.parametrize("layout", list(FILES))
@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (_empty, "image", "is not an image"),
        (_cut, "image", "cannot be read"),
        (write_huge_header, "image", "pixels"),
        (_gif, "image", "save it as one of JPEG, PNG"),
        (_link_out, "outside", "leads out of"),
    ],
)
def test_a_photograph_that_cannot_be_used_is_found(folder, layout, change, kind, words):
    root, path = folder(layout), FILES[layout][0]
    change(root / path)
    _assert_found(root, layout, kind, path, words)


@pytest.mark.parametrize("layout", list(FILES))
@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (_empty, "labels", "is not an image"),
        (_cut, "labels", "cannot be read"),
        (write_huge_header, "labels", "pixels"),
        (_gif, "labels", "save it as PNG"),
        (_link_out, "outside", "leads out of"),
        (_repaint(lambda pixels: np.zeros((*pixels.shape[:2], 4), np.uint8)), "labels", "has pixels of mode RGBA"),
    ],
)
def test_a_label_image_that_cannot_be_used_is_found(folder, layout, change, kind, words):
    root, path = folder(layout), FILES[layout][1]
    change(root / path)
    _assert_found(root, layout, kind, path, words)


@pytest.mark.parametrize(
    ("layout", "path", "change", "kind", "words"),
    [
        ("parsing", 0, Path.unlink, "missing", "has no file of the same name"),
        ("parsing", 1, Path.unlink, "missing", "has no file of the same name"),
        ("parsing", 1, _smaller, "image-size", "is 255x256, but"),
        ("parsing", 1, _repaint(lambda pixels: pixels + 151), "label", "holds the label"),
        ("full", 1, Path.unlink, "missing", "every image needs its labels"),
        ("full", f"{STREET}.json", Path.unlink, "missing", "every image needs its labels"),
        ("full", f"{STREET}.json", _empty, "description", "cannot be read as a description"),
        ("full", f"{STREET}.json", _describe(list.clear), "label", "does not name the class"),
        ("full", 1, _smaller, "image-size", "is 255x256, but"),
        ("cityscapes", 1, Path.unlink, "missing", "every image needs its labels"),
        ("cityscapes", INSTANCES, Path.unlink, "missing", "every image needs its labels"),
        ("cityscapes", INSTANCES, _cut, "labels", "cannot be read"),
        ("cityscapes", INSTANCES, _link_out, "outside", "leads out of"),
        (
            "cityscapes",
            INSTANCES,
            _repaint(lambda pixels: pixels.astype(np.uint8)),
            "labels",
            "of mode L; they must be",
        ),
        ("cityscapes", INSTANCES, _repaint(lambda pixels: pixels + 1000), "instances", "contradict each other"),
        ("cityscapes", 1, _repaint(lambda pixels: pixels + 40), "label", "are these labelTrainIds?"),
        ("cityscapes", 0, _smaller, "image-size", "is 256x256, but"),
    ],
)
def test_files_that_do_not_belong_together_are_found(folder, layout, path, change, kind, words):
    root = folder(layout)
    path = FILES[layout][path] if isinstance(path, int) else path
    change(root / path)
    # Of half a pair the other half is what is there, and a size is told of the labels.
    about = FILES[layout][1 - FILES[layout].index(path)] if "same name" in words else path
    _assert_found(root, layout, kind, FILES[layout][1] if kind == "image-size" else about, words)


def test_both_halves_of_a_pair_are_told_and_only_once_each(folder):
    root = folder("cityscapes")
    for path in FILES["cityscapes"]:
        _empty(root / path)
    assert _found(root).findings.counts["error"] == {"image": 1, "labels": 1}


@pytest.mark.parametrize(("layout", "left"), [("full", 1), ("cityscapes", 2)])
def test_labels_without_a_photograph_are_a_warning(folder, layout, left):
    root = folder(layout)
    (root / FILES[layout][0]).unlink()
    checked = _found(root)
    assert checked.findings.counts == {"error": {}, "warning": {"missing": left}}
    assert checked.records["images"] == 2
    assert len(OPEN[layout](root))


def test_two_images_of_one_number_are_found(folder):
    root = folder("full")
    other = root / "images" / "ADE" / "training" / "nature"
    other.mkdir()
    for kind in (".jpg", "_seg.png", ".json"):
        shutil.copy(root / f"{STREET}{kind}", other)
    _assert_found(root, "full", "id", f"{STREET}.jpg", "have the same number")


def test_an_empty_split_and_one_without_any_target_are_told(tmp_path):
    for kind in ("images", "annotations"):
        (tmp_path / kind / "training").mkdir(parents=True)
    (finding,) = _found(tmp_path).findings.listed
    assert (finding.level, finding.kind) == ("error", "missing")
    assert "holds no *.jpg" in finding.message
    Image.new("RGB", (20, 20)).save(tmp_path / "images" / "training" / "one.jpg")
    Image.new("L", (20, 20)).save(tmp_path / "annotations" / "training" / "one.png")
    (finding,) = _found(tmp_path).findings.listed
    assert (finding.level, finding.kind) == ("warning", "empty")


def test_folders_may_be_links_themselves(folder, tmp_path):
    root = folder("parsing")
    for kind in ("images", "annotations"):
        shutil.move(root / kind / "training", tmp_path / kind)
        (root / kind / "training").symlink_to(tmp_path / kind)
    assert _found(root).findings.listed == []
    assert len(Ade20kDataset(root))
