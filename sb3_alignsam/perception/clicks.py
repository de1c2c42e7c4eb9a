"""Clicks, and the rule by which a person who knows the ground truth would place the next one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Click:
    """One click on an image.

    :param x: column in pixels of the original image, from the left.
    :param y: row in pixels of the original image, from the top.
    :param positive: the pixel belongs to the target, or does not.
    """

    x: int
    y: int
    positive: bool


@dataclass(frozen=True)
class Clicks:
    """All clicks on one image so far, as the segmenter takes them.

    :param points_xy: (N, 2) x, y in pixels of the original image; stored as float32.
    :param labels: (N,) 1 positive, 0 negative; stored as int64.
    :raises ValueError: the shapes do not fit, a label is neither 0 nor 1, or there is no click.
    """

    points_xy: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        points = np.asarray(self.points_xy, np.float32)
        labels = np.asarray(self.labels, np.int64)
        if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1] or not len(points):
            raise ValueError(
                f"clicks need points (N, 2) and labels (N,), N >= 1; got {points.shape} and {labels.shape}"
            )
        if not {0, 1}.issuperset(labels.tolist()):
            raise ValueError(f"click labels are 1 (positive) or 0 (negative); got {labels.tolist()}")
        object.__setattr__(self, "points_xy", points)
        object.__setattr__(self, "labels", labels)

    @classmethod
    def of(cls, clicks: Sequence[Click]) -> Clicks:
        """Collect single clicks."""
        return cls(np.array([[c.x, c.y] for c in clicks], np.float32), np.array([c.positive for c in clicks], np.int64))

    def __len__(self) -> int:
        return len(self.labels)


def oracle_click(
    gt: np.ndarray, prediction: np.ndarray, ignore: np.ndarray | None = None, clicked: Iterable[Click] | None = None
) -> Click:
    """The next click by RITM's rule: the inmost pixel of the missed or of the surplus region, whichever lies deeper.

    Sofiiuk et al., "Reviving Iterative Training with Mask Guidance", 2021, section 4 (their `Clicker`): distance
    transforms with the border counted as outside; a pixel that was clicked before is not clicked again. Where
    nothing is wrong, the rule yields a negative click at the first pixel.

    :param gt: ground truth, (H, W) bool.
    :param prediction: current mask, (H, W) bool.
    :param ignore: pixels that are neither right nor wrong, (H, W) bool.
    :param clicked: clicks made so far.
    """
    missed, surplus = error_depths(gt, prediction, ignore)
    for click in clicked or ():
        missed[click.y, click.x] = surplus[click.y, click.x] = 0
    positive = bool(missed.max() > surplus.max())
    depth = missed if positive else surplus
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return Click(int(x), int(y), positive)


def error_depths(
    gt: np.ndarray, prediction: np.ndarray, ignore: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """How deep each pixel lies in what the prediction misses and in what it has too much.

    :param gt: ground truth, (H, W) bool. :param prediction: current mask, (H, W) bool.
    :param ignore: pixels that are neither right nor wrong, (H, W) bool.
    :return: squared distances to the outside of the missed and of the surplus region, in pixels, each (H, W) int64.
    """
    gt, prediction = np.asarray(gt, bool), np.asarray(prediction, bool)
    counted = np.ones_like(gt) if ignore is None else ~np.asarray(ignore, bool)
    return _depth(gt & ~prediction & counted), _depth(~gt & prediction & counted)


def _depth(region: np.ndarray) -> np.ndarray:
    """Squared distance of each pixel to the outside of `region`, the picture's border included; (H, W) int64.

    Squared and rounded it is exact: OpenCV's distances differ in the last bit with its number of threads, and a tie
    that is broken by such a bit is another click.
    """
    distance = cv2.distanceTransform(np.pad(region.astype(np.uint8), 1), cv2.DIST_L2, 0)[1:-1, 1:-1]
    return np.rint(distance.astype(np.float64) ** 2).astype(np.int64)
