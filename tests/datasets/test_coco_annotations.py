"""An annotation file is read whole, or refused or thinned out with a line that names the file, the entry and what is
wrong."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from sb3_alignsam.datasets.coco_annotations import CocoImage, read_image_list
from sb3_alignsam.datasets.coco_index import open_annotations
from sb3_alignsam.datasets.findings import DatasetError
from sb3_alignsam.errors import InputError

RUNS = {"size": [8, 10], "counts": [80]}


def _content() -> dict[str, Any]:
    """A small sound file, whose entries stand in no order."""
    return {
        "categories": [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}],
        "images": [
            {"id": 5, "file_name": "five.png", "height": 8, "width": 10},
            {"id": 1, "file_name": "below/one.png", "height": 3, "width": 4},
        ],
        "annotations": [
            {"id": 31, "image_id": 5, "category_id": 9, "area": 4.5, "iscrowd": 1, "segmentation": RUNS},
            {"id": 7, "image_id": 5, "category_id": 2, "area": 30, "iscrowd": 0, "segmentation": [[1, 2, 3, 4, 5, 6]]},
            {"id": 8, "image_id": 5, "category_id": 2, "area": 0, "segmentation": {"size": [8, 10], "counts": "`2"}},
        ],
    }


def _write(folder: Path, content: Any) -> Path:
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def _refusal(path: Path) -> str:
    """The message with which a file is refused, once it is one line that names the file."""
    with pytest.raises(InputError) as caught:
        open_annotations(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    table = open_annotations(_write(tmp_path, _content()))
    assert list(table.categories.items()) == [(2, "cat"), (9, "dog")]
    assert (table.image(5), table.image(1)) == (CocoImage("five.png", 8, 10), CocoImage("below/one.png", 3, 4))
    found = table.annotations(5)
    assert [each[:4] for each in found] == [(7, 2, 30.0, False), (8, 2, 0.0, False), (31, 9, 4.5, True)]
    expected = [[[1, 2, 3, 4, 5, 6]], {"size": [8, 10], "counts": "`2"}, RUNS]
    assert [table.segmentation(each) for each in found] == expected
    assert table.annotations(1) == []
    assert table.skipped == {}
    for missing in (0, 2, 6):
        with pytest.raises(KeyError):
            table.image(missing)


def test_a_mark_of_the_encoding_at_the_beginning_is_skipped(tmp_path: Path) -> None:
    path = _write(tmp_path, _content())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    table = open_annotations(path)
    assert table.segmentation(table.annotations(5)[0]) == [[1, 2, 3, 4, 5, 6]]


@pytest.mark.parametrize(
    "text", ["", "{", "{'a': 1}", '{"images": ' + "[" * 100_000, b"\xff\xfe\xfd", '{"images": "', '{"images": "\\']
)
def test_what_is_no_json_is_refused(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "instances.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert "no valid JSON" in _refusal(path)


@pytest.mark.parametrize("content", [[], "coco", None, 5])
def test_json_that_is_no_object_is_refused(tmp_path: Path, content: Any) -> None:
    assert "no JSON object" in _refusal(_write(tmp_path, content))


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, {}, "x"])
def test_a_missing_list_is_named(tmp_path: Path, key: str, value: Any) -> None:
    assert f"no list '{key}'" in _refusal(_write(tmp_path, {**_content(), key: value}))


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_an_entry_that_is_no_object_is_named(tmp_path: Path, key: str) -> None:
    content = _content()
    content[key].append(3)
    assert f"{key}[{len(content[key]) - 1}]" in _refusal(_write(tmp_path, content))


UNUSABLE: list[tuple[str, str, list[Any]]] = [
    ("images", "id", [None, "1", 1.0, True, -1, 0, 10**30]),
    ("images", "height", [None, 0, -5, 2.5, "7", 10**9]),
    ("images", "width", [None, 0, -5, 2.5, "7", float("nan")]),
    ("images", "file_name", [None, "", 3, "a\0b", "a\nb", "\ud800"]),
    ("categories", "id", [None, "1", 1.0, True, -1, 0]),
    ("categories", "name", [None, "", 3, ["cat"], "cat\n"]),
    # COCO's evaluation never matches an annotation of id 0.
    ("annotations", "id", [None, "1", 1.0, True, -1, 0]),
    ("annotations", "image_id", [None, "1", 2**63]),
    ("annotations", "category_id", [None, "1", 2**63]),
    ("annotations", "area", [None, -1, "3", True, float("nan"), float("inf"), []]),
    ("annotations", "iscrowd", [None, 2, "0", []]),
]


@pytest.mark.parametrize(
    ("key", "field", "value"), [(key, field, value) for key, field, values in UNUSABLE for value in values]
)
def test_a_value_that_cannot_be_used_is_named(tmp_path: Path, key: str, field: str, value: Any) -> None:
    content = _content()
    content[key][1][field] = value
    message = _refusal(_write(tmp_path, content))
    assert f"{key}[1]" in message
    assert f"'{field}'" in message


@pytest.mark.parametrize("field", ["id", "image_id", "category_id", "area"])
def test_a_missing_value_is_named(tmp_path: Path, field: str) -> None:
    content = _content()
    del content["annotations"][1][field]
    message = _refusal(_write(tmp_path, content))
    assert f"'{field}'" in message
    assert "annotations[1]" in message


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_an_id_that_is_given_twice_is_named(tmp_path: Path, key: str) -> None:
    content = _content()
    content[key].append({**content[key][0], "name": "bird"})
    message = _refusal(_write(tmp_path, content))
    assert f"(id {content[key][0]['id']})" in message
    assert "twice" in message


def test_categories_of_one_name_are_taken_for_one(tmp_path: Path) -> None:
    content = _content()
    content["categories"].append({"id": 10, "name": "cat"})
    content["annotations"][0]["category_id"] = 10
    table = open_annotations(_write(tmp_path, content))
    assert table.categories == {2: "cat", 9: "dog"}
    assert [each.category_id for each in table.annotations(5)] == [2, 2, 2]


@pytest.mark.parametrize("field", ["image_id", "category_id"])
def test_a_reference_to_nothing_is_named(tmp_path: Path, field: str) -> None:
    content = _content()
    content["annotations"][1][field] = 77
    message = _refusal(_write(tmp_path, content))
    assert "(id 7)" in message
    assert f"{field} 77" in message


@pytest.mark.parametrize(
    "name", ["../a.png", "below/../../a.png", "/etc/a.png", "..", "C:a.png", "\\\\host\\a.png", "..\\a.png"]
)
def test_a_file_name_that_leaves_the_image_folder_is_named(tmp_path: Path, name: str) -> None:
    content = _content()
    content["images"][0]["file_name"] = name
    message = _refusal(_write(tmp_path, content))
    assert "(id 5)" in message
    assert "inside the image folder" in message


@pytest.mark.parametrize("name", ["a b.png", "below/deeper/a.png", "写真　一.png", "..a.png"])
def test_unusual_file_names_inside_the_folder_are_allowed(tmp_path: Path, name: str) -> None:
    content = _content()
    content["images"][0]["file_name"] = name
    assert open_annotations(_write(tmp_path, content)).image(5).file_name == name


def test_names_and_ids_alone_need_no_annotations(tmp_path: Path) -> None:
    content = _content()
    del content["annotations"]
    categories, images = read_image_list(_write(tmp_path, content))
    assert list(categories.items()) == [(2, "cat"), (9, "dog")]
    assert list(images.items()) == [(1, CocoImage("below/one.png", 3, 4)), (5, CocoImage("five.png", 8, 10))]
    with pytest.raises(InputError, match=r"there is no annotation file .*none.json"):
        read_image_list(tmp_path / "none.json")


def test_lenient_leaves_out_what_cannot_be_used_and_says_how_much(tmp_path: Path) -> None:
    content = _content()
    content["images"][1]["height"] = 0
    content["images"].append({"id": 6, "file_name": "six.png", "height": 8, "width": 10})
    good = {**content["annotations"][1], "image_id": 6}
    content["annotations"] += [
        {**good, "id": 40},
        {**good, "id": 41, "image_id": 1},  # its image is the one without height
        {**good, "id": 42, "segmentation": [[1, 2, 3, float("nan"), 5, 6]]},
        {**good, "id": 43, "category_id": 77},
        {**good, "id": 7},
    ]
    path = _write(tmp_path, content)
    with pytest.warns(RuntimeWarning, match=r"\(1 images, 4 annotations\); sb3-alignsam validate lists it"):
        table = open_annotations(path, lenient=True)
    assert table.skipped == {"images": 1, "annotations": 4}
    assert [each.id for each in table.annotations(6)] == [40]
    assert [each.id for each in table.annotations(5)] == [7, 8, 31]
    assert "images[1]" in _refusal(path)


def test_an_error_tells_its_parts(tmp_path: Path) -> None:
    content = _content()
    content["annotations"][1]["segmentation"][0][3] = 1e300
    path = _write(tmp_path, content)
    with pytest.raises(DatasetError) as caught:
        open_annotations(path)
    finding = pickle.loads(pickle.dumps(caught.value)).finding
    assert (finding.level, finding.kind, finding.file) == ("error", "polygon", str(path))
    assert (finding.place, finding.id, finding.value) == ("annotations[1].segmentation[0][3]", 7, "1e+300")
    assert "within the image" in finding.message
