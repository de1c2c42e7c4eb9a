"""Episodes of a COCO folder: which there are, what is in them, and what is said of a folder that cannot be used."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sb3_alignsam.datasets import coco
from sb3_alignsam.datasets.base import Dataset, Sample
from sb3_alignsam.datasets.coco import DEFAULT_MIN_AREA, CocoDataset
from sb3_alignsam.errors import InputError

COCO_MINI = Path(__file__).parents[2] / ".." / "shared" / "data" / "coco_mini"
needs_coco_mini = pytest.mark.skipif(
    not COCO_MINI.is_dir(), reason="the photographs of ../shared/data/coco_mini are not there"
)
HEIGHT, WIDTH = 40, 60
CAT, DOG, BIRD = 4, 17, 30


def _box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


BIG, OTHER, SMALL, CROWD = _box(5, 5, 20, 20), _box(10, 30, 30, 50), _box(18, 18, 24, 24), _box(0, 0, 8, 60)


def _annotation(identity: int, image_id: int, category_id: int, mask: np.ndarray, iscrowd: int = 0) -> dict[str, Any]:
    flat = np.concatenate([[False], mask.T.ravel()])
    counts = np.diff(np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]), [mask.size]])).tolist()
    return {
        "id": identity,
        "image_id": image_id,
        "category_id": category_id,
        "area": int(mask.sum()),
        "iscrowd": iscrowd,
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts},
    }


def _content() -> dict[str, Any]:
    """Image 8: a dog, two cats, a cat too small and a crowd of cats. Image 3: a dog. Image 5: nothing usable."""
    return {
        "categories": [
            {"id": BIRD, "name": "bird"},
            {"id": CAT, "name": "cat"},
            {"id": DOG, "name": "dog"},
        ],
        "images": [
            {"id": image_id, "file_name": f"{image_id}.png", "height": HEIGHT, "width": WIDTH} for image_id in (8, 3, 5)
        ],
        "annotations": [
            _annotation(90, 8, DOG, BIG),
            _annotation(70, 8, CAT, OTHER),
            _annotation(60, 8, CAT, BIG),
            _annotation(50, 8, CAT, SMALL),
            _annotation(40, 8, CAT, CROWD, iscrowd=1),
            _annotation(30, 3, DOG, OTHER),
            _annotation(20, 5, DOG, SMALL),
            _annotation(10, 5, BIRD, CROWD, iscrowd=1),
        ],
    }


def _pixels(image_id: int) -> np.ndarray:
    return np.random.default_rng(image_id).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def _write(root: Path, content: Any, images: str = "train") -> Path:
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    (root / images).mkdir(parents=True)
    for entry in content["images"]:
        Image.fromarray(_pixels(entry["id"])).save(root / images / f"{entry['id']}.png")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return _write(tmp_path, _content())


def _one_line(caught: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _assert_equal(one: Sample, other: Sample) -> None:
    for name in Sample.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def _keys(dataset: CocoDataset) -> list[tuple[int, int]]:
    return [(sample.image_id, sample.category_id) for sample in map(dataset.get, range(len(dataset)))]


def test_the_vocabulary_is_ordered_by_category_id(root: Path) -> None:
    dataset: Dataset = CocoDataset(root, "train")
    assert (dataset.name, dataset.split) == ("coco", "train")
    assert dataset.categories == ("cat", "dog", "bird")
    assert CocoDataset(root, "train").category_ids == (CAT, DOG, BIRD)


def test_episodes_are_the_pairs_with_a_usable_instance_in_order(root: Path) -> None:
    assert _keys(CocoDataset(root, "train")) == [(3, DOG), (8, CAT), (8, DOG)]


def test_a_sample_holds_the_photograph_and_the_instances_of_its_category(root: Path) -> None:
    sample = CocoDataset(root, "train").get(1)
    np.testing.assert_array_equal(sample.image, _pixels(8))
    assert (sample.category, sample.category_id, sample.image_id) == ("cat", CAT, 8)
    assert sample.instance_ids == (60, 70)
    assert sample.instances.dtype == bool
    np.testing.assert_array_equal(sample.instances, np.stack([BIG, OTHER]))


def test_crowds_and_small_instances_are_ignored_where_no_usable_instance_lies(root: Path) -> None:
    sample = CocoDataset(root, "train").get(1)
    assert sample.ignore.dtype == bool
    assert (BIG & CROWD).any()
    assert (BIG & SMALL).any()
    np.testing.assert_array_equal(sample.ignore, (CROWD | SMALL) & ~(BIG | OTHER))


def test_regions_of_another_category_are_not_ignored(root: Path) -> None:
    sample = CocoDataset(root, "train").get(2)
    assert sample.category == "dog"
    assert not sample.ignore.any()


def test_min_area_is_the_least_area_of_a_target(root: Path) -> None:
    assert SMALL.sum() < DEFAULT_MIN_AREA < BIG.sum()
    area = int(SMALL.sum())
    assert _keys(CocoDataset(root, "train", min_area=area)) == [(3, DOG), (5, DOG), (8, CAT), (8, DOG)]
    assert _keys(CocoDataset(root, "train", min_area=area + 1)) == [(3, DOG), (8, CAT), (8, DOG)]
    sample = CocoDataset(root, "train", min_area=area).get(2)
    assert sample.instance_ids == (50, 60, 70)
    np.testing.assert_array_equal(sample.ignore, CROWD & ~(BIG | OTHER | SMALL))


@pytest.mark.parametrize("min_area", [-1.0, float("nan"), float("inf")])
def test_an_impossible_min_area_is_refused(root: Path, min_area: float) -> None:
    with pytest.raises(InputError, match=r"^min_area is"):
        CocoDataset(root, "train", min_area=min_area)


def test_only_kept_images_have_episodes(root: Path) -> None:
    assert _keys(CocoDataset(root, "train", keep_image=lambda image_id: image_id == 3)) == [(3, DOG)]
    with pytest.raises(InputError, match="no episode"):
        CocoDataset(root, "train", keep_image=lambda image_id: False)


def test_configured_targets_restrict_the_episodes(root: Path) -> None:
    dataset = CocoDataset(root, "train")
    assert dataset.configure_targets(["cat", "cat"]) == ([CAT], [8])
    assert _keys(dataset) == [(8, CAT)]
    assert dataset.configure_targets(["dog", "cat"]) == ([CAT, DOG], [3, 8])
    assert dataset.configure_targets(["dog"]) == ([DOG], [3, 8])
    assert _keys(dataset) == [(3, DOG), (8, DOG)]
    assert dataset.categories == ("cat", "dog", "bird")
    assert dataset.configure_targets(None) == ([CAT, DOG, BIRD], [3, 8])
    assert len(dataset) == 3
    assert _keys(CocoDataset(root, "train", categories=["cat"])) == [(8, CAT)]


def test_refused_targets_leave_the_former_ones(root: Path) -> None:
    dataset = CocoDataset(root, "train", categories=["cat"])
    for categories in (["dig"], ["bird"], []):
        with pytest.raises(InputError):
            dataset.configure_targets(categories)
    assert _keys(dataset) == [(8, CAT)]


def test_an_unknown_category_is_answered_with_the_nearest_name(root: Path) -> None:
    dataset = CocoDataset(root, "train")
    with pytest.raises(InputError, match=r"'dig'.*did you mean dog"):
        dataset.configure_targets(["dig"])
    with pytest.raises(InputError, match=r"'dig'.*did you mean dog"):
        dataset.sample(np.random.default_rng(0), ["dig"])


def test_a_category_without_usable_instance_is_refused(root: Path) -> None:
    dataset = CocoDataset(root, "train")
    with pytest.raises(InputError, match=r"no episode.*bird"):
        dataset.sample(np.random.default_rng(0), ["bird"])
    with pytest.raises(InputError, match=r"no episode.*bird"):
        CocoDataset(root, "train", categories=["bird"])


def test_a_draw_is_uniform_over_images_then_over_their_categories(root: Path) -> None:
    dataset, rng = CocoDataset(root, "train"), np.random.default_rng(0)
    drawn = Counter((sample.image_id, sample.category_id) for sample in (dataset.sample(rng) for _ in range(800)))
    assert set(drawn) == {(3, DOG), (8, CAT), (8, DOG)}
    # Standard deviations: 14 and 12. Uniform over the pairs, all would be 267.
    assert drawn[3, DOG] == pytest.approx(400, abs=60)
    assert drawn[8, CAT] == pytest.approx(200, abs=50)


def test_a_draw_follows_its_generator(root: Path) -> None:
    dataset = CocoDataset(root, "train")
    for seed in range(5):
        _assert_equal(dataset.sample(np.random.default_rng(seed)), dataset.sample(np.random.default_rng(seed)))


def test_a_draw_keeps_to_the_configured_targets_unless_it_names_its_own(root: Path) -> None:
    dataset, rng = CocoDataset(root, "train", categories=["cat"]), np.random.default_rng(0)
    assert {dataset.sample(rng).category for _ in range(20)} == {"cat"}
    dogs = [dataset.sample(rng, ["dog"]) for _ in range(20)]
    assert {(sample.category, sample.image_id) for sample in dogs} == {("dog", 3), ("dog", 8)}
    assert {dataset.sample(rng).category for _ in range(20)} == {"cat"}


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_beyond_the_end_is_an_index_error(root: Path, index: int) -> None:
    with pytest.raises(IndexError, match=str(index)):
        CocoDataset(root, "train").get(index)


def test_a_pickled_copy_gives_the_same_episodes(root: Path) -> None:
    dataset = CocoDataset(root, "train", categories=["cat"], keep_image=lambda image_id: True)
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(copy) == 1
    _assert_equal(copy.get(0), dataset.get(0))


def test_nothing_is_printed(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    CocoDataset(root, "train").get(0)
    assert capfd.readouterr() == ("", "")


def test_photographs_are_found_below_images_too(tmp_path: Path) -> None:
    dataset = CocoDataset(_write(tmp_path, _content(), images="images/train"), "train")
    np.testing.assert_array_equal(dataset.get(0).image, _pixels(3))


def test_the_annotation_file_can_lie_elsewhere(root: Path) -> None:
    elsewhere = (root / "annotations" / "instances_train.json").rename(root / "own.json")
    assert len(CocoDataset(root, "train", annotations=str(elsewhere))) == 3


def test_missing_folders_and_files_are_named(root: Path) -> None:
    with pytest.raises(InputError) as caught:
        CocoDataset(root / "nowhere", "train")
    assert str(root / "nowhere") in _one_line(caught)
    with pytest.raises(InputError) as caught:
        CocoDataset(root, "trian")
    assert str(root / "annotations" / "instances_trian.json") in _one_line(caught)
    assert "found there: train" in str(caught.value)
    with pytest.raises(InputError) as caught:
        CocoDataset(root, "train", annotations=root / "own.json")
    assert str(root / "own.json") in _one_line(caught)
    (root / "train").rename(root / "moved")
    with pytest.raises(InputError) as caught:
        CocoDataset(root, "train")
    assert str(root / "train") in _one_line(caught)
    assert str(root / "images" / "train") in str(caught.value)


def test_a_dataset_without_any_episode_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, {**_content(), "annotations": []})
    with pytest.raises(InputError) as caught:
        CocoDataset(tmp_path, "train")
    assert str(tmp_path / "annotations" / "instances_train.json") in _one_line(caught)
    assert "no episode" in str(caught.value)


def test_a_photograph_that_is_missing_damaged_or_of_another_size_is_named(root: Path) -> None:
    dataset, path = CocoDataset(root, "train"), root / "train" / "3.png"
    Image.new("RGB", (HEIGHT, WIDTH)).save(path)
    for expected in (f"{HEIGHT}x{WIDTH}", "is not an image", "no image file"):
        with pytest.raises(InputError) as caught:
            dataset.get(0)
        message = _one_line(caught)
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
    content = _content()
    content["annotations"][place]["segmentation"] = segmentation
    _write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        CocoDataset(tmp_path, "train")
    message = _one_line(caught)
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
        assert _keys(CocoDataset(root, "train", lenient=True)) == [(8, CAT), (8, DOG)]


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
    Image.fromarray(_pixels(3)).save(root / "train" / "3.png", format="BMP")
    with pytest.raises(InputError, match="save it as one of JPEG, PNG"):
        CocoDataset(root, "train").get(0)


def test_masks_too_large_for_memory_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = CocoDataset(root, "train")
    monkeypatch.setattr(coco, "MAX_MASK_PIXELS", 2 * HEIGHT * WIDTH - 1)
    assert dataset.get(0).image_id == 3
    with pytest.raises(InputError, match="image 8 has 2 instances of category 4"):
        dataset.get(1)


def test_an_instance_that_covers_no_pixel_is_named(tmp_path: Path) -> None:
    content = _content()
    content["annotations"][5]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    dataset = CocoDataset(_write(tmp_path, content), "train")
    with pytest.raises(InputError, match="annotation 30 covers no pixel"):
        dataset.get(0)
    sample = CocoDataset(tmp_path, "train", lenient=True).get(0)
    assert (sample.instances.shape, sample.instance_ids) == ((0, HEIGHT, WIDTH), ())


def test_a_malformed_annotation_file_is_refused(tmp_path: Path) -> None:
    content = _content()
    content["annotations"][0]["id"] = 0
    _write(tmp_path, content)
    with pytest.raises(InputError, match="'id' is 0"):
        CocoDataset(tmp_path, "train")


@needs_coco_mini
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_real_episodes_agree_with_their_annotations(split: str) -> None:
    dataset = CocoDataset(COCO_MINI, split)
    content = json.loads((COCO_MINI / "annotations" / f"instances_{split}.json").read_text())
    usable = [entry for entry in content["annotations"] if not entry["iscrowd"] and entry["area"] >= DEFAULT_MIN_AREA]
    expected = sorted({(entry["image_id"], entry["category_id"]) for entry in usable})
    assert len(dataset) == len(expected)
    areas = {entry["id"]: entry["area"] for entry in usable}
    for index in range(0, len(dataset), 23):
        sample = dataset.get(index)
        key = sample.image_id, sample.category_id
        assert key == expected[index]
        ids = tuple(sorted(entry["id"] for entry in usable if (entry["image_id"], entry["category_id"]) == key))
        assert sample.instance_ids == ids
        assert sample.image.shape == (*sample.ignore.shape, 3)
        assert sample.image.std() > 5
        for identity, mask in zip(sample.instance_ids, sample.instances, strict=True):
            assert mask.sum() == pytest.approx(areas[identity], rel=0.1, abs=20)


@needs_coco_mini
def test_real_crowds_are_ignored() -> None:
    dataset = CocoDataset(COCO_MINI, "train2017", min_area=0)
    content = json.loads((COCO_MINI / "annotations" / "instances_train2017.json").read_text())
    crowds = {(entry["image_id"], entry["category_id"]) for entry in content["annotations"] if entry["iscrowd"]}
    usable = {(entry["image_id"], entry["category_id"]) for entry in content["annotations"] if not entry["iscrowd"]}
    pairs = sorted(usable)
    both = sorted(crowds & usable)
    assert both
    for pair in both:
        sample = dataset.get(pairs.index(pair))
        assert sample.ignore.sum() > 100
        assert not (sample.ignore & sample.union).any()
