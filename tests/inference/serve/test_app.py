"""What a client gets from a running server."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import requests
from PIL import Image
from pycocotools.coco import COCO

from sb3_alignsam.evaluation.run_lengths import decode_mask
from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.perception import Click
from tests.inference.serve.conftest import as_file, as_png, served


def post(address, image, path="/segment", **fields):
    """Send an image. :param fields: beside it; None is left out."""
    fields = {name: value for name, value in fields.items() if value is not None}
    return requests.post(address + path, files={"image": ("a.png", image)}, data=fields, timeout=60)


def test_it_answers_what_the_annotator_does(address, annotator, scene, scene_png):
    answer = post(address, scene_png, category="star").json()
    result = annotator.segment(scene, "star")
    assert (answer["width"], answer["height"], answer["category"]) == (scene.shape[1], scene.shape[0], "star")
    assert np.array_equal(decode_mask(answer["segmentation"]), result.mask)
    assert answer["area"] == np.count_nonzero(result.mask)
    assert answer["score"] == pytest.approx(result.score, abs=1e-4)
    assert [_click(each) for each in answer["clicks"]] == [each.click for each in result.clicks]
    assert {each["by"] for each in answer["clicks"]} == {"agent"}


def test_each_click_comes_with_the_mask_that_it_gave(address, annotator, scene, scene_png):
    answer = post(address, scene_png, category="star").json()
    clicks = answer["clicks"]
    for count in range(1, len(clicks) + 1):
        upto = annotator.segment_batch([scene], ["star"], [[_click(each) for each in clicks[:count]]], [count])[0]
        best = max(clicks[:count], key=lambda each: each["predicted_iou"])
        assert np.array_equal(decode_mask(best["segmentation"]), upto.mask)
    assert len({each["segmentation"]["counts"] for each in clicks}) > 1


def test_the_agent_goes_on_from_a_persons_clicks_and_from_its_own_answer(address, scene, scene_png):
    whole = post(address, scene_png, category="star").json()
    begun = json.dumps({**whole, "clicks": whole["clicks"][:2]})
    again = post(address, scene_png, category="star", clicks=begun).json()
    assert [each["by"] for each in again["clicks"]] == ["given"] * 2 + ["agent"] * 3
    assert again["segmentation"] == whole["segmentation"]
    own = json.dumps({"clicks": [{"x": 7, "y": 9, "positive": False}]})
    alone = post(address, scene_png, category="star", clicks=own, budget=1).json()
    assert [_click(each) for each in alone["clicks"]] == [Click(7, 9, False)]
    many = json.dumps({"clicks": [{"x": n, "y": n, "positive": True} for n in range(7)]})
    assert len(post(address, scene_png, category="star", clicks=many).json()["clicks"]) == 7
    assert len(post(address, scene_png, category="star", clicks=many, budget=9).json()["clicks"]) == 9


def test_a_photograph_turned_by_its_camera_is_segmented_upright(address, scene, scene_png):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = as_png(np.ascontiguousarray(np.rot90(scene)), exif=exif)
    assert post(address, turned, category="ring").json() == post(address, scene_png, category="ring").json()


def test_several_categories_are_a_results_list_of_coco(address, scene, scene_png):
    names = ["star", "ring", "star"]
    entries = post(address, scene_png, "/annotate", categories=names, image_id=7).json()
    alone = [post(address, scene_png, category=name).json() for name in names]
    expected = [(number, each["segmentation"]) for number, each in enumerate(alone, 1) if each["area"]]
    assert [(entry["category_id"], entry["segmentation"]) for entry in entries] == expected
    assert {entry["image_id"] for entry in entries} == {7}
    truth = COCO()
    truth.dataset = {"images": [{"id": 7, "height": scene.shape[0], "width": scene.shape[1]}], "annotations": []}
    truth.dataset["categories"] = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    truth.createIndex()
    assert len(truth.loadRes(entries).getAnnIds()) == len(entries)


def test_an_agent_that_reads_names_takes_any(explicit_run, scene_png):
    with served(Annotator(explicit_run, env_kwargs={"cache": False})) as address:
        assert requests.get(f"{address}/categories", timeout=60).json()["any_name"] is True
        assert post(address, scene_png, category="traffic light").json()["category"] == "traffic light"
        _assert_refused(post(address, scene_png, category="light " * 500), 422, "long")


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"category": None}, 422, "the field 'category' is missing"),
        ({"category": "stra"}, 422, "did you mean star"),
        ({"category": ""}, 422, "is no name"),
        ({"category": ["star", "ring"]}, 422, "'category' came 2 times"),
        ({"clicks": "[1"}, 422, "'clicks' is no valid JSON"),
        ({"clicks": '{"clicks": [{"x": 9999, "y": 1, "positive": true}]}'}, 422, "'x' is 9999"),
        ({"clicks": '{"clicks": [{"x": 1, "y": 1, "positive": true}]}', "budget": 0}, 422, "from 1, those given, to"),
        ({"budget": 51}, 422, "to 50; got 51"),
        ({"budget": "many"}, 422, "must be a whole number"),
        ({"budget": "-1"}, 422, "must be a whole number"),
        ({"file": "/etc/passwd"}, 422, "there is no field 'file'"),
        ({"IMAGE": b"no image"}, 415, "'image' is not an image"),
        ({"IMAGE": b""}, 415, "'image' is not an image"),
        ({"IMAGE": b"\x80\x04."}, 415, "'image' is not an image"),
        ({"IMAGE": "TIFF"}, 415, "save it as one of BMP, JPEG, PNG, WEBP"),
        ({"IMAGE": "GIF"}, 415, "save it as one of BMP, JPEG, PNG, WEBP"),
        ({"IMAGE": "TORN"}, 422, "cannot be read"),
        ({"IMAGE": "LARGE"}, 413, "make it smaller, at most 16777216 pixels"),
        ({"IMAGE": bytes(21 * 2**20)}, 413, "more than 20971520 bytes"),
        ({"category": "a" * (2**20 + 1)}, 422, "Part exceeded maximum size"),
        ({"category": "a" * 2**20}, 422, "is too long: 1048576 characters, 200 at most"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_says_how_to_mend_it(change, status, words, address, scene, scene_png):
    made = {
        "TORN": lambda: scene_png[:500],
        "LARGE": lambda: as_png(np.zeros((4097, 4096, 3), np.uint8)),
        "TIFF": lambda: as_file(scene, "TIFF"),
        "GIF": lambda: as_file(scene, "GIF"),
    }
    fields = {"category": "star", **change}
    image = fields.pop("IMAGE", scene_png)
    image = made[image]() if isinstance(image, str) else image
    _assert_refused(post(address, image, **fields), status, words)


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "words"),
    [
        ("POST", "/segment", {"data": {"category": "star"}}, 415, "must be multipart/form-data"),
        ("POST", "/segment", {"json": {"image": "/etc/passwd"}}, 415, "must be multipart/form-data"),
        ("POST", "/segment", {"data": b"--x", "headers": {"Content-Type": "multipart/form-data"}}, 422, "boundary"),
        (
            "POST",
            "/segment",
            {"data": b"--x", "headers": {"Content-Type": "multipart/form-data; boundary=x; charset=punycode"}},
            415,
            "charset is 'punycode'; send UTF-8",
        ),
        ("POST", "/segment", {"files": {"category": (None, "star")}}, 422, "the field 'image' is missing"),
        ("POST", "/segment", {"files": {"image": (None, "/etc/passwd")}}, 422, "'image' must be a file"),
        ("POST", "/annotate", {"files": {"category": (None, "star")}}, 422, "there is no field 'category'"),
        ("GET", "/segment", {}, 405, "GET is not for /segment"),
        ("GET", "/../../etc/passwd", {}, 404, "there is nothing at"),
        ("GET", "/page/index.html", {}, 404, "there is nothing at"),
    ],
)
def test_what_is_no_request_at_all_is_one_line_too(method, path, options, status, words, address):
    _assert_refused(requests.request(method, address + path, timeout=60, **options), status, words)


def test_at_most_so_many_categories_are_asked_for_at_once(address, scene_png):
    _assert_refused(post(address, scene_png, "/annotate", categories=["star"] * 21), 422, "at most 20")
    _assert_refused(post(address, scene_png, "/annotate"), 422, "'categories' is missing")


def test_it_tells_how_it_is_and_what_it_can_be_asked(address, annotator):
    assert requests.get(f"{address}/health", timeout=60).json()["status"] == "ok"
    about = requests.get(f"{address}/categories", timeout=60).json()
    assert about["categories"] == list(annotator.categories)
    assert (about["any_name"], about["budget"]) == (False, 5)


@pytest.mark.parametrize("page", ["/", "/docs", "/page.js", "/page.css", "/masks.js", "/docs.js"])
def test_pages_need_nothing_from_elsewhere(page, address):
    answer = requests.get(address + page, timeout=60)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    foreign = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", answer.text)
    assert foreign == []


def _click(entry):
    return Click(entry["x"], entry["y"], entry["positive"])


def _assert_refused(answer, status, words):
    detail = answer.json()["detail"]
    assert (answer.status_code, list(answer.json())) == (status, ["detail"]), detail
    assert words in detail
    assert "\n" not in detail
