"""Episodes and records with figures that a test chooses."""

from __future__ import annotations

import numpy as np

from sb3_alignsam.evaluation.records import EpisodeId, Record
from sb3_alignsam.evaluation.run_lengths import encode_mask


def episode_id(index: int, image_id: int, category: str, area: int = 400) -> EpisodeId:
    """One instance of `area` pixels at the top of a 120 x 100 picture; nothing is ignored."""
    mask = np.zeros((120, 100), bool)
    mask.reshape(-1)[:area] = True
    ignore = encode_mask(np.zeros((120, 100), bool))
    return EpisodeId(index, image_id, category, ord(category[0]), (index + 1,), area, (encode_mask(mask),), ignore)


def made_record(name: str, scores: np.ndarray, uses_ground_truth: bool = False, most: int = 1, **fields) -> Record:
    """A clicker with these IoUs, (episodes, K); `most` clicks are placed in each step. Answers are empty masks."""
    episodes, clicks = scores.shape
    values = {
        **dict.fromkeys(("answer_iou", "last_iou", "predicted_iou", "answer_dice", "answer_boundary_iou"), scores),
        "clicks_at": np.tile(np.arange(1, clicks + 1) * most, (episodes, 1)),
        "stopped_at": np.full(episodes, -1),
        "clicks": [[(5, 6, 1)] * clicks for _ in range(episodes)],
        "answers": [encode_mask(np.zeros((120, 100), bool)) for _ in range(episodes)],
    }
    return Record(name, uses_ground_truth, **{**values, **fields})
