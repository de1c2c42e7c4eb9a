"""Answers as COCO results, and what COCO's own evaluation makes of them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from sb3_alignsam.evaluation.records import EpisodeId, Record
from sb3_alignsam.evaluation.run_lengths import decode_mask, encode_mask

Targets = Literal["unions", "instances"]
STATS = (
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR1",
    "AR10",
    "AR100",
    "AR_small",
    "AR_medium",
    "AR_large",
)
"""The twelve figures of `COCOeval.summarize`, in its order."""


def coco_results(
    ids: Sequence[EpisodeId], record: Record, score: Callable[[float], float] = float
) -> list[dict[str, Any]]:
    """One result an episode: its last answer, less ignored pixels, as COCO's results format has it.

    Nothing is said where the answer has no pixel that counts.

    :param score: from predicted IoU to the result's score, see `Calibration`.
    """
    results = []
    for row, episode in enumerate(ids):
        mask = decode_mask(record.answers[row]) & ~decode_mask(episode.ignore)
        if mask.any():
            results.append(
                {
                    "image_id": episode.image_id,
                    "category_id": episode.category_id,
                    "segmentation": encode_mask(mask),
                    "score": score(float(record.predicted_iou[row, -1])),
                }
            )
    return results


def coco_ground_truth(ids: Sequence[EpisodeId], targets: Targets) -> dict[str, Any]:
    """The episodes' ground truth as a COCO dataset, ignored pixels left out.

    :param targets: ``unions``: one annotation an episode; ``instances``: one for each instance of its category.
    """
    annotations: list[dict[str, Any]] = []
    for episode in ids:
        counted = ~decode_mask(episode.ignore)
        masks = [decode_mask(runs) & counted for runs in episode.instances]
        if targets == "unions":
            masks = [np.logical_or.reduce(masks)] if masks else []
        # From 1 on: COCOeval takes an annotation of id 0 for one that was not matched.
        annotations += [_annotation(len(annotations) + 1 + n, episode, m) for n, m in enumerate(masks) if m.any()]
    sizes = {episode.image_id: episode.ignore["size"] for episode in ids}
    names = {episode.category_id: episode.category for episode in ids}
    return {
        "images": [{"id": each, "height": height, "width": width} for each, (height, width) in sorted(sizes.items())],
        "categories": [{"id": each, "name": name} for each, name in sorted(names.items())],
        "annotations": annotations,
    }


def _annotation(identity: int, episode: EpisodeId, mask: np.ndarray) -> dict[str, Any]:
    return {
        "id": identity,
        "image_id": episode.image_id,
        "category_id": episode.category_id,
        "segmentation": encode_mask(mask),
        "area": int(np.count_nonzero(mask)),
        "bbox": _box(mask),
        "iscrowd": 0,
    }


def _box(mask: np.ndarray) -> list[int]:
    """Left, top, width and height of a mask that is not empty, in pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]


def coco_figures(ground_truth: dict[str, Any], results: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """AP and AR of masks by `COCOeval`, named as `STATS`; None where no ground truth is of that size.

    Images that hold a category but were no episode of it are no part of `ground_truth`, so nothing found there counts
    as wrong: read these figures beside others on the same episodes, not beside a detector's.

    :param ground_truth: of `coco_ground_truth`. :param results: of `coco_results`; may be none.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = ground_truth
        truth.createIndex()
        if results:
            found = truth.loadRes([dict(each) for each in results])
        else:  # `loadRes([])` raises IndexError
            found.dataset = {**ground_truth, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: None if value < 0 else float(value) for name, value in zip(STATS, evaluation.stats, strict=True)}
