"""`sb3-alignsam benchmark tracking`."""

from __future__ import annotations

from pathlib import Path

import click

from sb3_alignsam.benchmark import tables
from sb3_alignsam.benchmark.tracking import benchmark_tracking
from sb3_alignsam.cli.benchmark_options import json_option, tell
from sb3_alignsam.cli.options import check_at_least
from sb3_alignsam.errors import InputError
from sb3_alignsam.training.config import ALGORITHMS


@click.command("tracking")
@click.option("--algo", type=click.Choice(tuple(ALGORITHMS)), default="maskable_ppo", show_default=True)
@click.option("--blocks", default=3, show_default=True, help="Of training with tracking, and as many without.")
@click.option("--seconds", default=120.0, show_default=True, help="Of each block.")
@click.option("--freq", default=5000, show_default=True, help="Steps between two checkpoints, films, evaluations.")
@json_option
def tracking(algo: str, blocks: int, seconds: float, freq: int, json_file: Path | None) -> None:
    """Steps a second with MLflow, films and checkpoints, beside those without.

    \b
    sb3-alignsam benchmark tracking
    sb3-alignsam benchmark tracking --blocks 2 --seconds 40 --freq 1000
    """
    for name, value in (("--blocks", blocks), ("--freq", freq)):
        check_at_least(name, value, 1)
    if not 0 < seconds < 10**6:
        raise InputError(f"--seconds needs a number above 0, got {seconds:g}")
    tell(
        lambda: benchmark_tracking(algo=algo, blocks=blocks, seconds=seconds, freq=freq),
        tables.print_tracking,
        json_file,
    )
