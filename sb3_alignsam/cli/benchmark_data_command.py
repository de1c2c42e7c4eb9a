"""`sb3-alignsam benchmark data`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from tqdm import tqdm

from sb3_alignsam.benchmark import tables
from sb3_alignsam.benchmark.data import SPLIT, benchmark_data
from sb3_alignsam.benchmark.made_up_coco import ANNOTATIONS, IMAGES
from sb3_alignsam.cli.benchmark_options import json_option, tell
from sb3_alignsam.cli.options import check_at_least


@click.command("data")
@click.option("--images", default=IMAGES, show_default=True, help="Of the annotation file that is made up.")
@click.option("--annotations", default=ANNOTATIONS, show_default=True, help="Of that file.")
@click.option("--workers", default=4, show_default=True, help="Processes that share the dataset.")
@click.option("--samples", default=100, show_default=True, help="Samples that are timed.")
@click.option("--root", type=click.Path(), help="Folder of COCO data to take them from; else made-up pictures.")
@click.option("--split", default=SPLIT, show_default=True, help="Of that folder.")
@json_option
def data(
    images: int, annotations: int, workers: int, samples: int, root: str | None, split: str, json_file: Path | None
) -> None:
    """Opening annotations of COCO's full size; decoding, resizing and masks of a sample.

    It makes half a gigabyte of annotations in a temporary folder.

    \b
    sb3-alignsam benchmark data
    sb3-alignsam benchmark data --root coco --split val2017 --samples 500
    """
    for name, value in (("images", images), ("annotations", annotations), ("workers", workers), ("samples", samples)):
        check_at_least(f"--{name}", value, 1)
    with tqdm(total=5, disable=not sys.stdout.isatty(), leave=False) as bar:
        tell(
            lambda: benchmark_data(
                images=images,
                annotations=annotations,
                workers=workers,
                samples=samples,
                root=root,
                split=split,
                step=bar.update,
            ),
            tables.print_data,
            json_file,
        )
