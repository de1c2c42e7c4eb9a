"""What ADE20K and Cityscapes have in common, on folders of SceneParsing's kind."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from sb3_alignsam.datasets import Ade20kDataset, label_index
from sb3_alignsam.errors import InputError
from tests.datasets.folders import write_scene_parsing

SHAPE = (40, 60)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Twelve scenes; not to be written to."""
    return write_scene_parsing(tmp_path_factory.mktemp("ade"), "training", 12)


def _write(root, number, labels, image_shape=SHAPE):
    for kind, name, pixels in (
        ("images", "jpg", np.full((*image_shape, 3), 90, np.uint8)),
        ("annotations", "png", labels),
    ):
        path = root / kind / "training" / f"ADE_train_{number:08d}.{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return path


def _labels(*boxes):
    """A label image: 3 everywhere, and each (label, rows, columns) from the upper left corner."""
    labels = np.full(SHAPE, 3, np.uint8)
    for label, rows, columns in boxes:
        labels[:rows, :columns] = label
    return labels


def test_episodes_are_ordered_by_image_then_category(scenes):
    dataset = Ade20kDataset(scenes)
    pairs = dataset.pairs().tolist()
    assert pairs == sorted(pairs)
    for index, (image_id, category_id) in enumerate(pairs):
        sample = dataset.get(index)
        assert (sample.image_id, sample.category_id) == (image_id, category_id)
        assert sample.category == dataset.categories[category_id - 1]
        assert sample.image.shape[:2] == sample.ignore.shape == sample.instances.shape[1:]
        assert sample.union.any()
        assert not (sample.union & sample.ignore).any()
    with pytest.raises(IndexError, match="there is no episode"):
        dataset.get(len(dataset))


def test_small_instances_are_no_targets_but_ignored(tmp_path):
    _write(tmp_path, 1, _labels((13, 9, 11), (0, 5, 5)))  # 99 pixels, of which 25 have no label
    dataset = Ade20kDataset(tmp_path)
    assert dataset.pairs().tolist() == [[1, 3]]
    assert np.array_equal(dataset.get(0).ignore, _labels((0, 5, 5)) == 0)
    small = Ade20kDataset(tmp_path, min_area=50)
    assert small.pairs().tolist() == [[1, 3], [1, 13]]
    assert small.get(1).union.sum() == 74


def test_a_category_that_is_absent_has_no_pixel_there(scenes):
    dataset = Ade20kDataset(scenes, categories=["person", "car", "wall"])
    for index in range(len(dataset)):
        there = {row[1] for row in dataset.pairs().tolist() if row[0] == dataset.pairs()[index, 0]}
        sample = dataset.get_absent(index, 5)
        if len(there) == 3:
            assert sample.category_id == dataset.get(index).category_id
        else:
            assert sample.category_id not in there
            assert sample.instances.shape == (0, *sample.image.shape[:2])
            assert not sample.union.any()
        assert np.array_equal(sample.image, dataset.get(index).image)


def test_draws_stay_among_the_target_categories(scenes):
    dataset = Ade20kDataset(scenes)
    assert dataset.configure_targets(["car"])[0] == [21]
    rng = np.random.default_rng(0)
    assert {dataset.sample(rng).category for _ in range(5)} == {"car"}
    assert dataset.sample(rng, ["person"]).category == "person"
    with pytest.raises(InputError, match="did you mean car"):
        dataset.configure_targets(["carr"])
    with pytest.raises(InputError, match="hold no episode"):
        dataset.configure_targets(["flag"])


def test_what_lies_on_the_images_is_read_once(scenes, tmp_path, monkeypatch):
    root = shutil.copytree(scenes, tmp_path / "ade", ignore=shutil.ignore_patterns(".*"))
    first = Ade20kDataset(root).pairs()
    read = []
    monkeypatch.setattr(label_index, "largest_areas", read.append)
    assert np.array_equal(Ade20kDataset(root).pairs(), first)
    assert read == []
    monkeypatch.undo()
    path = _write(root, 13, _labels())
    assert Ade20kDataset(root).pairs()[-1].tolist() == [13, 3]
    for each in (path, root / "images" / "training" / (path.stem + ".jpg")):
        each.unlink()
    for damaged in (b"", b"no zip", (root / ".sb3_alignsam_ade20k_training.npz").read_bytes()[:200]):
        (root / ".sb3_alignsam_ade20k_training.npz").write_bytes(damaged)
        assert np.array_equal(Ade20kDataset(root).pairs(), first)
    assert not list(root.glob(".*.tmp"))


def test_labels_of_another_size_are_refused_when_the_folder_is_opened(tmp_path):
    _write(tmp_path, 1, _labels(), image_shape=(40, 61))
    with pytest.raises(InputError, match=r"annotations/training/ADE_train_00000001.png is 60x40, but .*jpg is 61x40"):
        Ade20kDataset(tmp_path)


def test_an_image_that_changes_later_is_noticed(tmp_path):
    _write(tmp_path, 1, _labels())
    dataset = Ade20kDataset(tmp_path)
    _write(tmp_path, 1, _labels(), image_shape=(41, 60))
    with pytest.raises(InputError, match="is 60x40, but"):
        dataset.get(0)


@pytest.mark.parametrize("min_area", [-1, float("nan")])
def test_an_area_that_is_none_is_named(scenes, min_area):
    with pytest.raises(InputError, match="min_area"):
        Ade20kDataset(scenes, min_area=min_area)
