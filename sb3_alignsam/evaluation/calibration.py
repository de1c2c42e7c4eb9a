"""From SAM's predicted IoU to a score that means what it says: the IoU to be expected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_EPISODES = 20
"""Fewer answers than this on dev fit no line worth the name."""


@dataclass(frozen=True)
class Calibration:
    """The line ``slope · predicted + intercept``, cut to 0..1. It rises, so it ranks as the predicted IoU
    does.

    :param slope: above 0. :param intercept: at a predicted IoU of 0. :param episodes: dev answers it was fitted on.
    :param note: what a report says of it.
    """

    slope: float = 1.0
    intercept: float = 0.0
    episodes: int = 0
    note: str = "raw predicted IoU: nothing was calibrated"

    def __call__(self, predicted: float) -> float:
        """The score of one answer, in [0, 1]."""
        return float(np.clip(self.slope * predicted + self.intercept, 0, 1))


def fit_calibration(predicted: np.ndarray, iou: np.ndarray) -> Calibration:
    """Least-squares line from predicted to true IoU of answers on dev episodes, never on those reported.

    :param predicted: (episodes,). :param iou: true IoU, (episodes,).
    :return: where there are fewer than `MIN_EPISODES`, or the line does not rise, the raw predicted IoU.
    """
    if len(predicted) < MIN_EPISODES:
        note = f"raw predicted IoU: {len(predicted)} dev answers are too few to calibrate on, {MIN_EPISODES} are needed"
        return Calibration(note=note)
    centred = predicted - predicted.mean()
    spread = float((centred**2).sum())
    slope = float((centred * (iou - iou.mean())).sum()) / spread if spread > 0 else 0.0
    if slope <= 0:
        return Calibration(note="raw predicted IoU: on dev it does not rise with the true IoU")
    intercept = float(iou.mean() - slope * predicted.mean())
    note = f"predicted IoU calibrated on {len(predicted)} dev answers: {slope:.3f} x predicted {intercept:+.3f}"
    return Calibration(slope, intercept, len(predicted), note)
