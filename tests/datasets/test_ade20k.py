from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sb3_alignsam.datasets import Ade20kDataset, ShapesDataset
from sb3_alignsam.datasets.ade20k import VOCABULARY
from sb3_alignsam.errors import InputError
from tests.datasets.folders import FULL_CLASSES, SCENE_PARSING, write_full_release, write_scene_parsing


@pytest.fixture
def parsing(tmp_path):
    return write_scene_parsing(tmp_path, "training", 6)


@pytest.fixture
def full(tmp_path):
    return write_full_release(tmp_path, "training", 6)


def test_the_vocabulary_is_that_of_the_benchmark():
    assert len(set(VOCABULARY.values())) == len(VOCABULARY) == 150
    expected = {1: "wall", 13: "person", 21: "car", 90: "television receiver", 150: "flag"}
    assert expected.items() <= VOCABULARY.items()


def test_scene_parsing_joins_instances_and_ignores_what_has_no_label(parsing):
    dataset = Ade20kDataset(parsing)
    scenes = ShapesDataset("val")
    assert len(dataset) > 3
    for index, (image_id, category_id) in enumerate(dataset.pairs().tolist()):
        sample, scene = dataset.get(index), scenes.scene(image_id - 1)
        shape = SCENE_PARSING.index(category_id)
        known = scene.instances[scene.labels < len(SCENE_PARSING)].any(axis=0)
        assert np.array_equal(sample.union, scene.instances[scene.labels == shape].any(axis=0))
        assert len(sample.instances) == 1
        assert np.array_equal(sample.ignore, ~known)


def test_the_full_release_tells_instances_apart_and_knows_what_is_another_class(full):
    dataset = Ade20kDataset(full, min_area=1)
    scenes, several = ShapesDataset("val"), 0
    for index, (image_id, category_id) in enumerate(dataset.pairs().tolist()):
        sample, scene = dataset.get(index), scenes.scene(image_id - 1)
        shape = ["person", "car", "wall"].index(VOCABULARY[category_id])
        expected = scene.instances[scene.labels == shape]
        several += len(expected) > 1
        assert {each.tobytes() for each in sample.instances} == {each.tobytes() for each in expected}
        # The fourth class has a name, though none of the 150.
        assert np.array_equal(sample.ignore, ~scene.instances[scene.labels < len(FULL_CLASSES)].any(axis=0))
    assert several


def test_a_split_that_is_not_there_is_named(tmp_path, parsing):
    with pytest.raises(InputError, match=r"there is no folder .*images/validation \(SceneParsing\)"):
        Ade20kDataset(parsing, "validation")
    (tmp_path / "images" / "validation").mkdir()
    with pytest.raises(InputError, match=r"holds no \*\.jpg"):
        Ade20kDataset(parsing, "validation")


@pytest.mark.parametrize("kind", ["images", "annotations"])
def test_half_a_pair_is_named(parsing, kind):
    victim = sorted((parsing / kind / "training").iterdir())[2]
    victim.unlink()
    with pytest.raises(InputError, match=rf"00000003.* has no file of the same name in .*/{kind}/training"):
        Ade20kDataset(parsing)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((256, 256), 151, np.uint8), "holds the label 151; SceneParsing's are 0 to 150"),
        (np.zeros((256, 256, 3), np.uint8), "pixels of mode RGB; they must be L or P"),
        (np.zeros((256, 256), np.uint16), "pixels of mode I;16"),
        (None, "is not an image"),
    ],
)
def test_label_images_of_another_kind_are_refused(parsing, pixels, words):
    path = parsing / "annotations" / "training" / "ADE_train_00000002.png"
    if pixels is None:
        path.write_bytes(b"")
    else:
        Image.fromarray(pixels).save(path)
    with pytest.raises(InputError, match=words) as told:
        Ade20kDataset(parsing)
    assert path.name in str(told.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no file .* every image needs its labels"),
        (b"{", "cannot be read as a description"),
        (b"[]", "cannot be read as a description"),
        (json.dumps({"annotation": {"object": [{"name": "wall"}]}}).encode(), "'name_ndx'"),
        (b'{"annotation": {"object": [{"name": "wall", "name_ndx": 1e999}]}}', "cannot be read as a description"),
        (json.dumps({"annotation": {"object": []}}).encode(), "does not name the class"),
        (b"[" * 100_000, "cannot be read as a description"),
    ],
)
def test_a_description_that_cannot_be_used_is_named(full, content, words):
    path = full / "images" / "ADE" / "training" / "urban" / "street" / "ADE_train_00000004.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words) as told:
        Ade20kDataset(full)
    assert path.name in str(told.value)
