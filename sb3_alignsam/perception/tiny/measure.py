"""The figures of the model card: `python -m sb3_alignsam.perception.tiny.measure`.

How hard the scenes are (flood fill, a centre click, the whole picture) and how well the tiny SAM follows an oracle's
clicks on them, on the val split, which it was never trained on.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click
import cv2
import numpy as np
import torch as th
from tqdm import tqdm

from sb3_alignsam.datasets.base import Sample
from sb3_alignsam.datasets.shapes import ShapesDataset
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.clicks import Click, Clicks, oracle_click
from sb3_alignsam.perception.loading import TINY_WEIGHTS, load_segmenter
from sb3_alignsam.perception.segmenter import Segmenter

TOLERANCES = tuple(range(10, 151, 10))
CLICKS = 5


def iou(mask: np.ndarray, gt: np.ndarray) -> float:
    """Intersection over union of two masks, (H, W) bool; the union is never empty here."""
    return float(np.count_nonzero(mask & gt) / np.count_nonzero(mask | gt))


def flood_fill(image: np.ndarray, seed: Click, tolerance: int) -> np.ndarray:
    """Pixels connected to a click whose colour is within `tolerance` of its own, (H, W) bool."""
    filled = np.zeros((image.shape[0] + 2, image.shape[1] + 2), np.uint8)
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (1 << 8)
    cv2.floodFill(image.copy(), filled, (seed.x, seed.y), 0, (tolerance,) * 3, (tolerance,) * 3, flags)
    return filled[1:-1, 1:-1].astype(bool)


def click_through(segmenter: Segmenter, embedding: th.Tensor, gt: np.ndarray, clicks: int) -> list[float]:
    """IoU after each of an oracle's clicks; the highest predicted IoU chooses among the first click's candidates."""
    mask, previous = np.zeros_like(gt), None
    made: list[Click] = []
    scores: list[float] = []
    for _ in range(clicks):
        made.append(oracle_click(gt, mask, None, made))
        mask, previous = _segment(segmenter, embedding, made, previous, gt.shape)
        scores.append(iou(mask, gt))
    return scores


def _segment(
    segmenter: Segmenter, embedding: th.Tensor, made: list[Click], previous: th.Tensor | None, shape: tuple[int, int]
) -> tuple[np.ndarray, th.Tensor]:
    masks = segmenter.segment(embedding, [Clicks.of(made)], [shape], previous)
    best = int(masks.iou[0].argmax())
    return (masks.upsample(0)[best] > 0).cpu().numpy(), masks.low_res[:, best : best + 1]


def measure(segmenter: Segmenter, samples: list[Sample], progress: bool = True) -> dict[str, float]:
    """All figures of the model card but times, as means over single instances or over scenes (category unions)."""
    fills = np.zeros((len(TOLERANCES), 2))
    single, union, centre, whole = [], [], [], []
    for sample in tqdm(samples, disable=None if progress else True, unit="scene"):
        embedding = segmenter.encode([sample.image])
        union.append(click_through(segmenter, embedding, sample.union, CLICKS))
        single += [click_through(segmenter, embedding, gt, CLICKS) for gt in sample.instances]
        height, width = sample.union.shape
        middle, _ = _segment(segmenter, embedding, [Click(width // 2, height // 2, True)], None, (height, width))
        centre.append(iou(middle, sample.union))
        whole.append(float(sample.union.mean()))
        for row, tolerance in enumerate(TOLERANCES):
            for gt in sample.instances:
                seed = oracle_click(gt, np.zeros_like(gt))
                fills[row] += iou(flood_fill(sample.image, seed, tolerance), gt), 1
    fill = fills[:, 0] / fills[:, 1]
    figures = {f"oracle mIoU@{k} single instances": float(np.mean([s[k - 1] for s in single])) for k in (1, 5)}
    figures |= {f"oracle mIoU@{k} category unions": float(np.mean([s[k - 1] for s in union])) for k in (1, 5)}
    figures["flood fill, best tolerance, single instances"] = float(fill.max())
    figures["flood fill, best tolerance"] = float(TOLERANCES[int(fill.argmax())])
    figures["centre click, category unions"] = float(np.mean(centre))
    figures["whole picture, category unions"] = float(np.mean(whole))
    return figures


def time_calls(segmenter: Segmenter, sample: Sample, repeats: int = 100) -> dict[str, float]:
    """Median milliseconds of one `encode` and of one `segment` for a single environment, on two threads."""
    th.set_num_threads(min(2, th.get_num_threads()))
    embedding = segmenter.encode([sample.image])
    clicks, size = [Clicks(np.array([[90, 90], [30, 30]]), np.array([1, 0]))], [sample.image.shape[:2]]
    previous = th.zeros(1, 1, segmenter.low_res_size, segmenter.low_res_size)
    calls = {
        "encode, median ms": lambda: segmenter.encode([sample.image]),
        "segment, median ms": lambda: segmenter.segment(embedding, clicks, size, previous),
    }
    figures = {}
    for name, call in calls.items():
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        figures[name] = float(np.median(times)) * 1000
    return figures


@click.command()
@click.option("--weights", type=click.Path(path_type=Path), default=TINY_WEIGHTS, help="Else the shipped weights.")
@click.option("--scenes", type=click.IntRange(min=1), default=500, show_default=True, help="How many of the val split.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(weights: Path, scenes: int, json_file: Path | None) -> None:
    """Measure the tiny SAM on the val split of Shapes."""
    try:
        segmenter = load_segmenter("tiny", weights)
    except InputError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    dataset = ShapesDataset("val")
    samples = [dataset.get(index) for index in range(min(scenes, len(dataset)))]
    figures = measure(segmenter, samples) | time_calls(segmenter, samples[0])
    figures["weights, MB"] = weights.stat().st_size / 1e6
    for name, value in figures.items():
        click.echo(f"{name:45} {value:8.3f}")
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
