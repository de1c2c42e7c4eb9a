"""The server as Label Studio asks it: bodies as its `api_connector.py` makes them, answers as label-studio-ml's."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import requests

from sb3_alignsam.evaluation.run_lengths import decode_mask
from sb3_alignsam.inference.annotator import Annotator
from tests.inference.serve.conftest import as_file, as_png, served
from tests.inference.serve.test_app import _assert_refused, post
from tests.inference.test_brush import read_brush

CONFIG = """<View>
  <Image name="picture" value="$photo" zoom="true"/>
  <BrushLabels name="tag" toName="picture"><Label value="star"/><Label value="ring" background="#f00"/>
  <Label value="else"/></BrushLabels>
  <KeyPointLabels name="point" toName="picture" smart="true"><Label value="star"/><Label value="ring"/></KeyPointLabels>
</View>"""
TAG = '<BrushLabels name="b" toName="a"><Label value="star"/></BrushLabels>'
MANY_TAGS = f'<View><Image name="a" value="$photo"/>{TAG * 21}</View>'


def embedded(content, kind="png"):
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def predict(address, *pictures, config=CONFIG, context=None):
    body = {
        "tasks": [{"id": 7 + n, "data": {"photo": each}, "project": 1} for n, each in enumerate(pictures)],
        "model_version": None,
        "project": "1.1690000000",
        "label_config": config,
        "params": {"login": None, "password": None, "context": context},
    }
    return requests.post(f"{address}/predict", json=body, timeout=60)


def masks(prediction, shape):
    return {
        region["value"]["brushlabels"][0]: read_brush(region["value"]["rle"], shape) for region in prediction["result"]
    }


def test_each_task_gets_for_each_label_the_mask_that_segment_gives(address, scene, scene_png):
    answer = predict(address, embedded(scene_png), embedded(as_png(scene[:, ::-1]))).json()
    assert len(answer["results"]) == 2
    for picture, prediction in zip((scene, scene[:, ::-1]), answer["results"], strict=True):
        alone = {name: post(address, as_png(picture), category=name).json() for name in ("star", "ring")}
        found = {name: each for name, each in alone.items() if each["area"]}
        drawn = masks(prediction, scene.shape[:2])
        assert list(drawn) == list(found)
        assert found
        for name, each in found.items():
            assert np.array_equal(drawn[name], decode_mask(each["segmentation"]))
        assert prediction["score"] == min(each["score"] for each in found.values())
        assert prediction["model_version"] == answer["model_version"]
        for region in prediction["result"]:
            assert (region["from_name"], region["to_name"]) == ("tag", "picture")
            assert (region["original_height"], region["original_width"]) == scene.shape[:2]
    names = [region["id"] for prediction in answer["results"] for region in prediction["result"]]
    assert len(set(names)) == len(names)


def test_a_persons_key_points_are_clicks_that_the_agent_goes_on_from(address, scene, scene_png):
    height, width = scene.shape[:2]

    def point(x, y, positive, label="ring"):
        value = {"x": 100 * x / width, "y": 100 * y / height, "width": 0.3, "keypointlabels": [label]}
        size = {"original_width": width, "original_height": height, "image_rotation": 0}
        return {**size, "value": value, "is_positive": positive, "type": "keypointlabels", "from_name": "point"}

    placed = [(40.5, 60.5, True), (100.5, 20.5, False)]
    context = {"result": [point(*each) for each in placed]}
    clicks = {"clicks": [{"x": int(x), "y": int(y), "positive": positive} for x, y, positive in placed]}
    alone = post(address, scene_png, category="ring", clicks=json.dumps(clicks)).json()
    (prediction,) = predict(address, embedded(scene_png), context=context).json()["results"]
    drawn = masks(prediction, scene.shape[:2])
    assert list(drawn) == ["ring"]
    assert np.array_equal(drawn["ring"], decode_mask(alone["segmentation"]))
    corner = predict(address, embedded(scene_png), context={"result": [point(width, height, True)]})
    assert corner.status_code == 200
    odd = {"result": [{**point(1, 1, True), "type": "rectanglelabels"}]}
    _assert_refused(predict(address, embedded(scene_png), context=odd), 422, "params.context.result.0.type")


def test_setup_tells_a_version_of_the_very_agent(address, annotator, scene_png):
    setup = {"project": "1.1690000000", "schema": CONFIG, "hostname": "http://localhost:8080", "access_token": "x"}
    answer = requests.post(f"{address}/setup", json=setup, timeout=60)
    assert answer.status_code == 200
    version = answer.json()["model_version"]
    assert version.startswith(f"{annotator.zip_path.stem}-")
    assert version == predict(address, embedded(scene_png)).json()["model_version"]
    _assert_refused(requests.post(f"{address}/setup", json={"schema": "<View/>"}, timeout=60), 422, "no BrushLabels")


def test_its_health_is_a_status_and_an_object_which_is_all_that_label_studio_looks_at(address):
    answer = requests.get(f"{address}/health", timeout=60)
    answer.raise_for_status()
    assert isinstance(answer.json(), dict)


def test_an_annotation_is_passed_over_and_training_refused(address):
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 1}, "annotation": {"id": 3}}
    answer = requests.post(f"{address}/webhook", json=event, timeout=60)
    assert (answer.status_code, answer.json()["status"]) == (200, "ignored")
    start = {"action": "START_TRAINING", "project": {"id": 1}}
    _assert_refused(requests.post(f"{address}/webhook", json=start, timeout=60), 501, "does not train")
    _assert_refused(requests.post(f"{address}/train", json={"annotations": []}, timeout=60), 501, "does not train")


@pytest.mark.parametrize(
    ("picture", "status", "words"),
    [
        ("https://127.0.0.1:1/a.png", 422, "import tasks that hold their pictures"),
        ("/data/local-files/?d=a.png", 422, "opens no file and no address"),
        ("file:///etc/passwd", 422, "opens no file and no address"),
        ("data:text/html;base64,aaaa", 422, "opens no file and no address"),
        ({"url": "a.png"}, 422, "task 2: 'photo' is"),
        (None, 422, "task 2: 'photo' is None"),
        ("data:image/png;base64,a", 422, "no valid base64"),
        ("data:image/png;base64,é", 422, "no valid base64"),
        (embedded(b"no image"), 415, "task 2: 'photo' is not an image"),
        ("TIFF", 415, "save it as one of BMP, JPEG, PNG, WEBP"),
        ("TORN", 422, "cannot be read"),
        ("LARGE", 413, "make it smaller"),
        (embedded(bytes(16 * 2**20)), 413, "more than 20971520 bytes"),
    ],
)  # fmt: skip
def test_a_picture_that_is_no_embedded_one_is_one_line(picture, status, words, address, scene, scene_png):
    made = {
        "TIFF": lambda: as_file(scene, "TIFF"),
        "TORN": lambda: scene_png[:500],
        "LARGE": lambda: as_png(np.zeros((4097, 4096, 3), np.uint8)),
    }
    picture = embedded(made[picture]()) if isinstance(picture, str) and picture in made else picture
    _assert_refused(predict(address, embedded(scene_png), picture), status, words)


LAUGHS = '<!DOCTYPE v [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><View>&b;</View>'
FILE = '<!DOCTYPE v [<!ENTITY a SYSTEM "file:///etc/passwd">]><View>&a;</View>'


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (LAUGHS, "has a DOCTYPE"),
        (FILE, "has a DOCTYPE"),
        ("<View>&a;</View>", "no valid XML"),
        ("<View>", "no valid XML"),
        ("", "no valid XML"),
        ("\ud800", "Invalid JSON"),
        ("<View/>", "no BrushLabels"),
        (CONFIG.replace("$photo", "https://a.example/b.png"), "of a value such as $image"),
        (CONFIG.replace('toName="picture"', ""), "of a value such as $image"),
        (CONFIG.replace("star", "stra").replace("ring", "rign"), "did you mean star"),
        (f"<View>{' ' * 2**18}</View>", "at most 262144 are read"),
        (MANY_TAGS, "has 21 labels; the agent looks for at most 20 a task"),
        ("<View>" * 19000 + "</View>" * 19000, "no BrushLabels"),
        (7, "label_config"),
    ],
)
def test_a_labelling_interface_that_cannot_be_used_is_one_line(config, words, address, scene_png):
    _assert_refused(predict(address, embedded(scene_png), config=config), 422, words)


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"{", "application/json", 422, "it must be as Label Studio sends it"),
        (b"[" * 100000, "application/json", 422, "it must be as Label Studio sends it"),
        (b"[]", "application/json", 422, "it must be as Label Studio sends it"),
        (b"{}", "application/json", 422, "tasks: Field required"),
        (b'{"tasks": [3], "label_config": ""}', "application/json", 422, "tasks.0"),
        (b"{}", "text/plain", 415, "must be application/json"),
        (b"{}", "", 415, "must be application/json"),
    ],
)
def test_what_label_studio_would_not_send_is_one_line_too(body, kind, status, words, address):
    _assert_refused(
        requests.post(f"{address}/predict", body, headers={"Content-Type": kind}, timeout=60), status, words
    )


def test_no_tasks_are_no_predictions(address):
    assert predict(address).json()["results"] == []


def test_its_requests_count_as_the_others_do(annotator, scene_png):
    with served(annotator, per_minute=6, burst=1) as address:
        assert predict(address, embedded(scene_png)).status_code == 200
        assert predict(address, embedded(scene_png)).status_code == 429
        assert post(address, scene_png, category="star").status_code == 429


def test_an_agent_that_reads_names_looks_for_every_label_up_to_a_number(explicit_run, scene_png):
    labels = "".join(f'<Label value="light {number}"/>' for number in range(4))
    config = f'<View><Image name="a" value="$photo"/><BrushLabels name="b" toName="a">{labels}</BrushLabels></View>'
    with served(Annotator(explicit_run, env_kwargs={"cache": False}), categories=3) as address:
        _assert_refused(
            predict(address, embedded(scene_png), config=config), 422, "4 labels; the agent looks for at most 3 a task"
        )
        fewer = config.replace('<Label value="light 3"/>', "")
        (prediction,) = predict(address, embedded(scene_png), config=fewer).json()["results"]
        assert {region["value"]["brushlabels"][0] for region in prediction["result"]} <= {
            f"light {number}" for number in range(3)
        }
