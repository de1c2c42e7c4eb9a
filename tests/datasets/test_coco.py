"""Episodes of a COCO folder: which there are, and what is in them."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sb3_alignsam.datasets.base import Dataset, Sample
from sb3_alignsam.datasets.coco import DEFAULT_MIN_AREA, CocoDataset
from sb3_alignsam.errors import InputError
from tests.datasets.coco_folder import (
    BIG,
    BIRD,
    CAT,
    CROWD,
    DOG,
    OTHER,
    SMALL,
    content_of_folder,
    keys,
    pixels,
    write_folder,
)

COCO_MINI = Path(__file__).parents[2] / ".." / "shared" / "data" / "coco_mini"
needs_coco_mini = pytest.mark.skipif(
    not COCO_MINI.is_dir(), reason="the photographs of ../shared/data/coco_mini are not there"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path, content_of_folder())


def _assert_equal(one: Sample, other: Sample) -> None:
    for name in Sample.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_the_vocabulary_is_ordered_by_category_id(root: Path) -> None:
    dataset: Dataset = CocoDataset(root, "train")
    assert (dataset.name, dataset.split) == ("coco", "train")
    assert dataset.categories == ("cat", "dog", "bird")
    assert CocoDataset(root, "train").category_ids == (CAT, DOG, BIRD)


def test_episodes_are_the_pairs_with_a_usable_instance_in_order(root: Path) -> None:
    assert keys(CocoDataset(root, "train")) == [(3, DOG), (8, CAT), (8, DOG)]


def test_a_sample_holds_the_photograph_and_the_instances_of_its_category(root: Path) -> None:
    sample = CocoDataset(root, "train").get(1)
    np.testing.assert_array_equal(sample.image, pixels(8))
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
    assert keys(CocoDataset(root, "train", min_area=area)) == [(3, DOG), (5, DOG), (8, CAT), (8, DOG)]
    assert keys(CocoDataset(root, "train", min_area=area + 1)) == [(3, DOG), (8, CAT), (8, DOG)]
    sample = CocoDataset(root, "train", min_area=area).get(2)
    assert sample.instance_ids == (50, 60, 70)
    np.testing.assert_array_equal(sample.ignore, CROWD & ~(BIG | OTHER | SMALL))


@pytest.mark.parametrize("min_area", [-1.0, float("nan"), float("inf")])
def test_an_impossible_min_area_is_refused(root: Path, min_area: float) -> None:
    with pytest.raises(InputError, match=r"^min_area is"):
        CocoDataset(root, "train", min_area=min_area)


def test_only_kept_images_have_episodes(root: Path) -> None:
    assert keys(CocoDataset(root, "train", keep_image=lambda image_id: image_id == 3)) == [(3, DOG)]
    with pytest.raises(InputError, match="no episode"):
        CocoDataset(root, "train", keep_image=lambda image_id: False)


def test_configured_targets_restrict_the_episodes(root: Path) -> None:
    dataset = CocoDataset(root, "train")
    assert dataset.configure_targets(["cat", "cat"]) == ([CAT], [8])
    assert keys(dataset) == [(8, CAT)]
    assert dataset.configure_targets(["dog", "cat"]) == ([CAT, DOG], [3, 8])
    assert dataset.configure_targets(["dog"]) == ([DOG], [3, 8])
    assert keys(dataset) == [(3, DOG), (8, DOG)]
    assert dataset.categories == ("cat", "dog", "bird")
    assert dataset.configure_targets(None) == ([CAT, DOG, BIRD], [3, 8])
    assert len(dataset) == 3
    assert keys(CocoDataset(root, "train", categories=["cat"])) == [(8, CAT)]


def test_refused_targets_leave_the_former_ones(root: Path) -> None:
    dataset = CocoDataset(root, "train", categories=["cat"])
    for categories in (["dig"], ["bird"], []):
        with pytest.raises(InputError):
            dataset.configure_targets(categories)
    assert keys(dataset) == [(8, CAT)]


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
    dataset = CocoDataset(write_folder(tmp_path, content_of_folder(), images="images/train"), "train")
    np.testing.assert_array_equal(dataset.get(0).image, pixels(3))


def test_the_annotation_file_can_lie_elsewhere(root: Path) -> None:
    elsewhere = (root / "annotations" / "instances_train.json").rename(root / "own.json")
    assert len(CocoDataset(root, "train", annotations=str(elsewhere))) == 3


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
