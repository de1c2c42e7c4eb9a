"""A small folder in COCO's layout, with crowds and instances that are too small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sb3_alignsam.datasets.coco import CocoDataset
from sb3_alignsam.errors import InputError

HEIGHT, WIDTH = 40, 60
CAT, DOG, BIRD = 4, 17, 30


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


BIG, OTHER, SMALL, CROWD = box(5, 5, 20, 20), box(10, 30, 30, 50), box(18, 18, 24, 24), box(0, 0, 8, 60)


def annotation(identity: int, image_id: int, category_id: int, mask: np.ndarray, iscrowd: int = 0) -> dict[str, Any]:
    flat = np.concatenate([[False], mask.T.ravel()])
    counts = np.diff(np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]), [mask.size]])).tolist()
    return {
        "id": identity,
        "image_id": image_id,
        "category_id": category_id,
        "area": int(mask.sum()),
        "iscrowd": iscrowd,
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts},
    }


def content_of_folder() -> dict[str, Any]:
    """Image 8: a dog, two cats, a cat too small and a crowd of cats. Image 3: a dog. Image 5: nothing usable."""
    return {
        "categories": [
            {"id": BIRD, "name": "bird"},
            {"id": CAT, "name": "cat"},
            {"id": DOG, "name": "dog"},
        ],
        "images": [
            {"id": image_id, "file_name": f"{image_id}.png", "height": HEIGHT, "width": WIDTH} for image_id in (8, 3, 5)
        ],
        "annotations": [
            annotation(90, 8, DOG, BIG),
            annotation(70, 8, CAT, OTHER),
            annotation(60, 8, CAT, BIG),
            annotation(50, 8, CAT, SMALL),
            annotation(40, 8, CAT, CROWD, iscrowd=1),
            annotation(30, 3, DOG, OTHER),
            annotation(20, 5, DOG, SMALL),
            annotation(10, 5, BIRD, CROWD, iscrowd=1),
        ],
    }


def pixels(image_id: int) -> np.ndarray:
    return np.random.default_rng(image_id).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def write_folder(root: Path, content: Any, images: str = "train") -> Path:
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    (root / images).mkdir(parents=True)
    for entry in content["images"]:
        Image.fromarray(pixels(entry["id"])).save(root / images / f"{entry['id']}.png")
    return root


def one_line(caught: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def keys(dataset: CocoDataset) -> list[tuple[int, int]]:
    return [(sample.image_id, sample.category_id) for sample in map(dataset.get, range(len(dataset)))]
