"""What the tiny SAM learns from: batches of scenes with click targets, and the clicks of a simulated user.

A target is one object, all objects of a category, or a few at random. SAM cannot know from one click which of them is
meant, so the mask to predict after some clicks is the union of the parts that were clicked (so each instance of a
category can be added with one positive click), while the predicted IoU is trained against the whole target: more
parts clicked, higher confidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch as th
from torch.utils.data import IterableDataset

from sb3_alignsam.datasets.shape_scenes import CATEGORIES, SIZE, Scene, draw_scene
from sb3_alignsam.perception.clicks import oracle_click

LOW_RES = 128
"""Side of the mask decoder's low-res logits at `tiny`."""
DENSE = 64
"""Side of the auxiliary dense targets."""
TARGETS_PER_IMAGE = 2
MAX_PARTS = 4


@dataclass
class Batch:
    """:param images: (B, 256, 256, 3) uint8. :param parts: (B, T, 4, 128, 128) bool, unused parts empty.
    :param category: (B, 64, 64) int64, category index, or the number of categories on the background.
    :param offset: (B, 2, 64, 64) float32, from each pixel to its object's centre in units of 64 px, 0 outside.
    :param valid: (B, 2) int64 height and width in pixels that are not padding."""

    images: th.Tensor
    parts: th.Tensor
    category: th.Tensor
    offset: th.Tensor
    valid: th.Tensor


class TargetStream(IterableDataset):
    """Endless batches; update number k is always the same batch, so that a resumed run sees what it would have seen."""

    def __init__(self, seed: int, start: int, stop: int, batch_size: int) -> None:
        self.seed, self.start, self.stop, self.batch_size = seed, start, stop, batch_size

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        worker = th.utils.data.get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for update in range(self.start + first, self.stop, step):
            yield self.batch(update)

    def batch(self, update: int) -> Batch:
        rows = [_row(np.random.default_rng((self.seed, update, index))) for index in range(self.batch_size)]
        return Batch(*(th.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))


def _row(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    scene = draw_scene(rng)
    image, valid = scene.image, np.array([SIZE, SIZE])
    if rng.random() < 0.15:  # Letterboxed photographs have padding at the right or at the bottom.
        valid[rng.integers(2)] = rng.integers(SIZE // 2, SIZE)
    inside = np.zeros((SIZE, SIZE), bool)
    inside[: valid[0], : valid[1]] = True
    instances = scene.instances & inside
    scene = Scene(image, instances, scene.labels)
    category, offset = _dense_targets(scene)
    parts = np.stack([_parts(rng, scene) for _ in range(TARGETS_PER_IMAGE)])
    return image, parts, category, offset, valid


def _parts(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    """The objects of one target, (4, 128, 128) bool; those beyond four are left out of it."""
    alive = np.flatnonzero(scene.instances.sum(axis=(1, 2)) >= 60)
    if not len(alive):
        alive = np.arange(1)
    chosen = rng.choice(alive, 1)
    kind = rng.random()
    if kind < 0.55:
        chosen = alive[scene.labels[alive] == scene.labels[chosen[0]]]
    elif kind < 0.65:
        chosen = rng.permutation(alive)[: rng.integers(1, 4)]
    chosen = rng.permutation(chosen)[:MAX_PARTS]
    parts = np.zeros((MAX_PARTS, LOW_RES, LOW_RES), bool)
    for slot, index in enumerate(chosen):
        small = cv2.resize(scene.instances[index].astype(np.float32), (LOW_RES, LOW_RES), interpolation=cv2.INTER_AREA)
        parts[slot] = small >= 0.5
    return parts


def _dense_targets(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    pick = SIZE // DENSE
    small = scene.instances[:, pick // 2 :: pick, pick // 2 :: pick]
    category = np.full((DENSE, DENSE), len(CATEGORIES), np.int64)
    offset = np.zeros((2, DENSE, DENSE), np.float32)
    for mask, label in zip(small, scene.labels, strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            category[mask] = label
            offset[0][mask], offset[1][mask] = (rows.mean() - rows) / 16, (columns.mean() - columns) / 16
    return category, offset


def user_clicks(
    rng: np.random.Generator, targets: np.ndarray, predictions: np.ndarray, stray: float
) -> tuple[np.ndarray, np.ndarray]:
    """One more click for each target: half by the oracle's rule, half anywhere in the error, a few astray.

    :param targets: (N, 128, 128) bool. :param predictions: (N, 128, 128) bool; all False before the first click.
    :param stray: share of clicks at a random pixel, labelled as it is.
    :return: points (N, 2) float32 x, y in pixels of the padded square, and labels (N,) int64.
    """
    points, labels = np.zeros((len(targets), 2), np.float32), np.zeros(len(targets), np.int64)
    for index, (target, prediction) in enumerate(zip(targets, predictions, strict=True)):
        error = np.flatnonzero(target != prediction)
        kind = rng.random()
        if kind < stray or not len(error):
            y, x = divmod(int(rng.integers(target.size)), LOW_RES)
        elif kind < 0.5 + stray / 2:
            click = oracle_click(target, prediction)
            y, x = click.y, click.x
        else:
            y, x = divmod(int(rng.choice(error)), LOW_RES)
        labels[index] = target[y, x]
        points[index] = (x, y)
    return points * (SIZE / LOW_RES) + rng.integers(0, SIZE // LOW_RES, points.shape), labels


def clicked_parts(parts: th.Tensor, points: th.Tensor, labels: th.Tensor) -> th.Tensor:
    """Union of the parts that hold a positive click.

    :param parts: (N, P, 128, 128) bool. :param points: (N, K, 2) in pixels of the padded square.
    :param labels: (N, K). :return: (N, 128, 128) bool.
    """
    cell = (points / (SIZE // LOW_RES)).long().clamp(0, LOW_RES - 1)
    row = th.arange(len(parts))[:, None]
    hit = parts[row, :, cell[..., 1], cell[..., 0]] & (labels == 1)[..., None]
    return (parts & hit.any(dim=1)[:, :, None, None]).any(dim=1)
