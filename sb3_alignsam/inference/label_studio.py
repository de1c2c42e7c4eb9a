"""What was found in a folder, as tasks that Label Studio imports, with polygons to correct.

The layout is that of its documentation: "Label Studio task format" and "Import pre-annotated data".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from sb3_alignsam.inference.coco_export import Entry, object_polygons

IMAGE, LABELS = "image", "label"
"""Names of the two tags of `label_config`, which every task refers to."""


def label_studio_tasks(entries: Sequence[Entry], folder: str, model: str) -> list[dict[str, Any]]:
    """One task an image; what the agent found is a prediction, one region for each part of an object.

    :param folder: of the images, as a path below Label Studio's root of local files.
    :param model: what predictions are attributed to.
    """
    return [_task(entry, folder, model) for entry in entries]


def label_config(categories: Sequence[str]) -> str:
    """The labelling interface that the tasks are made for, to be pasted into a project's settings."""
    labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in categories)
    return (
        f'<View>\n  <Image name="{IMAGE}" value="$image"/>\n'
        f'  <PolygonLabels name="{LABELS}" toName="{IMAGE}">\n{labels}\n  </PolygonLabels>\n</View>\n'
    )


def _task(entry: Entry, folder: str, model: str) -> dict[str, Any]:
    regions = [
        _region(entry, found, points.tolist(), f"{number}-{part}")
        for number, found in enumerate(entry["objects"], 1)
        for part, points in enumerate(object_polygons(entry, found), 1)
    ]
    path = quote(f"{folder}/{entry['image']}")
    # Tasks are sorted by their prediction's score, so that of the least sure object comes first.
    score = min((found["score"] for found in entry["objects"]), default=0.0)
    return {
        "data": {"image": f"/data/local-files/?d={path}"},
        "predictions": [{"model_version": model, "score": score, "result": regions}],
    }


def _region(entry: Entry, found: dict[str, Any], points: list[list[float]], identity: str) -> dict[str, Any]:
    """One part of an object; its corners are in percent of the image's sides."""
    width, height = entry["width"], entry["height"]
    return {
        "id": identity,
        "type": "polygonlabels",
        "from_name": LABELS,
        "to_name": IMAGE,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": found["score"],
        "value": {
            "points": [[round(100 * x / width, 4), round(100 * y / height, 4)] for x, y in points],
            "polygonlabels": [found["category"]],
            "closed": True,
        },
    }
