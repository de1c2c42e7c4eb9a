"""What the sub-commands of `sb3-alignsam benchmark` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from sb3_alignsam.benchmark.timing import cores
from sb3_alignsam.cli.options import table_console
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.report import check_writable, write_json
from sb3_alignsam.perception import SEGMENTERS

checkpoint_option = click.option(
    "--checkpoint", type=click.Path(), help="Weights of repvit_sam; else random ones, which cost the same."
)
json_option = click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures here.")
segmenter_option = click.option("--segmenter", type=click.Choice(SEGMENTERS), default="tiny", show_default=True)
root_option = click.option("--root", type=click.Path(), help="Folder of COCO data; else drawn Shapes.")
env_kwargs_option = click.option(
    "--env-kwargs", multiple=True, metavar="KEY:VALUE ...", help="Keywords of the environment."
)


def threads_asked(asked: int | None) -> int:
    """Threads to use: all cores where none were asked for."""
    most = cores()
    if asked is not None and not 1 <= asked <= most:
        raise InputError(f"--threads needs a whole number from 1 to {most}, the cores of this machine; got {asked}")
    return asked or most


def check_checkpoint(segmenter: str | None, checkpoint: str | None) -> None:
    if checkpoint is not None and segmenter == "tiny":
        raise InputError("--checkpoint is for repvit_sam: leave it out, or --segmenter tiny")
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise InputError(f"--checkpoint {checkpoint} does not exist")


def tell(
    measure: Callable[[], dict[str, Any]],
    show: Callable[[dict[str, Any], Console], None],
    json_file: Path | None,
) -> None:
    """Measure and show; find out before that takes its time whether the file can be written."""
    if json_file is not None:
        check_writable(json_file)
    figures = measure()
    show(figures, table_console())
    if json_file is not None:
        write_json(figures, json_file)
        click.echo(f"figures: {json_file}")
