"""`sb3-alignsam plot`."""

from __future__ import annotations

from pathlib import Path

import click

from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.learning_curves import plot_clicks, plot_learning
from sb3_alignsam.evaluation.report import check_writable


@click.command("plot")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The picture, a .png."
)
@click.option("--clicks", is_flag=True, help="mIoU after each click, from the reports of eval, not over training.")
@click.option("--split", help="With --clicks, whose report; else val's, or the only one.")
def command(runs: tuple[Path, ...], output: Path, clicks: bool, split: str | None) -> None:
    """Draw learning curves of RUN folders, or click curves, as one picture.

    Runs of one environment, algorithm and policy are taken for seeds: one line, their mean, with a band.

    \b
    sb3-alignsam plot logs/maskable_ppo/SamSegShapes-v0_* -o learning.png
    sb3-alignsam plot logs/ppo/SamSegShapes-v0_1 logs/ppo/SamSegShapes-v0_2 --clicks -o clicks.png
    """
    if split is not None and not clicks:
        raise InputError("--split chooses a report; give --clicks with it")
    if output.suffix.lower() != ".png":
        raise InputError(f"--output needs a file that ends in .png, got {output}")
    check_writable(output)
    if clicks:
        plot_clicks(runs, output, split)
    else:
        plot_learning(runs, output)
    click.echo(output)
