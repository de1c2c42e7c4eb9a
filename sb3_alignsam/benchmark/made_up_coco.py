"""An annotation file of the size of COCO's train2017, made up: the true one has 448 MiB too and cannot be shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

IMAGES, ANNOTATIONS = 118_287, 860_001
"""As many as instances_train2017.json has."""
HEIGHT, WIDTH = 480, 640
_SHAPES = 4096
"""Outlines, and a hundredth as many run lengths, that annotations are made of."""
_CATEGORIES = 80
_CHUNK = 10_000


def write_made_up(path: Path, images: int = IMAGES, annotations: int = ANNOTATIONS) -> None:
    """Write a sound file whose records look like COCO's: polygons of 45 numbers on average, a crowd in a hundred.

    :param path: is written in place. :param images: how many. :param annotations: how many, spread at random.
    """
    rng = np.random.default_rng(0)
    shapes = [_outline(rng) for _ in range(_SHAPES)]
    crowds = [_crowd(rng) for _ in range(_SHAPES // 100)]
    categories = [{"supercategory": "thing", "id": each, "name": f"thing {each}"} for each in range(1, _CATEGORIES + 1)]
    with path.open("w") as file:
        file.write('{"info": {"description": "made up"}, "licenses": [], "images": [')
        for start in range(0, images, _CHUNK):
            identities = range(start + 1, min(images, start + _CHUNK) + 1)
            file.write(", " * (start > 0) + ", ".join(_image(each) for each in identities))
        file.write('], "annotations": [')
        for start in range(0, annotations, _CHUNK):
            count = min(annotations - start, _CHUNK)
            image_ids, category_ids = rng.integers(1, images + 1, count), rng.integers(1, _CATEGORIES + 1, count)
            chosen, crowded = rng.integers(_SHAPES, size=count), rng.random(count) < 0.01
            rows = [
                _annotation(start + row + 1, int(image_ids[row]), int(category_ids[row]), bool(crowded[row]), shape)
                for row in range(count)
                for shape in [crowds[chosen[row] % len(crowds)] if crowded[row] else shapes[chosen[row]]]
            ]
            file.write(", " * (start > 0) + ", ".join(rows))
        file.write(f'], "categories": {json.dumps(categories)}}}')


def _image(identity: int) -> str:
    name = f"{identity:012d}.jpg"
    return (
        f'{{"license": 3, "file_name": "{name}", "coco_url": "http://images.cocodataset.org/train2017/{name}", '
        f'"height": {HEIGHT}, "width": {WIDTH}, "date_captured": "2013-11-14 11:18:45", '
        f'"flickr_url": "http://farm9.staticflickr.com/8186/{identity:010d}_e8f2f19db0_z.jpg", "id": {identity}}}'
    )


def _annotation(identity: int, image_id: int, category_id: int, crowd: bool, shape: tuple[str, str, str]) -> str:
    segmentation, area, box = shape
    return (
        f'{{"segmentation": {segmentation}, "area": {area}, "iscrowd": {int(crowd)}, "image_id": {image_id}, '
        f'"bbox": {box}, "category_id": {category_id}, "id": {identity}}}'
    )


def _outline(rng: np.random.Generator) -> tuple[str, str, str]:
    """A bumpy ring of points; with its area in pixels² and its box."""
    count = int(rng.integers(4, 43))
    radius = rng.uniform(6, 220) * rng.uniform(0.7, 1, count)
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    centre = rng.uniform(0, (WIDTH, HEIGHT))
    points = centre + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = points.clip(0, (WIDTH, HEIGHT)).round(2)
    x, y = points.T
    area = abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
    return json.dumps([points.ravel().tolist()]), json.dumps(area), _box(points)


def _crowd(rng: np.random.Generator) -> tuple[str, str, str]:
    """Run lengths down the columns, as many as those of a crowd."""
    edges = np.sort(rng.choice(HEIGHT * WIDTH - 1, 800, replace=False)) + 1
    counts = np.diff(edges, prepend=0, append=HEIGHT * WIDTH).tolist()
    runs: dict[str, Any] = {"counts": counts, "size": [HEIGHT, WIDTH]}
    return json.dumps(runs), str(sum(counts[1::2])), _box(np.array([[0, 0], [WIDTH, HEIGHT]]))


def _box(points: np.ndarray) -> str:
    low, high = points.min(axis=0), points.max(axis=0)
    return json.dumps([*low.tolist(), *(high - low).round(2).tolist()])
