"""The figures of the tiny CLIP's model card: `python -m sb3_alignsam.perception.tiny.clip_measure`.

On the val split, which it was never trained on: does a map's maximum fall on the target, and how much of the target
does the map cover.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import numpy as np
import torch as th
from tqdm import tqdm

from sb3_alignsam.datasets.shapes import ShapesDataset
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.clip_surgery import ClipSurgery
from sb3_alignsam.perception.similarity import SimilarityMaps, image_tokens, token_grid
from sb3_alignsam.perception.text_models import TINY_CLIP_WEIGHTS, load_tiny_clip

MAP_THRESHOLD = 0.5


def measure(clip: ClipSurgery, dataset: ShapesDataset, scenes: int, progress: bool = True) -> dict[str, float]:
    """Pointing accuracy and map IoU over the scenes' targets, in scenes with two categories or more.

    *Pointing*: the pixel of the map's maximum lies on an object of the target category. *Map IoU*: of the pixels above
    `MAP_THRESHOLD` of the stretched map with the union of these objects. *Another*: the maximum lies on an object of
    another category.
    """
    maps = SimilarityMaps(clip, dataset.categories)
    hits, others, ious = [], [], []
    for index in tqdm(range(scenes), disable=None if progress else True, unit="scene"):
        scene, sample = dataset.scene(index), dataset.get(index)
        if len(set(scene.labels)) < 2:
            continue
        tokens = image_tokens(clip, sample.image)
        score = maps.scores(tokens, sample.category)[:, 0]
        rows, columns = token_grid(clip, *sample.union.shape)
        assert rows == columns
        dense = ClipSurgery.similarity_map(score[None, :, None], sample.union.shape)[0, :, :, 0].numpy()
        at = np.unravel_index(int(dense.argmax()), dense.shape)
        hits.append(bool(sample.union[at]))
        others.append(bool((scene.instances.any(axis=0) & ~sample.union)[at]))
        mask = dense > MAP_THRESHOLD
        ious.append(np.count_nonzero(mask & sample.union) / np.count_nonzero(mask | sample.union))
    return {
        "scenes with several categories": float(len(hits)),
        "pointing accuracy": float(np.mean(hits)),
        "maximum on another category": float(np.mean(others)),
        "map IoU": float(np.mean(ious)),
    }


@click.command()
@click.option("--weights", type=click.Path(path_type=Path), default=TINY_CLIP_WEIGHTS, help="Else the shipped weights.")
@click.option("--split", default="val", show_default=True)
@click.option("--scenes", type=click.IntRange(min=1), default=500, show_default=True, help="How many of the split.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(weights: Path, split: str, scenes: int, json_file: Path | None) -> None:
    """Measure the tiny CLIP on Shapes."""
    try:
        clip, dataset = load_tiny_clip(weights), ShapesDataset(split)
    except InputError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    th.set_num_threads(min(2, th.get_num_threads()))
    figures = measure(clip, dataset, min(scenes, len(dataset)))
    figures["weights, MB"] = weights.stat().st_size / 1e6
    for name, value in figures.items():
        click.echo(f"{name:45} {value:8.3f}")
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
