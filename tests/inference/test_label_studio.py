"""Tasks as Label Studio's documentation describes them ("Label Studio task format", "Import pre-annotated data").

Label Studio itself is no dependency of this package; what its pages ask of a task is checked here, and the picture that
it would draw of one.
"""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import cv2
import numpy as np
from pycocotools import mask as native

from sb3_alignsam.inference.label_studio import label_config, label_studio_tasks

SHAPE = (90, 120)


def _entry():
    mask = np.zeros(SHAPE, np.uint8)
    cv2.circle(mask, (40, 45), 30, 1, -1)
    cv2.circle(mask, (40, 45), 10, 0, -1)
    mask[70:90, 100:120] = 1
    counts = native.encode(np.asfortranarray(mask))["counts"].decode()
    found = {"category": "traffic <light>", "score": 0.75, "counts": counts}
    return {"image": "sub/a b&c.png", "width": SHAPE[1], "height": SHAPE[0], "objects": [found]}, mask.astype(bool)


def _drawn(result):
    """What a browser draws: each polygon's corners in percent of the original size, filled by the even-odd rule."""
    drawn = np.zeros(SHAPE, np.uint8)
    for region in result:
        corners = np.array(region["value"]["points"]) / 100 * [region["original_width"], region["original_height"]]
        one = np.zeros(SHAPE, np.uint8)
        # OpenCV's coordinates have their origin in the first pixel's centre, and 4 bits of fraction here.
        cv2.fillPoly(one, [np.rint((corners - 0.5) * 16).astype(np.int32)], 1, shift=4)
        drawn |= one
    return drawn.astype(bool)


def test_a_task_holds_what_the_documentation_asks_for_and_draws_the_mask():
    entry, mask = _entry()
    (task,) = json.loads(json.dumps(label_studio_tasks([entry], "photos", "agent")))
    address = urlsplit(task["data"]["image"])
    assert (address.path, parse_qs(address.query)) == ("/data/local-files/", {"d": ["photos/sub/a b&c.png"]})
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == "agent"
    assert prediction["score"] == 0.75
    assert len({region["id"] for region in prediction["result"]}) == 2
    for region in prediction["result"]:
        assert region["type"] == "polygonlabels"
        assert (region["original_width"], region["original_height"], region["image_rotation"]) == (120, 90, 0)
        assert region["value"]["polygonlabels"] == ["traffic <light>"]
        assert all(len(corner) == 2 and min(corner) >= 0 and max(corner) <= 100 for corner in region["value"]["points"])
    drawn = _drawn(prediction["result"])
    assert np.count_nonzero(drawn & mask) / np.count_nonzero(drawn | mask) > 0.93


def test_the_labelling_interface_has_the_tags_and_labels_that_tasks_refer_to():
    entry, _ = _entry()
    view = ElementTree.fromstring(label_config(["star", "traffic <light>"]))
    labels = view.find("PolygonLabels")
    (region, *_) = label_studio_tasks([entry], "photos", "agent")[0]["predictions"][0]["result"]
    assert view.tag == "View"
    assert labels.get("name") == region["from_name"]
    assert view.find("Image").get("name") == labels.get("toName") == region["to_name"]
    assert view.find("Image").get("value") == "$image"
    assert [label.get("value") for label in labels] == ["star", "traffic <light>"]


def test_an_image_in_which_nothing_was_found_is_a_task_too():
    entry = {"image": "a.png", "width": 4, "height": 3, "objects": []}
    (task,) = label_studio_tasks([entry], "photos", "agent")
    assert task["predictions"] == [{"model_version": "agent", "score": 0.0, "result": []}]
