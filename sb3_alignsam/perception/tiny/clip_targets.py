"""What the tiny CLIP learns from: batches of scenes, which categories each cell shows, and captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch as th
from torch.utils.data import IterableDataset

from sb3_alignsam.datasets.shape_scenes import CATEGORIES, Scene, draw_scene
from sb3_alignsam.perception.clip_prompts import PROMPT_TEMPLATES
from sb3_alignsam.perception.geometry import resize_longest_side
from sb3_alignsam.perception.tiny.clip_model import BACKGROUND, MAP_SIZE, PATCH_SIZE

SIDE = MAP_SIZE // PATCH_SIZE
"""Tokens a side: scenes are enlarged as they are for similarity maps."""
CENTRE = 6
"""Side in pixels of the middle of a token's cell, which is what it learns to name: a click goes there, and the middle
of a ring or of a crescent is no ring and no crescent."""
OBJECTS = (3, 14)
"""Least and most objects of a scene; the environment's own have up to 8, but more of them teach more an update."""
CROPPED_BATCHES = 0.2
"""Share of batches that are cropped to another height or width, because photographs are no squares."""


@dataclass
class CaptionedBatch:
    """:param images: (B, H, W, 3) uint8. :param shares: part of each cell's pixels that shows a category, background
    last, (B, h, w, categories + 1) float32, sums to 1. :param names: a sentence on each category and on the background.
    :param captions: a sentence on each scene. :param same: whether two scenes show the same categories, (B, B) bool."""

    images: th.Tensor
    shares: th.Tensor
    names: list[str]
    captions: list[str]
    same: th.Tensor


class CaptionStream(IterableDataset):
    """Endless batches; update number k is always the same batch, so that a resumed run sees what it would have seen."""

    def __init__(self, seed: int, start: int, stop: int, batch_size: int) -> None:
        self.seed, self.start, self.stop, self.batch_size = seed, start, stop, batch_size

    def __iter__(self) -> Iterator[CaptionedBatch]:
        cv2.setNumThreads(1)
        worker = th.utils.data.get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for update in range(self.start + first, self.stop, step):
            yield self.batch(update)

    def batch(self, update: int) -> CaptionedBatch:
        """Batch number `update`."""
        rng = np.random.default_rng((self.seed, update, 7))
        scenes = [draw_scene(rng, objects=OBJECTS) for _ in range(self.batch_size)]
        rows, columns = _crop(rng)
        images = np.stack(
            [
                resize_longest_side(scene.image, MAP_SIZE)[: rows * PATCH_SIZE, : columns * PATCH_SIZE]
                for scene in scenes
            ]
        )
        shares = np.stack([cell_shares(scene)[:rows, :columns] for scene in scenes])
        present = shares[..., :-1].sum((1, 2)) > 0
        names = [_sentence(rng, name) for name in (*CATEGORIES, BACKGROUND)]
        captions = [_caption(rng, np.flatnonzero(row)) for row in present]
        same = (present[:, None] == present[None]).all(-1)
        return CaptionedBatch(th.from_numpy(images), th.from_numpy(shares), names, captions, th.from_numpy(same))


def cell_shares(scene: Scene) -> np.ndarray:
    """Part of the middle of each cell that shows a category, background last, (SIDE, SIDE, categories + 1)
    float32."""
    masks = np.zeros((len(CATEGORIES), MAP_SIZE, MAP_SIZE), bool)
    for mask, label in zip(scene.instances, scene.labels, strict=True):
        enlarged = cv2.resize(mask.astype(np.uint8), (MAP_SIZE, MAP_SIZE), interpolation=cv2.INTER_NEAREST)
        masks[label] |= enlarged.astype(bool)
    edge = (PATCH_SIZE - CENTRE) // 2
    cells = masks.reshape(len(CATEGORIES), SIDE, PATCH_SIZE, SIDE, PATCH_SIZE)
    centres = cells[:, :, edge : edge + CENTRE, :, edge : edge + CENTRE]
    shares = centres.mean((2, 4), dtype=np.float32)
    background = 1 - shares.sum(axis=0, keepdims=True)
    return np.concatenate([shares, background]).transpose(1, 2, 0)


def _crop(rng: np.random.Generator) -> tuple[int, int]:
    """Rows and columns of tokens that are kept."""
    size = [SIDE, SIDE]
    if rng.random() < CROPPED_BATCHES:
        size[rng.integers(2)] = int(rng.integers(SIDE // 2, SIDE))
    return size[0], size[1]


def _sentence(rng: np.random.Generator, name: str) -> str:
    return PROMPT_TEMPLATES[rng.integers(len(PROMPT_TEMPLATES))].format(name)


def _caption(rng: np.random.Generator, categories: Sequence[int] | np.ndarray) -> str:
    names = [CATEGORIES[index] for index in rng.permutation(categories)]
    return _sentence(rng, " and a ".join(names) or BACKGROUND)
