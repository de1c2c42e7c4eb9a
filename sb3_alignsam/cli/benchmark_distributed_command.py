"""`sb3-alignsam benchmark distributed`."""

from __future__ import annotations

from pathlib import Path

import click

from sb3_alignsam.benchmark import tables
from sb3_alignsam.benchmark.distributed import benchmark_distributed
from sb3_alignsam.cli.benchmark_options import json_option, tell
from sb3_alignsam.cli.options import PairsCommand, check_at_least, read_pairs
from sb3_alignsam.training.config import ALGORITHMS


@click.command("distributed", cls=PairsCommand)
@click.option("--ranks", default=2, show_default=True, help="Processes, each on a core of its own.")
@click.option("--algo", type=click.Choice(tuple(ALGORITHMS)), default="maskable_ppo", show_default=True)
@click.option("--agent", type=click.Choice(("implicit", "explicit")), default="implicit", show_default=True)
@click.option("--repeats", default=10, show_default=True, help="Turns, after one to warm up.")
@click.option("--hyperparams", "-params", multiple=True, metavar="KEY:VALUE ...", help="Replace hyperparameters.")
@json_option
def distributed(
    ranks: int, algo: str, agent: str, repeats: int, hyperparams: tuple[str, ...], json_file: Path | None
) -> None:
    """The update on several ranks beside that of one process.

    \b
    sb3-alignsam benchmark distributed
    sb3-alignsam benchmark distributed --ranks 4 -params n_envs:16 batch_size:256
    """
    check_at_least("--ranks", ranks, 2)
    check_at_least("--repeats", repeats, 1)
    tell(
        lambda: benchmark_distributed(
            size=ranks, algo=algo, agent=agent, hyperparams=read_pairs(hyperparams, "-params"), repeats=repeats
        ),
        tables.print_distributed,
        json_file,
    )
