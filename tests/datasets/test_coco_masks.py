"""Segmentations decode as pycocotools decodes them, and malformed ones never reach its native code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as native
from pycocotools.coco import COCO

from sb3_alignsam.datasets import coco_masks
from sb3_alignsam.datasets.coco_masks import decode_segmentation
from sb3_alignsam.datasets.photographs import MAX_PIXELS
from sb3_alignsam.errors import InputError

COCO_MINI = Path(__file__).parents[2] / ".." / "shared" / "data" / "coco_mini"
HEIGHT, WIDTH = 12, 17
SOURCE = "instances.json: annotation 7"
SQUARE = [2.0, 3.0, 8.0, 3.0, 8.0, 9.0, 2.0, 9.0]


def _masks() -> list[np.ndarray]:
    """Masks whose runs are many and short, few and long, one, and none."""
    rng = np.random.default_rng(0)
    small = [rng.random((HEIGHT, WIDTH)) < share for share in (0.5, 0.05, 0.95)]
    large = np.zeros((900, 1100), bool)
    large[100:800, 50:1000] = True
    large[300:301, 400:600] = False
    return [*small, np.zeros((HEIGHT, WIDTH), bool), np.ones((HEIGHT, WIDTH), bool), large]


def _counts(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, the first of background."""
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(np.diff(flat.astype(np.int8)))
    return np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()


def _refusal(segmentation: Any, height: int = HEIGHT, width: int = WIDTH) -> str:
    """The message with which a segmentation is refused, once it is one line that begins with the source."""
    with pytest.raises(InputError) as caught:
        decode_segmentation(segmentation, height, width, SOURCE)
    assert str(caught.value).startswith(f"{SOURCE}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.skipif(not COCO_MINI.is_dir(), reason="the photographs of ../shared/data/coco_mini are not there")
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_all_annotations_of_twenty_photographs_decode_as_in_pycocotools(split: str) -> None:
    path = COCO_MINI / "annotations" / f"instances_{split}.json"
    coco = COCO(str(path))
    content = json.loads(path.read_text())
    crowded = {entry["image_id"] for entry in content["annotations"] if entry["iscrowd"]}
    image_ids = sorted(crowded) + [image_id for image_id in sorted(coco.imgs) if image_id not in crowded]
    image_ids = image_ids[:20]
    entries = [entry for entry in content["annotations"] if entry["image_id"] in image_ids]
    assert {entry["iscrowd"] for entry in entries} == {0, 1}
    for entry in entries:
        image = coco.imgs[entry["image_id"]]
        mask = decode_segmentation(entry["segmentation"], image["height"], image["width"], "mini")
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, coco.annToMask(entry).astype(bool))


@pytest.mark.parametrize("mask", _masks())
def test_runs_as_a_list_decode_to_their_mask(mask: np.ndarray) -> None:
    height, width = mask.shape
    segmentation = {"size": [height, width], "counts": _counts(mask)}
    np.testing.assert_array_equal(decode_segmentation(segmentation, height, width, SOURCE), mask)


@pytest.mark.parametrize("mask", _masks())
def test_compressed_runs_decode_to_their_mask(mask: np.ndarray) -> None:
    height, width = mask.shape
    encoded = native.encode(np.asfortranarray(mask.astype(np.uint8)))
    segmentation = {"size": [height, width], "counts": encoded["counts"].decode("ascii")}
    np.testing.assert_array_equal(decode_segmentation(segmentation, height, width, SOURCE), mask)


def test_several_polygons_are_united() -> None:
    other = [10.0, 1.0, 15.0, 1.0, 15.0, 5.0]
    both = decode_segmentation([SQUARE, other], HEIGHT, WIDTH, SOURCE)
    single = [decode_segmentation([polygon], HEIGHT, WIDTH, SOURCE) for polygon in (SQUARE, other)]
    assert all(mask.any() for mask in single)
    np.testing.assert_array_equal(both, single[0] | single[1])


def test_a_polygon_covers_the_pixels_inside_it() -> None:
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[3:9, 2:8] = True
    np.testing.assert_array_equal(decode_segmentation([SQUARE], HEIGHT, WIDTH, SOURCE), expected)


def test_a_polygon_beyond_the_border_is_cut_there() -> None:
    around = [-1, -1, WIDTH + 1, -1, WIDTH + 1, HEIGHT + 1, -1, HEIGHT + 1]
    assert decode_segmentation([around], HEIGHT, WIDTH, SOURCE).all()


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -float("inf"), 1e300, -1e9, 10**400, WIDTH + 1.1, -1.1, "3", None, True, [1.0]],
)
@pytest.mark.parametrize("place", [0, 5])
def test_a_coordinate_that_is_no_number_near_the_image_is_refused(value: Any, place: int) -> None:
    polygon: list[Any] = list(SQUARE)
    polygon[place] = value
    assert "coordinate" in _refusal([SQUARE, polygon])


@pytest.mark.parametrize("polygon", [[], SQUARE[:4], SQUARE[:7]])
def test_a_polygon_of_odd_or_too_small_length_is_refused(polygon: list[float]) -> None:
    assert f"{len(polygon)} numbers" in _refusal([SQUARE, polygon])


@pytest.mark.parametrize("segmentation", [None, 3, "abc", SQUARE, [{"size": [HEIGHT, WIDTH], "counts": []}]])
def test_what_is_no_segmentation_is_refused(segmentation: Any) -> None:
    assert "must be a list" in _refusal(segmentation)


def test_no_polygon_is_refused() -> None:
    assert "no polygon" in _refusal([])


def test_an_endless_outline_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_masks, "MAX_OUTLINE", 24)
    decode_segmentation([SQUARE], HEIGHT, WIDTH, SOURCE)
    assert "27 pixels long" in _refusal([[*SQUARE[:-1], 12.0]])


@pytest.mark.parametrize("counts", [[], [HEIGHT * WIDTH - 1], [HEIGHT * WIDTH, 1], [100, 100]])
def test_runs_that_do_not_sum_to_the_image_are_refused(counts: list[int]) -> None:
    message = _refusal({"size": [HEIGHT, WIDTH], "counts": counts})
    assert f"sum to {sum(counts)}" in message
    assert str(HEIGHT * WIDTH) in message


def test_compressed_runs_that_do_not_sum_to_the_image_are_refused() -> None:
    encoded = native.encode(np.ones((HEIGHT, WIDTH - 1), np.uint8, order="F"))
    counts = encoded["counts"].decode("ascii")
    assert f"sum to {HEIGHT * (WIDTH - 1)}" in _refusal({"size": [HEIGHT, WIDTH], "counts": counts})


@pytest.mark.parametrize("count", [-1, 1.0, True, "1", None, HEIGHT * WIDTH + 1, 10**400])
def test_a_run_length_that_is_no_count_of_pixels_is_refused(count: Any) -> None:
    assert "the run length " in _refusal({"size": [HEIGHT, WIDTH], "counts": [count, 1]})


# A digit from "0" on ends a number, a letter from "P" on says that it goes on.
@pytest.mark.parametrize("text", ["/", "p", " 1", "0é", "Q" * 9 + "0"])
def test_a_compressed_string_that_is_damaged_is_refused(text: str) -> None:
    assert "damaged at" in _refusal({"size": [HEIGHT, WIDTH], "counts": text})


def test_a_compressed_string_that_is_cut_short_is_refused() -> None:
    encoded = native.encode(np.ones((HEIGHT, WIDTH), np.uint8, order="F"))
    text = encoded["counts"].decode("ascii")
    assert decode_segmentation({"size": [HEIGHT, WIDTH], "counts": text}, HEIGHT, WIDTH, SOURCE).all()
    assert "middle of a number" in _refusal({"size": [HEIGHT, WIDTH], "counts": text[:-1]})


def test_compressed_runs_below_zero_are_refused() -> None:
    # "O" is the five bits 11111: -1.
    assert "run length -1" in _refusal({"size": [HEIGHT, WIDTH], "counts": "O"})


@pytest.mark.parametrize("size", [None, [WIDTH, HEIGHT], [HEIGHT], "12"])
def test_runs_of_another_size_are_refused(size: Any) -> None:
    assert f"[{HEIGHT}, {WIDTH}]" in _refusal({"size": size, "counts": [HEIGHT * WIDTH]})


@pytest.mark.parametrize("counts", [None, 5, {}])
def test_runs_that_are_neither_list_nor_string_are_refused(counts: Any) -> None:
    assert "counts" in _refusal({"size": [HEIGHT, WIDTH], "counts": counts})


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, -1), (MAX_PIXELS, 2)])
def test_an_impossible_image_size_is_refused(height: int, width: int) -> None:
    assert "pixels" in _refusal([SQUARE], height, width)
