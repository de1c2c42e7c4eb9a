"""What is said of a COCO folder that cannot be used, or only in part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sb3_alignsam.datasets import coco
from sb3_alignsam.datasets.coco import CocoDataset
from sb3_alignsam.errors import InputError
from tests.datasets.coco_folder import (
    CAT,
    CROWD,
    DOG,
    HEIGHT,
    SMALL,
    WIDTH,
    content_of_folder,
    keys,
    one_line,
    pixels,
    write_folder,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path, content_of_folder())


def test_missing_folders_and_files_are_named(root: Path) -> None:
    with pytest.raises(InputError) as caught:
        CocoDataset(root / "nowhere", "train")
    assert str(root / "nowhere") in one_line(caught)
    with pytest.raises(InputError) as caught:
        CocoDataset(root, "trian")
    assert str(root / "annotations" / "instances_trian.json") in one_line(caught)
    assert "found there: train" in str(caught.value)
    with pytest.raises(InputError) as caught:
        CocoDataset(root, "train", annotations=root / "own.json")
    assert str(root / "own.json") in one_line(caught)
    (root / "train").rename(root / "moved")
    with pytest.raises(InputError) as caught:
        CocoDataset(root, "train")
    assert str(root / "train") in one_line(caught)
    assert str(root / "images" / "train") in str(caught.value)


def test_a_dataset_without_any_episode_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {**content_of_folder(), "annotations": []})
    with pytest.raises(InputError) as caught:
        CocoDataset(tmp_path, "train")
    assert str(tmp_path / "annotations" / "instances_train.json") in one_line(caught)
    assert "no episode" in str(caught.value)


def test_a_photograph_that_is_missing_damaged_or_of_another_size_is_named(root: Path) -> None:
    dataset, path = CocoDataset(root, "train"), root / "train" / "3.png"
    Image.new("RGB", (HEIGHT, WIDTH)).save(path)
    for expected in (f"{HEIGHT}x{WIDTH}", "is not an image", "no image file"):
        with pytest.raises(InputError) as caught:
            dataset.get(0)
        message = one_line(caught)
        for part in (expected, str(path), "instances_train.json", "images (id 3)"):
            assert part in message
        path.unlink() if expected == "is not an image" else path.write_text("no image")
    assert dataset.get(1).image_id == 8


@pytest.mark.parametrize(
    "segmentation",
    [None, [], [[1.0, 2.0, 3.0, 4.0, float("nan"), 5.0]], [[1, 2, 3, 4, 5, 6, 7]], {"size": [40, 60], "counts": [5]}],
)
@pytest.mark.parametrize("place", [2, 4])
def test_a_malformed_segmentation_is_named_at_once_or_left_out(tmp_path: Path, segmentation: Any, place: int) -> None:
    content = content_of_folder()
    content["annotations"][place]["segmentation"] = segmentation
    write_folder(tmp_path, content)
    with pytest.raises(InputError) as caught:
        CocoDataset(tmp_path, "train")
    message = one_line(caught)
    assert str(tmp_path / "annotations" / "instances_train.json") in message
    assert f"annotations[{place}].segmentation" in message
    assert f"(id {content['annotations'][place]['id']})" in message
    with pytest.warns(RuntimeWarning, match="1 annotations"):
        sample = CocoDataset(tmp_path, "train", lenient=True).get(1)
    assert sample.instance_ids == ((70,) if place == 2 else (60, 70))
    np.testing.assert_array_equal(sample.ignore, (SMALL | CROWD if place == 2 else SMALL) & ~sample.union)


def test_lenient_leaves_out_images_whose_file_cannot_be_used(root: Path) -> None:
    (root / "train" / "3.png").write_text("no image")
    with pytest.warns(RuntimeWarning, match=r"left out 1 images.*3\.png is not an image"):
        assert keys(CocoDataset(root, "train", lenient=True)) == [(8, CAT), (8, DOG)]


def test_a_photograph_outside_the_folder_is_refused(root: Path) -> None:
    outside = (root / "train" / "3.png").rename(root / "3.png")
    (root / "train" / "3.png").symlink_to(outside)
    with pytest.raises(InputError, match=r"3\.png leads out of"):
        CocoDataset(root, "train").get(0)
    # The folder itself may lie anywhere.
    outside.replace(root / "train" / "3.png")
    (root / "train").rename(root / "elsewhere")
    (root / "train").symlink_to(root / "elsewhere")
    assert CocoDataset(root, "train").get(0).image_id == 3


def test_a_photograph_of_a_dataset_is_jpeg_or_png(root: Path) -> None:
    Image.fromarray(pixels(3)).save(root / "train" / "3.png", format="BMP")
    with pytest.raises(InputError, match="save it as one of JPEG, PNG"):
        CocoDataset(root, "train").get(0)


def test_masks_too_large_for_memory_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = CocoDataset(root, "train")
    monkeypatch.setattr(coco, "MAX_MASK_PIXELS", 2 * HEIGHT * WIDTH - 1)
    assert dataset.get(0).image_id == 3
    with pytest.raises(InputError, match="image 8 has 2 instances of category 4"):
        dataset.get(1)


def test_an_instance_that_covers_no_pixel_is_named(tmp_path: Path) -> None:
    content = content_of_folder()
    content["annotations"][5]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    dataset = CocoDataset(write_folder(tmp_path, content), "train")
    with pytest.raises(InputError, match="annotation 30 covers no pixel"):
        dataset.get(0)
    sample = CocoDataset(tmp_path, "train", lenient=True).get(0)
    assert (sample.instances.shape, sample.instance_ids) == ((0, HEIGHT, WIDTH), ())


def test_a_malformed_annotation_file_is_refused(tmp_path: Path) -> None:
    content = content_of_folder()
    content["annotations"][0]["id"] = 0
    write_folder(tmp_path, content)
    with pytest.raises(InputError, match="'id' is 0"):
        CocoDataset(tmp_path, "train")
