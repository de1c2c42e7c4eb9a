"""A running episode as plain data: what its clicks have led to is kept, what follows from its index is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th

from sb3_alignsam.envs.episode import Answer, ClickEpisode
from sb3_alignsam.envs.rewards import MaskScores
from sb3_alignsam.perception.clicks import Click


def episode_state(episode: ClickEpisode) -> dict[str, Any]:
    """An episode as mappings, lists, numbers and arrays; image and features are left out, its index stands for them.

    :raises RuntimeError: it is none of a dataset's episodes.
    """
    if episode.index is None:
        raise RuntimeError("an episode that no dataset numbers cannot be restored")
    return {
        "index": episode.index,
        "clicks": [[click.x, click.y, click.positive] for click in episode.clicks],
        # Never computed again: kernels round differently for other numbers of episodes in a batch.
        "low_res": None if episode.low_res is None else episode.low_res.cpu().numpy(),
        "found": episode.found,
        "excluded": _packed(episode.excluded),
        "last": _answer_state(episode.last),
        "answer": _answer_state(episode.answer),
        "best_score": episode.best_score,
    }


def restore_episode(episode: ClickEpisode, state: dict[str, Any], device: th.device) -> None:
    """Bring a fresh episode of the same index to where `episode_state` found another.

    :param device: of the segmenter, where the logits go.
    """
    episode.clicks = [Click(int(x), int(y), bool(positive)) for x, y, positive in state["clicks"]]
    low_res = state["low_res"]
    episode.low_res = None if low_res is None else th.from_numpy(low_res.copy()).to(device)
    episode.found = state["found"].copy()
    episode.excluded = _unpacked(state["excluded"])
    episode.last, episode.answer = _answer(state["last"]), _answer(state["answer"])
    episode.best_score = state["best_score"]


def _answer_state(answer: Answer) -> dict[str, Any]:
    return {
        "mask": _packed(answer.mask),
        "predicted_iou": answer.predicted_iou,
        "iou": answer.scores.iou,
        "dice": answer.scores.dice,
        "score": answer.score,
        "excluded_share": answer.excluded_share,
    }


def _answer(state: dict[str, Any]) -> Answer:
    scores = MaskScores(state["iou"], state["dice"])
    return Answer(_unpacked(state["mask"]), state["predicted_iou"], scores, state["score"], state["excluded_share"])


def _packed(mask: np.ndarray) -> dict[str, Any]:
    return {"shape": list(mask.shape), "bits": np.packbits(mask)}


def _unpacked(state: dict[str, Any]) -> np.ndarray:
    shape = tuple(state["shape"])
    return np.unpackbits(state["bits"], count=int(np.prod(shape))).astype(bool).reshape(shape)
