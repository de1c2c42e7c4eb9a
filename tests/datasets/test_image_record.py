from __future__ import annotations

import pytest

from sb3_alignsam.datasets import CocoDataset, ShapesDataset
from sb3_alignsam.datasets.image_record import FILE, ImageRecord, other_images, read_record
from sb3_alignsam.datasets.loading import load_dataset
from sb3_alignsam.errors import InputError


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    ShapesDataset("val").write_coco(folder, 40)
    ShapesDataset("dev").write_coco(folder, 4)
    return folder


def _all(dataset):
    return range(len(dataset))


def test_a_record_comes_back_and_tells_what_is_shared(coco, tmp_path):
    parts = {subset: load_dataset("coco", "val", root=coco, subset=subset) for subset in ("all", "fit", "dev")}
    ImageRecord.of(parts["fit"]).write(tmp_path)
    record = read_record(tmp_path)
    assert record == ImageRecord.of(parts["fit"])
    assert record.shared_with(parts["dev"], _all(parts["dev"])) == 0
    assert record.shared_with(parts["all"], _all(parts["all"])) == len(record.ids)
    assert record.shared_with(parts["all"], [0]) in (0, 1)


def test_ids_of_another_split_are_other_images(coco):
    """Both splits number their images from 1."""
    other = CocoDataset(coco, "dev")
    assert ImageRecord.of(CocoDataset(coco, "val")).shared_with(other, _all(other)) == 0


def test_of_an_endless_split_any_image_may_be_shared():
    train, val = ShapesDataset("train"), ShapesDataset("val")
    record = ImageRecord.of(train)
    assert (record.digest, record.ids) == (None, [])
    assert record.shared_with(train, [0]) is None
    assert record.shared_with(val, [0]) == 0


def test_other_images_are_told(coco, tmp_path):
    whole = ImageRecord.of(CocoDataset(coco, "val"))
    fit = ImageRecord.of(load_dataset("coco", "val", root=coco, subset="fit"))
    assert other_images(tmp_path, fit) == []
    whole.write(tmp_path)
    assert other_images(tmp_path, whole) == []
    count = len(fit.ids)
    assert other_images(tmp_path, fit) == [f"images: {len(whole.ids)} then, {count} now, {count} of them the same"]


_IDS = '{"dataset": "coco", "split": "val", "digest": "", "ids": ["x"]}'


@pytest.mark.parametrize("content", ["", "{", "[]", '{"dataset": "coco"}', _IDS])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(InputError, match=r"images\.json cannot be read"):
        read_record(tmp_path)
