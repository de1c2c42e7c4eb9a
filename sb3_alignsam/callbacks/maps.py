"""`SimilarityPicturesCallback`: the similarity maps that the Explicit agent saw, as pictures."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import torch as th
from stable_baselines3.common.logger import Image

from sb3_alignsam.callbacks.periodic import PeriodicCallback

CELL = 128
"""Side of each picture in pixels."""
TITLES = ("target", "other", "target leads", "mask so far")
MOST = 4
"""Samples shown."""
NOT_PICTURES = ("stdout", "log", "json", "csv")


class SimilarityPicturesCallback(PeriodicCallback):
    """Writes what an `ExplicitExtractor` with ``keep_maps`` saw in the last step of a rollout, one row a sample.

    To SB3's logger (TensorBoard: ``maps/seen``), and to MLflow where the script has a run going.

    :param freq: environment steps, of all environments together, between two pictures; > 0.
    """

    def __init__(self, freq: int = 2000) -> None:
        super().__init__(freq, last=None)

    def _on_rollout_end(self) -> None:
        seen = getattr(self.model.policy.features_extractor, "seen_maps", None)
        if not seen or not self._is_due():
            return
        picture = draw_maps(th.cat([seen["similarity"], _as_large(seen["mask"], seen["similarity"])], dim=1)[:MOST])
        self.logger.record("maps/seen", Image(picture, "HWC"), exclude=NOT_PICTURES)
        # Whoever has a run going has imported mlflow, which takes seconds, already.
        mlflow = sys.modules.get("mlflow")
        if mlflow is not None and mlflow.active_run() is not None:
            mlflow.log_image(picture, key="maps_seen", step=self.num_timesteps)


def draw_maps(maps: th.Tensor) -> np.ndarray:
    """Maps as one picture, a row for each sample and a titled column for each of `TITLES`.

    :param maps: (B, 4, h, w) in 0..1. :return: (H, W, 3) uint8 RGB, dark where a map is low.
    """
    rows = []
    for sample in maps.float().cpu().numpy():
        cells = []
        for values in sample:
            grey = (values.clip(0, 1) * 255).astype(np.uint8)
            large = cv2.resize(grey, (CELL, CELL), interpolation=cv2.INTER_NEAREST)
            cells.append(cv2.copyMakeBorder(cv2.applyColorMap(large, cv2.COLORMAP_VIRIDIS), 2, 2, 2, 2, 0))
        rows.append(np.concatenate(cells, axis=1))
    body = np.concatenate(rows)[..., ::-1]
    head = np.zeros((22, body.shape[1], 3), np.uint8)
    for column, title in enumerate(TITLES):
        place = (column * (CELL + 4) + 6, 16)
        cv2.putText(head, title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([head, body])


def _as_large(mask: th.Tensor, like: th.Tensor) -> th.Tensor:
    return th.nn.functional.interpolate(mask.float(), like.shape[-2:], mode="area")
