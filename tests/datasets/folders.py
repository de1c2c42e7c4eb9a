"""Small dataset folders in the layout and encoding of the real ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.datasets.shape_scenes import Scene

SCENE_PARSING = (13, 21, 1)
"""Labels that the first three shapes get in SceneParsing's folder, the others 0: person, car, wall."""
FULL_CLASSES = {
    "person, individual, someone, somebody, mortal, soul": 1831,
    "car, auto, automobile, machine, motorcar": 401,
    "wall": 2978,
    "door knob": 775,
}
"""Names of the full release with numbers; the last is none of the 150."""
CITY = (24, 26, 7, 11, 21, 23)
"""Cityscapes' labels of the first six shapes, the others 0: person, car, road, building, vegetation, sky."""


def write_scene_parsing(root: Path, split: str, count: int, first: int = 0) -> Path:
    """``images/<split>/*.jpg`` and ``annotations/<split>/*.png``, 8 bits."""
    kind = {"training": "train", "validation": "val"}[split]
    for number, scene in _scenes(count, first):
        stem = f"ADE_{kind}_{number + 1:08d}"
        labels = np.zeros(scene.image.shape[:2], np.uint8)
        for mask, label in zip(scene.instances, scene.labels, strict=True):
            labels[mask] = SCENE_PARSING[label] if label < len(SCENE_PARSING) else 0
        _save(scene.image, root / "images" / split / f"{stem}.jpg")
        _save(labels, root / "annotations" / split / f"{stem}.png")
    return root


def write_full_release(root: Path, split: str, count: int) -> Path:
    """``images/ADE/<split>/<group>/<scene>/`` with ``.jpg``, ``_seg.png`` and ``.json``."""
    numbers = list(FULL_CLASSES.values())
    for number, scene in _scenes(count):
        folder = root / "images" / "ADE" / split / "urban" / "street"
        stem = f"ADE_train_{number + 1:08d}"
        pixels = np.zeros(scene.image.shape, np.uint8)
        objects = []
        for instance, (mask, label) in enumerate(zip(scene.instances, scene.labels, strict=True), start=1):
            if label < len(numbers):
                number = numbers[label]
                pixels[mask] = (number // 256 * 10, number % 256, instance)
                objects.append({"id": instance - 1, "name": list(FULL_CLASSES)[label], "name_ndx": number,
                                "raw_name": "x", "parts": {"part_level": 0}})  # fmt: skip
        _save(scene.image, folder / f"{stem}.jpg")
        _save(pixels, folder / f"{stem}_seg.png")
        described = {"annotation": {"filename": f"{stem}.jpg", "folder": "ADE20K/images", "object": objects}}
        (folder / f"{stem}.json").write_text(json.dumps(described), encoding="utf-8")
    return root


def write_cityscapes(root: Path, split: str, count: int, first: int = 0) -> Path:
    """``leftImg8bit/<split>/<city>/`` and ``gtFine/<split>/<city>/``, 8 and 16 bits; two cities."""
    for number, scene in _scenes(count, first):
        city = ("aachen", "bremen")[number % 2]
        stem = f"{city}_000000_{number:06d}"
        labels = np.zeros(scene.image.shape[:2], np.uint8)
        instances = np.zeros(scene.image.shape[:2], np.uint16)
        for place, (mask, label) in enumerate(zip(scene.instances, scene.labels, strict=True)):
            if label < len(CITY):
                value = CITY[label]
                labels[mask] = value
                instances[mask] = value * 1000 + place if value >= 24 else value
        _save(scene.image, root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png")
        _save(labels, root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png")
        _save(instances, root / "gtFine" / split / city / f"{stem}_gtFine_instanceIds.png")
    return root


def _scenes(count: int, first: int = 0) -> list[tuple[int, Scene]]:
    dataset = ShapesDataset("val")
    return [(number, dataset.scene(number)) for number in range(first, first + count)]


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
