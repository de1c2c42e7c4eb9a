from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from sb3_alignsam.datasets import CocoDataset, ShapesDataset
from sb3_alignsam.datasets.shape_scenes import CATEGORIES, MIN_VISIBLE_PIXELS, draw_scene
from sb3_alignsam.errors import InputError


def test_a_scene_depends_on_its_seed_alone():
    first, again = (draw_scene(np.random.default_rng(5), 2) for _ in range(2))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.instances, again.instances)
    assert not np.array_equal(first.image, draw_scene(np.random.default_rng(6), 2).image)


def test_scenes_are_as_hard_as_promised():
    scenes = [draw_scene(np.random.default_rng(seed), seed % len(CATEGORIES)) for seed in range(60)]
    counts = [len(scene.labels) for scene in scenes]
    assert min(counts) >= 3
    assert max(counts) <= 8
    for seed, scene in enumerate(scenes):
        assert seed % len(CATEGORIES) in scene.labels
        assert scene.instances.sum(axis=(1, 2)).min() >= MIN_VISIBLE_PIXELS
        assert scene.instances.sum(axis=0).max() == 1  # visible pixels belong to one object
        assert scene.image.shape == (256, 256, 3)
        assert scene.image.dtype == np.uint8
    several = [np.bincount(scene.labels).max() > 1 for scene in scenes]
    assert np.mean(several) > 0.5


def test_splits_have_their_sizes_and_share_no_picture():
    assert [len(ShapesDataset(split)) for split in ("dev", "val")] == [200, 500]
    assert len(ShapesDataset("train")) > 10**9
    pictures = {ShapesDataset(split).get(0).image.tobytes() for split in ("train", "dev", "val")}
    assert len(pictures) == 3


def test_an_episode_has_its_category_and_nothing_else():
    dataset = ShapesDataset("dev")
    for index in range(16):
        sample, scene = dataset.get(index), dataset.scene(index)
        assert sample.category == CATEGORIES[index % 8]
        assert sample.category_id == index % 8 + 1
        assert len(sample.instances) == (scene.labels == index % 8).sum() == len(sample.instance_ids)
        assert not sample.ignore.any()


def test_configured_targets_are_the_only_ones():
    dataset = ShapesDataset("val", ["star", "ring"])
    assert len(dataset) == 125  # 500 scenes, whose targets go round all eight categories
    assert {dataset.get(index).category for index in range(8)} == {"star", "ring"}
    ids, images = dataset.configure_targets(["heart"])
    assert ids == [7]
    assert len(images) == len(dataset) == 62
    assert dataset.get(3).image_id == images[3]
    rng = np.random.default_rng(0)
    assert {dataset.sample(rng).category for _ in range(5)} == {"heart"}
    assert dataset.sample(rng, ["cross"]).category == "cross"


def test_sampling_follows_the_generator():
    dataset = ShapesDataset("train")
    drawn = [[dataset.sample(rng).image_id for _ in range(4)] for rng in map(np.random.default_rng, (1, 1, 2))]
    assert drawn[0] == drawn[1] != drawn[2]


def test_wrong_split_category_and_index_are_named():
    with pytest.raises(InputError, match="split 'test' is not in shapes"):
        ShapesDataset("test")
    with pytest.raises(InputError, match="category 'strar'"):
        ShapesDataset("val", ["strar"])
    with pytest.raises(InputError, match="name at least one"):
        ShapesDataset("val", [])
    with pytest.raises(IndexError, match=r"outside 0\.\.499"):
        ShapesDataset("val").get(500)


def test_written_as_coco_it_is_read_back_equal(tmp_path, capsys):
    shapes = ShapesDataset("val")
    path = shapes.write_coco(tmp_path, 9)
    coco = COCO(str(path))
    assert len(coco.imgs) == 9
    assert all(annotation["area"] == coco.annToMask(annotation).sum() for annotation in coco.anns.values())
    assert json.loads(path.read_text())["categories"][0] == {"id": 1, "name": "circle"}
    read = CocoDataset(tmp_path, "val")
    pairs = {(sample.image_id, sample.category): sample for sample in map(read.get, range(len(read)))}
    for index in range(9):
        wanted = shapes.get(index)
        found = pairs[wanted.image_id, wanted.category]
        assert np.array_equal(found.image, wanted.image)
        assert np.array_equal(found.union, wanted.union)
