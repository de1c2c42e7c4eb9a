"""`sb3-alignsam benchmark`: a group, one sub-command for each part that is timed."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from sb3_alignsam.benchmark.perception import benchmark_perception
from sb3_alignsam.benchmark.tables import print_tables
from sb3_alignsam.benchmark.timing import cores
from sb3_alignsam.cli.options import check_at_least
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.report import check_writable, write_json
from sb3_alignsam.perception import SEGMENTERS


@click.group("benchmark")
def command() -> None:
    """Time parts of the package beside what they replace.

    \b
    sb3-alignsam benchmark perception --threads 2 --json figures.json
    """


@command.command("perception")
@click.option("--segmenter", type=click.Choice(SEGMENTERS), help="Which one; else all of them.")
@click.option("--checkpoint", type=click.Path(), help="Weights of repvit_sam; else random ones, which cost the same.")
@click.option("--clip", is_flag=True, help="Also CLIP Surgery of ViT-B/16's size, random weights, 512 pixels.")
@click.option("--repeats", default=10, show_default=True, help="Of every call, after one to warm up.")
@click.option("--threads", "num_threads", type=int, help="Threads of torch; else all cores.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures here.")
def perception(
    segmenter: str | None,
    checkpoint: str | None,
    clip: bool,
    repeats: int,
    num_threads: int | None,
    device: str,
    json_file: Path | None,
) -> None:
    """Time the frozen networks: encoding an image, segmenting clicks; memory too.

    \b
    sb3-alignsam benchmark perception --threads 2 --json figures.json
    sb3-alignsam benchmark perception --segmenter repvit_sam --checkpoint repvit_sam.pt --clip
    """
    check_at_least("--repeats", repeats, 1)
    most = cores()
    if num_threads is not None and not 1 <= num_threads <= most:
        raise InputError(
            f"--threads needs a whole number from 1 to {most}, the cores of this machine; got {num_threads}"
        )
    if checkpoint is not None and segmenter == "tiny":
        raise InputError("--checkpoint is for repvit_sam: leave it out, or --segmenter tiny")
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise InputError(f"--checkpoint {checkpoint} does not exist")
    if json_file is not None:
        check_writable(json_file)
    figures = benchmark_perception(
        SEGMENTERS if segmenter is None else (segmenter,),
        repeats=repeats,
        num_threads=num_threads or most,
        device=device,
        checkpoint=checkpoint,
        clip=clip,
        progress=sys.stdout.isatty(),
    )
    print_tables(figures, Console())
    if json_file is not None:
        write_json(figures, json_file)
        click.echo(f"figures: {json_file}")
