"""`sb3-alignsam sync`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import click

from sb3_alignsam.tracking.addresses import checked
from sb3_alignsam.tracking.late import sync
from sb3_alignsam.training.run_folder import ARGS, alone


@click.command("sync")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--tracking-uri", metavar="URI", help="MLflow server or database; else the run's own.")
def command(run: Path, tracking_uri: str | None) -> None:
    """Send to MLflow what training could not, and files of RUN that are newer: reports, films. Nothing is sent twice.

    \b
    sb3-alignsam sync logs/ppo/SamSegShapes-v0_1
    sb3-alignsam sync logs/ppo/SamSegShapes-v0_1 --tracking-uri http://127.0.0.1:5000
    """
    inner = next((path.parent for path in sorted(run.glob(f"*/{ARGS}"))), None)
    with nullcontext() if inner is None else alone(run, inner.name):
        sent = sync(run, None if tracking_uri is None else checked(tracking_uri))
    for line in sent.refused:
        click.echo(f"warning: {line}", err=True)
    click.echo(f"sent {sent.entries} entries of the journal and {sent.files} new files to {sent.uri}")
