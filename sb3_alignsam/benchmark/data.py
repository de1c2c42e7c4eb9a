"""Opening annotations of COCO's full size, and reading samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from sb3_alignsam.benchmark.made_up_coco import ANNOTATIONS, HEIGHT, IMAGES, WIDTH, write_made_up
from sb3_alignsam.benchmark.timing import Spread, about_machine
from sb3_alignsam.benchmark.workloads import Workload, run_case

SPLIT = "train2017"
SAM_SIZE = 1024
"""Longest side to which SAM's input is resized."""
_PHOTOGRAPHS = 60


def benchmark_data(
    *,
    images: int = IMAGES,
    annotations: int = ANNOTATIONS,
    workers: int = 4,
    samples: int = 100,
    root: str | None = None,
    split: str = SPLIT,
    step: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Open an annotation file that is made up for it, first without and then with its index; then time samples.

    Each part runs in a process of its own. The made-up file and its index are removed afterwards.

    :param images: of the made-up file. :param annotations: of it. :param workers: processes that share the dataset.
    :param samples: how many are timed. :param root: folder of COCO data to take them from; None: made-up photographs.
    :param split: of `root`. :param step: is called after every part.
    :return: plain values. :raises InputError: `root` cannot be used. :raises RunError: a process failed.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / SPLIT).mkdir()
        (folder / "annotations").mkdir()
        path = folder / "annotations" / f"instances_{SPLIT}.json"
        write_made_up(path, images, annotations)
        step()
        work = Workload("", {}, "none", folder)
        case = {"root": name, "split": SPLIT}
        parts = {}
        for part in ("first", "again"):
            parts[part], _ = run_case("data_case", {"what": "open", **case}, work)
            step()
        index = next(iter((folder / "annotations").glob(".*.index")), None)
        shared, _ = run_case("data_case", {"what": "workers", "count": workers, **case}, work)
        step()
        if root is None:
            root, split = str(_few_photographs(folder)), SPLIT
        read, _ = run_case(
            "data_case", {"what": "samples", "root": root, "split": split, "count": samples, "size": SAM_SIZE}, work
        )
        step()
        return {
            "benchmark": "data",
            **about_machine("cpu"),
            "images": images,
            "annotations": annotations,
            "json_bytes": path.stat().st_size,
            "index_bytes": index and index.stat().st_size,
            "open": parts,
            "workers": shared,
            "samples": {key: Spread(tuple(read[key])).figures() for key in ("seconds", "cpu_seconds")}
            | {"instances": read["instances"]},
        }


def _few_photographs(folder: Path) -> Path:
    """A small dataset of the same records with pictures that cost a decoder about what photographs do."""
    root, rng = folder / "few", np.random.default_rng(0)
    (root / SPLIT).mkdir(parents=True)
    (root / "annotations").mkdir()
    path = root / "annotations" / f"instances_{SPLIT}.json"
    write_made_up(path, _PHOTOGRAPHS, 7 * _PHOTOGRAPHS)
    for entry in json.loads(path.read_bytes())["images"]:
        coarse = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        noise = rng.normal(0, 8, (HEIGHT, WIDTH, 3))
        picture = (cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) + noise).clip(0, 255)
        cv2.imwrite(str(root / SPLIT / entry["file_name"]), picture.astype(np.uint8))
    return root
