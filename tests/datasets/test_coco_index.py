"""A large annotation file is read once; from then on its index answers, as long as the file is the same."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from sb3_alignsam.benchmark.made_up_coco import write_made_up
from sb3_alignsam.datasets import coco_index
from sb3_alignsam.datasets.coco_index import IndexedTable, open_annotations
from sb3_alignsam.datasets.coco_table import CocoTable
from sb3_alignsam.errors import InputError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Large enough for an index, as far as this test goes."""
    monkeypatch.setattr(coco_index, "MIN_BYTES", 1000)
    path = tmp_path / "instances_train.json"
    write_made_up(path, 20, 150)
    return path


def _index(path: Path) -> Path:
    return path.with_name(f".{path.name}.index")


def _assert_equal(one: CocoTable, other: CocoTable) -> None:
    assert one.categories == other.categories
    for a, b in zip(one.columns[1:], other.columns[1:], strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    image_id = int(one.columns.image_ids[3])
    assert one.image(image_id) == other.image(image_id)
    first = one.annotations(image_id)[0]
    assert one.segmentation(first) == other.segmentation(other.annotations(image_id)[0])


def test_the_index_tells_the_same_as_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_index, "MIN_BYTES", 10**9)
    plain = open_annotations(path)
    assert type(plain) is CocoTable
    assert not _index(path).exists()
    monkeypatch.setattr(coco_index, "MIN_BYTES", 1000)
    first = open_annotations(path)
    assert len(first.columns.ids) == 150
    monkeypatch.setattr(coco_index, "read_annotations", None)  # From here on the file is not read.
    for table in (first, open_annotations(path), pickle.loads(pickle.dumps(first))):
        assert isinstance(table, IndexedTable)
        _assert_equal(table, plain)
    assert len(pickle.dumps(first)) < 1000


def test_another_content_makes_another_index(path: Path) -> None:
    table = open_annotations(path)
    old = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"thing 7"', b'"thong 7"'))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert open_annotations(path).categories[7] == "thong 7"
    with pytest.raises(InputError, match="is gone or has changed"):
        pickle.loads(pickle.dumps(table))


def test_a_file_that_changes_while_it_is_open_is_noticed(path: Path) -> None:
    table = open_annotations(path)
    annotation = table.annotations(int(table.columns.image_ids[0]))[0]
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(InputError, match="has changed since it was opened"):
        table.segmentation(annotation)
    path.unlink()
    with pytest.raises(InputError, match="cannot be read any more"):
        table.segmentation(annotation)


def test_a_read_only_place_has_its_index_in_the_cache_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("SB3_ALIGNSAM_HOME", str(home))
    _index(path).mkdir()  # Nothing can take its place, whoever runs the test.
    first = open_annotations(path)
    (index,) = (home / "annotations").iterdir()
    assert index.suffix == ".index"
    monkeypatch.setattr(coco_index, "read_annotations", None)
    _assert_equal(open_annotations(path), first)


def test_with_no_place_for_an_index_the_file_is_read_each_time(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("no folder")
    monkeypatch.setenv("SB3_ALIGNSAM_HOME", str(tmp_path / "home"))
    _index(path).mkdir()
    assert type(open_annotations(path)) is CocoTable


def test_a_damaged_index_is_made_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(coco_index, "MIN_BYTES", 10**9)
        table = open_annotations(path)
    index = _index(path)
    open_annotations(path)
    good = index.read_bytes()
    length = int.from_bytes(good[:8], "little")
    hostile = np.frombuffer(good, np.uint8).copy()
    hostile[-150 * 16 :] = 127  # Segmentations far beyond the file's end.
    damaged = (
        b"",
        good[:100],
        good[:-1],
        good + b"x",
        b"\xff" * len(good),
        good[:8] + b"{" * length,
        hostile.tobytes(),
    )
    for content in damaged:
        # Not written in place: the former one is still mapped.
        index.unlink()
        index.write_bytes(content)
        _assert_equal(open_annotations(path), table)
        assert index.read_bytes() == good


def test_strict_does_not_rely_on_an_index_with_records_left_out(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"iscrowd": 0', b'"iscrowd": 7', 1))
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match=r"left out what cannot be used \(1 annotations\)"):
            assert len(open_annotations(path, lenient=True).columns.ids) == 149
        assert _index(path).exists()
        with pytest.raises(InputError, match="'iscrowd' is 7"):
            open_annotations(path)
