"""What an evaluation writes down of each episode and of each clicker; plain data that can be kept and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SMALL, MEDIUM = 32**2, 96**2
"""Areas in pixels² of the original image at which COCO's medium and large objects begin."""


@dataclass(frozen=True)
class EpisodeId:
    """Which episode it was, and its ground truth.

    :param index: in the split. :param image_id: the dataset's own. :param category: its name.
    :param category_id: the dataset's own.
    :param instance_ids: of the category's instances in the image.
    :param area: pixels of their union, in the original image.
    :param instances: their masks as run lengths, see `encode_mask`. :param ignore: pixels that count for nothing.
    """

    index: int
    image_id: int
    category: str
    category_id: int
    instance_ids: tuple[int, ...]
    area: int
    instances: tuple[dict[str, Any], ...]
    ignore: dict[str, Any]

    @property
    def size_class(self) -> str:
        """COCO's area class of the union: small, medium or large."""
        return "small" if self.area < SMALL else "medium" if self.area < MEDIUM else "large"

    def listed(self) -> dict[str, Any]:
        """The episode as a report lists it."""
        names = ("index", "image_id", "category", "category_id", "area")
        own = {name: getattr(self, name) for name in names}
        return {**own, "size_class": self.size_class, "instance_ids": list(self.instance_ids)}

    def to_plain(self) -> dict[str, Any]:
        """Everything in JSON's own types."""
        return {**vars(self), "instance_ids": list(self.instance_ids), "instances": list(self.instances)}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> EpisodeId:
        """What `to_plain` gave."""
        tuples = {name: tuple(values[name]) for name in ("instance_ids", "instances")}
        return cls(**{**values, **tuples})


@dataclass
class Record:
    """What one clicker did. K steps; a clicker that stopped keeps its answer to the last of them.

    :param name: of the clicker. :param uses_ground_truth: as it says itself.
    :param answer_iou: IoU of the answer after each step, (episodes, K) float64.
    :param last_iou: IoU of the latest mask after each step, (episodes, K) float64.
    :param predicted_iou: the segmenter's own estimate for the answer, (episodes, K) float64.
    :param answer_dice: Dice of the answer, (episodes, K) float64.
    :param answer_boundary_iou: boundary IoU of the answer, (episodes, K) float64.
    :param clicks_at: clicks placed until after each step, (episodes, K) int64; several may be placed in one.
    :param stopped_at: steps made before the stop, (episodes,) int64; -1: it never stopped.
    :param clicks: each episode's clicks as (x, y, 1 positive or 0 negative) in pixels of the image.
    :param answers: each episode's last answer as run lengths, see `encode_mask`.
    """

    name: str
    uses_ground_truth: bool
    answer_iou: np.ndarray
    last_iou: np.ndarray
    predicted_iou: np.ndarray
    answer_dice: np.ndarray
    answer_boundary_iou: np.ndarray
    clicks_at: np.ndarray
    stopped_at: np.ndarray
    clicks: list[list[tuple[int, int, int]]]
    answers: list[dict[str, Any]]

    @property
    def clicks_placed(self) -> np.ndarray:
        """Clicks made in all, (episodes,) int64; more than steps where several are made in one."""
        return self.clicks_at[:, -1]

    def to_plain(self) -> dict[str, Any]:
        """Everything in JSON's own types; numbers come back exactly."""
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in vars(self).items()}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Record:
        """What `to_plain` gave."""
        whole = ("clicks_at", "stopped_at")
        scores = ("answer_iou", "last_iou", "predicted_iou", "answer_dice", "answer_boundary_iou")
        arrays = {key: np.array(values[key], np.int64) for key in whole}
        arrays |= {key: np.array(values[key], np.float64) for key in scores}
        clicks = [[(x, y, label) for x, y, label in each] for each in values["clicks"]]
        return cls(**{**values, **arrays, "clicks": clicks})


def join_records(parts: Sequence[Record]) -> Record:
    """One record of one clicker's batches, in their order."""
    joined: dict[str, Any] = {"name": parts[0].name, "uses_ground_truth": parts[0].uses_ground_truth}
    for key, value in vars(parts[0]).items():
        if isinstance(value, np.ndarray):
            joined[key] = np.concatenate([getattr(part, key) for part in parts])
        elif isinstance(value, list):
            joined[key] = [each for part in parts for each in getattr(part, key)]
    return Record(**joined)
