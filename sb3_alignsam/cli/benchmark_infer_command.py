"""`sb3-alignsam benchmark infer`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from tqdm import tqdm

from sb3_alignsam.benchmark import tables
from sb3_alignsam.benchmark.inference import POLICIES, benchmark_infer
from sb3_alignsam.cli.benchmark_options import (
    check_checkpoint,
    checkpoint_option,
    json_option,
    segmenter_option,
    tell,
    threads_asked,
)
from sb3_alignsam.cli.options import check_at_least


@click.command("infer")
@segmenter_option
@checkpoint_option
@click.option("--agent", type=click.Choice(tuple(POLICIES)), default="implicit", show_default=True)
@click.option("--repeats", default=50, show_default=True, help="Photographs, after one to warm up.")
@click.option("--threads", "num_threads", type=int, help="Threads of torch and onnxruntime; else all cores.")
@click.option("--device", default="cpu", show_default=True, help="Of torch: auto, cpu, cuda or mps.")
@json_option
def infer(
    segmenter: str,
    checkpoint: str | None,
    agent: str,
    repeats: int,
    num_threads: int | None,
    device: str,
    json_file: Path | None,
) -> None:
    """A photograph's time from pixels to mask, by torch and by onnxruntime.

    \b
    sb3-alignsam benchmark infer --agent explicit
    sb3-alignsam benchmark infer --segmenter repvit_sam --repeats 20 --json figures.json
    """
    check_at_least("--repeats", repeats, 1)
    num_threads = threads_asked(num_threads)
    check_checkpoint(segmenter, checkpoint)
    with tqdm(total=repeats + 1, disable=not sys.stdout.isatty(), leave=False) as bar:
        tell(
            lambda: benchmark_infer(
                segmenter,
                agent,
                repeats=repeats,
                num_threads=num_threads,
                device=device,
                checkpoint=checkpoint,
                step=bar.update,
            ),
            tables.print_infer,
            json_file,
        )
