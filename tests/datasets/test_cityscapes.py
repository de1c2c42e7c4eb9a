from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sb3_alignsam.datasets import CityscapesDataset, ShapesDataset
from sb3_alignsam.datasets.cityscapes import VOCABULARY
from sb3_alignsam.errors import InputError
from tests.datasets.folders import CITY, write_cityscapes

STEM = "aachen_000000_000000"


@pytest.fixture
def root(tmp_path):
    return write_cityscapes(tmp_path, "train", 6)


def _label_file(root, kind):
    return root / "gtFine" / "train" / "aachen" / f"{STEM}_gtFine_{kind}.png"


def _change(root, kind, change):
    path = _label_file(root, kind)
    pixels = np.array(Image.open(path))
    Image.fromarray(change(pixels)).save(path)


def test_the_vocabulary_is_the_thirty_classes():
    assert len(set(VOCABULARY.values())) == len(VOCABULARY) == 30
    assert [VOCABULARY[label] for label in (4, 7, 24, 26, 33)] == ["static", "road", "person", "car", "bicycle"]


def test_instances_are_those_of_the_folder(root):
    dataset = CityscapesDataset(root, min_area=1)
    scenes = {scene.image.tobytes(): scene for scene in map(ShapesDataset("val").scene, range(6))}
    several = 0
    for index in range(len(dataset)):
        sample = dataset.get(index)
        scene = scenes[sample.image.tobytes()]
        expected = scene.instances[scene.labels == CITY.index(sample.category_id)]
        if sample.category_id < 24:
            expected = expected.any(axis=0, keepdims=True)
        several += len(expected) > 1
        assert {each.tobytes() for each in sample.instances} == {each.tobytes() for each in expected}
        assert np.array_equal(sample.ignore, ~scene.instances[scene.labels < len(CITY)].any(axis=0))
    assert several
    assert len({tuple(pair) for pair in dataset.pairs().tolist()}) == len(dataset)


def test_a_group_counts_for_nothing_in_its_category_and_is_background_of_others(root):
    def group(pixels):
        pixels[pixels == 0] = 26
        return pixels

    _change(root, "labelIds", group)
    _change(root, "instanceIds", group)
    dataset = CityscapesDataset(root)
    # By name: the group's image has no label left that is 0.
    codes = np.array(Image.open(_label_file(root, "instanceIds")))
    picture = np.array(Image.open(root / "leftImg8bit" / "train" / "aachen" / f"{STEM}_leftImg8bit.png"))
    samples = [s for s in map(dataset.get, range(len(dataset))) if np.array_equal(s.image, picture)]
    assert samples
    for sample in samples:
        assert np.array_equal(sample.ignore, (codes == 26) & (sample.category == "car"))
    first = dataset.pairs()[:, 0].tolist().index(samples[0].image_id)
    absent = {dataset.get_absent(first, choice).category for choice in range(40)}
    assert "car" not in absent
    assert "bicycle" in absent


def test_ignored_labels_count_for_nothing(root):
    def ego_vehicle(pixels):
        pixels[-20:] = 1
        return pixels

    _change(root, "labelIds", ego_vehicle)
    _change(root, "instanceIds", ego_vehicle)
    dataset = CityscapesDataset(root)
    assert any(dataset.get(index).ignore[-20:].all() for index in range(len(dataset)))


@pytest.mark.parametrize("kind", ["labelIds", "instanceIds"])
def test_missing_label_images_are_named(root, kind):
    _label_file(root, kind).unlink()
    with pytest.raises(InputError, match=f"there is no file .*{kind}.png"):
        CityscapesDataset(root)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("labelIds", lambda pixels: np.full_like(pixels, 255), "holds the label 255.*labelTrainIds"),
        ("instanceIds", lambda pixels: pixels + 1000, "contradict each other"),
        ("instanceIds", lambda pixels: pixels.astype(np.uint8), "pixels of mode L; they must be I;16"),
        ("labelIds", lambda pixels: pixels[:100], "contradict each other"),
        ("labelIds", lambda pixels: np.stack([pixels] * 3, axis=2), "pixels of mode RGB"),
    ],
)
def test_label_images_of_another_kind_are_refused(root, kind, change, words):
    _change(root, kind, change)
    with pytest.raises(InputError, match=words):
        CityscapesDataset(root)


def test_a_split_that_is_not_there_is_named(root):
    with pytest.raises(InputError, match=r"there is no .*leftImg8bit/val/<city>"):
        CityscapesDataset(root, "val")


def test_an_images_id_does_not_change_with_other_images(root):
    before = set(CityscapesDataset(root).pairs()[:, 0].tolist())
    write_cityscapes(root, "train", 3, first=6)
    assert before < set(CityscapesDataset(root).pairs()[:, 0].tolist())
