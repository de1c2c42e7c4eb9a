"""`SamSegShapes-v0`'s data: an endless train split and fixed dev and val splits of drawn scenes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from sb3_alignsam.datasets.base import Sample, check_categories
from sb3_alignsam.datasets.shape_scenes import CATEGORIES, SIZE, Scene, draw_scene
from sb3_alignsam.errors import InputError

SPLIT_SIZES = {"dev": 200, "val": 500}
"""Scenes, each with one target category, of the fixed splits."""
TRAIN_SCENES = 2**31 - 1
"""Scenes of the train split: more than anybody will draw."""
_SPLIT_SEEDS = {"train": 1, "dev": 2, "val": 3}


class ShapesDataset:
    """Drawn scenes; fulfils `Dataset`. Scene i of a split is always the same picture, its target category is ``i % 8``.

    :param split: ``train``, ``dev`` or ``val``.
    :param categories: target categories, None for all eight.
    :raises InputError: the split or a category is unknown.
    """

    name = "shapes"
    in_files = False

    def __init__(self, split: str = "train", categories: Sequence[str] | None = None) -> None:
        if split not in _SPLIT_SEEDS:
            raise InputError(f"split '{split}' is not in shapes; known: {', '.join(_SPLIT_SEEDS)}")
        self.split = split
        self._total = SPLIT_SIZES.get(split, TRAIN_SCENES)
        self._targets = list(range(len(CATEGORIES)))
        self.configure_targets(categories)

    @property
    def categories(self) -> tuple[str, ...]:
        """The eight shape names, in the order of their ids (id = index + 1, since COCO ids start at 1)."""
        return CATEGORIES

    def configure_targets(self, categories: Sequence[str] | None) -> tuple[list[int], list[int]]:
        """Restrict the targets; see `Dataset.configure_targets`. The image ids of the train split are not listed."""
        names = CATEGORIES if categories is None else check_categories(categories, CATEGORIES, "shapes")
        self._targets = sorted(CATEGORIES.index(name) for name in names)
        if not self._targets:
            raise InputError("no target category is left; name at least one")
        images = [] if self.split == "train" else [self._scene_number(index) + 1 for index in range(len(self))]
        return [target + 1 for target in self._targets], images

    def __len__(self) -> int:
        """Scenes whose target is configured."""
        rounds, rest = divmod(self._total, len(CATEGORIES))
        return rounds * len(self._targets) + sum(target < rest for target in self._targets)

    def draw(self, rng: np.random.Generator) -> int:
        """The index of a scene, each as likely."""
        return int(rng.integers(len(self)))

    def sample(self, rng: np.random.Generator, categories: Sequence[str] | None = None) -> Sample:
        """A scene drawn uniformly, with its own target or with one of `categories`."""
        if categories is None:
            return self.get(self.draw(rng))
        targets = [CATEGORIES.index(name) for name in check_categories(categories, CATEGORIES, "shapes")]
        target = int(rng.choice(targets))
        rounds = self._total // len(CATEGORIES)
        return self._sample(int(rng.integers(rounds)) * len(CATEGORIES) + target)

    def get(self, index: int) -> Sample:
        """Scene number `index` of those whose target is configured."""
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside 0..{len(self) - 1}")
        return self._sample(self._scene_number(index))

    def pairs(self) -> np.ndarray | None:
        """Image id and category id of each episode, (N, 2) int64; None: the train split has no end."""
        if self.split == "train":
            return None
        numbers = np.array([self._scene_number(index) for index in range(len(self))], np.int64)
        return np.stack([numbers + 1, numbers % len(CATEGORIES) + 1], axis=1)

    def get_absent(self, index: int, choice: int) -> Sample:
        """On the scene of an episode, one of a target category that is not on it, see `Dataset`."""
        number = self._scene_number(index)
        labels = self.scene(number).labels
        absent = [target for target in self._targets if target not in labels]
        return self._sample(number, absent[choice % len(absent)]) if absent else self.get(index)

    def get_all(self, index: int) -> list[Sample]:
        """On the scene of an episode, one of each target category that is on it, the episode's first."""
        number = self._scene_number(index)
        shown = set(self.scene(number).labels.tolist())
        others = [target for target in self._targets if target in shown and target != number % len(CATEGORIES)]
        return [self.get(index), *(self._sample(number, target) for target in others)]

    def scene(self, number: int) -> Scene:
        """The picture and all objects of one scene of this split, whatever its target."""
        return _fixed_scene(_SPLIT_SEEDS[self.split], number)

    def _scene_number(self, index: int) -> int:
        group, place = divmod(index, len(self._targets))
        return group * len(CATEGORIES) + self._targets[place]

    def _sample(self, number: int, target: int | None = None) -> Sample:
        """A scene with its own target, or with another one."""
        scene, target = self.scene(number), number % len(CATEGORIES) if target is None else target
        chosen = np.flatnonzero(scene.labels == target)
        return Sample(
            image=scene.image,
            category=CATEGORIES[target],
            category_id=target + 1,
            instances=scene.instances[chosen],
            ignore=np.zeros((SIZE, SIZE), bool),
            image_id=number + 1,
            instance_ids=tuple(int(index) + 1 for index in chosen),
        )

    def write_coco(self, folder: str | Path, count: int) -> Path:
        """Write the first `count` scenes as a COCO dataset: `annotations/instances_<split>.json` and PNG images.

        :return: the annotation file. It is written last and at once, so that a stopped call leaves no half dataset.
        """
        folder = Path(folder)
        images_folder, annotations_folder = folder / self.split, folder / "annotations"
        for each in (images_folder, annotations_folder):
            each.mkdir(parents=True, exist_ok=True)
        images: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for number in range(count):
            scene, name = self.scene(number), f"{number + 1:012d}.png"
            if not cv2.imwrite(str(images_folder / name), scene.image[..., ::-1]):
                raise InputError(f"{images_folder / name} could not be written; is the folder writable and not full?")
            images.append({"id": number + 1, "file_name": name, "height": SIZE, "width": SIZE})
            for mask, label in zip(scene.instances, scene.labels, strict=True):
                annotations.append(_annotation(len(annotations) + 1, number + 1, int(label) + 1, mask))
        categories = [{"id": index + 1, "name": name} for index, name in enumerate(CATEGORIES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = annotations_folder / f"instances_{self.split}.json"
        path.with_suffix(".tmp").write_text(json.dumps(content))
        os.replace(path.with_suffix(".tmp"), path)
        return path


def _annotation(identity: int, image_id: int, category_id: int, mask: np.ndarray) -> dict[str, object]:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "id": identity,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")},
        "area": int(mask.sum()),
        "bbox": [float(value) for value in coco_mask.toBbox(encoded)],
        "iscrowd": 0,
    }


@lru_cache(maxsize=8)
def _fixed_scene(split_seed: int, number: int) -> Scene:
    return draw_scene(np.random.default_rng((split_seed, number)), number % len(CATEGORIES))
