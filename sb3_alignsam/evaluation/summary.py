"""All figures of an evaluation in plain values, as the JSON report has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sb3_alignsam.evaluation.aggregate import mean_over_runs, stratified_iqm, task_scores
from sb3_alignsam.evaluation.calibration import Calibration
from sb3_alignsam.evaluation.coco_results import coco_figures, coco_ground_truth, coco_results
from sb3_alignsam.evaluation.metrics import bootstrap_mean, bootstrap_means, falls, miou_at, noc, stop_quality
from sb3_alignsam.evaluation.records import EpisodeId, Record

AGENT = "agent"
GROUPED = ("miou", "dice", "boundary_iou")


def summary(
    ids: Sequence[EpisodeId],
    records: Sequence[Record],
    about: dict[str, Any],
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """Figures of every clicker on the same episodes; `about` says what was evaluated.

    :param calibration: of the agent's scores in COCO's figures; others have the raw predicted IoU.
    """
    calibration = calibration or Calibration()
    truths = {targets: coco_ground_truth(ids, targets) for targets in ("unions", "instances")}
    rows = []
    for record in records:
        score = calibration if record.name == AGENT else Calibration()
        results = coco_results(ids, record, score)
        coco = {targets: coco_figures(truth, results) for targets, truth in truths.items()}
        rows.append({**clicker_figures(ids, record), "coco": coco})
    return {
        **about,
        "num_episodes": len(ids),
        "calibration": asdict(calibration),
        "clickers": rows,
        "differences": differences(records),
        "episodes": [each.listed() for each in ids],
    }


def clicker_figures(ids: Sequence[EpisodeId], record: Record) -> dict[str, Any]:
    """Figures of one clicker but those of COCO; see `docs/evaluation.md` for each."""
    return {
        "name": record.name,
        "uses_ground_truth": record.uses_ground_truth,
        "miou_at": _intervals(record.answer_iou),
        "last_mask_miou_at": _intervals(record.last_iou),
        "dice_at": _intervals(record.answer_dice),
        "boundary_iou_at": _intervals(record.answer_boundary_iou),
        "noc": noc(record.answer_iou, record.clicks_at),
        "answer_falls": falls(record.answer_iou),
        "last_mask_falls": falls(record.last_iou),
        "stop": stop_quality(record.answer_iou, record.stopped_at),
        "by_category": grouped(record, [each.category for each in ids]),
        "by_size": grouped(record, [each.size_class for each in ids]),
        "clicks_placed": float(record.clicks_placed.mean()),
        "answer_iou": record.answer_iou.round(5).tolist(),
    }


def _intervals(scores: np.ndarray) -> list[dict[str, float]]:
    return [asdict(interval) for interval in miou_at(scores)]


def grouped(record: Record, groups: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Mean IoU, Dice and boundary IoU of the last answers in each group of episodes, and how many it has."""
    last = np.stack([record.answer_iou[:, -1], record.answer_dice[:, -1], record.answer_boundary_iou[:, -1]], axis=1)
    names = np.array(groups)
    figures = {}
    for name in sorted(set(groups)):
        chosen = last[names == name]
        means = [asdict(interval) for interval in bootstrap_means(chosen)]
        figures[name] = {"episodes": len(chosen), **dict(zip(GROUPED, means, strict=True))}
    return figures


def differences(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """How far the agent's last answers are above each other clicker's on the same episodes, with the paired interval;
    nothing where there is no agent."""
    agents = [record for record in records if record.name == AGENT]
    if not agents:
        return {}
    own = agents[0].answer_iou[:, -1]
    others = [record for record in records if record.name != AGENT]
    return {other.name: asdict(bootstrap_mean(own - other.answer_iou[:, -1])) for other in others}


def summary_of_runs(
    ids: Sequence[EpisodeId], runs: Sequence[Sequence[Record]], about: dict[str, Any], zips: Sequence[str]
) -> dict[str, Any]:
    """Figures of several runs of one configuration that played the same episodes.

    :param runs: each run's records, the same clickers in each. :param zips: what each run's agent was loaded from.
    """
    categories = [each.category for each in ids]
    rows = [_over_runs(of_one, categories) for of_one in zip(*runs, strict=True)]
    own = [row for row in rows if row["name"] == AGENT]
    agent = np.mean([_named(records, AGENT).answer_iou[:, -1] for records in runs], axis=0) if own else None
    against = {}
    for row in rows:
        if agent is not None and row["name"] != AGENT:
            other = np.mean([_named(records, row["name"]).answer_iou[:, -1] for records in runs], axis=0)
            against[row["name"]] = asdict(bootstrap_mean(agent - other))
    return {
        **about,
        "zips": list(zips),
        "num_runs": len(runs),
        "num_episodes": len(ids),
        "clickers": rows,
        "differences": against,
        "episodes": [each.listed() for each in ids],
    }


def _over_runs(records: Sequence[Record], categories: Sequence[str]) -> dict[str, Any]:
    """One clicker's figures over runs; a baseline that no run changes is the same in each."""
    answers = np.stack([record.answer_iou for record in records])
    last = np.stack([record.last_iou for record in records])
    clicks = range(answers.shape[2])
    return {
        "name": records[0].name,
        "uses_ground_truth": records[0].uses_ground_truth,
        "miou_at": [asdict(mean_over_runs(answers[:, :, k])) for k in clicks],
        "iqm_at": [asdict(stratified_iqm(task_scores(answers[:, :, k], categories))) for k in clicks],
        "last_mask_miou_at": [asdict(mean_over_runs(last[:, :, k])) for k in clicks],
        "miou_of_runs": answers[:, :, -1].mean(axis=1).tolist(),
        "clicks_placed": float(np.mean([record.clicks_placed.mean() for record in records])),
    }


def _named(records: Sequence[Record], name: str) -> Record:
    return next(record for record in records if record.name == name)
