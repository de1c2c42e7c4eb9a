"""`sb3-alignsam eval`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from sb3_alignsam.cli.options import PairsCommand, check_at_least, read_env_kwargs, table_console, trust_options
from sb3_alignsam.envs.sam_seg_env import MAX_STEPS
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.agents import DEFAULT_BASELINES
from sb3_alignsam.evaluation.run import evaluate_run, evaluate_runs
from sb3_alignsam.policies.baselines import BASELINES
from sb3_alignsam.policies.foreign import Trust


@click.command("eval", cls=PairsCommand)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--load-best", is_flag=True, help="The best model on dev, not the last one.")
@click.option("--split", help="Dataset split; else val (ADE20K: validation), of COCO the run's own.")
@click.option("--episodes", default="200", show_default=True, help="How many, spread over the split; or all.")
@click.option("--clicks", type=int, help="Clicks an episode; else the run's budget.")
@click.option(
    "--baselines",
    help=f"Names with commas between, or none; else {', '.join(DEFAULT_BASELINES)}. "
    f"Also known: {', '.join(sorted(set(BASELINES) - set(DEFAULT_BASELINES)))}.",
)
@click.option("--env-kwargs", multiple=True, metavar="KEY:VALUE ...", help="Replace keywords of the environment.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here, not to RUN/report.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of figures and curves; else RUN/report."
)
@trust_options
def command(
    runs: tuple[Path, ...],
    load_best: bool,
    split: str | None,
    episodes: str,
    clicks: int | None,
    baselines: str | None,
    env_kwargs: tuple[str, ...],
    json_file: Path | None,
    out: Path | None,
    trust: bool,
    env_id: str | None,
) -> None:
    """Measure an agent, RUN folder or zip, against baselines on the same episodes.

    Shows mIoU after each click and other measures, and writes tables, figures, curves, a contact sheet and COCO results
    to RUN/report. Several RUNs are taken for seeds of one configuration and also reported together. An evaluation that
    was stopped goes on when the same command is given again.

    \b
    sb3-alignsam eval logs/ppo/SamSegShapes-v0_1 --episodes all
    sb3-alignsam eval logs/ppo/SamSegShapes-v0_1 --clicks 20 --baselines clip,oracle
    sb3-alignsam eval logs/ppo/SamSegCoco-v0_1 --split val2017
    sb3-alignsam eval logs/ppo/SamSegShapes-v0_1 logs/ppo/SamSegShapes-v0_2 logs/ppo/SamSegShapes-v0_3
    """
    if clicks is not None:
        check_at_least("--clicks", clicks, 1)
        if clicks > MAX_STEPS:
            raise InputError(f"--clicks needs a whole number <= {MAX_STEPS}, got {clicks}")
    if episodes != "all" and (not episodes.isdecimal() or int(episodes) < 1):
        raise InputError(f"--episodes needs a whole number >= 1, or all; got '{episodes}'")
    settings: dict[str, Any] = {
        "split": split,
        "load_best": load_best,
        "episodes": None if episodes == "all" else int(episodes),
        "clicks": clicks,
        "baselines": None if baselines is None else _names(baselines),
        "env_kwargs": read_env_kwargs(env_kwargs),
        "trust": Trust(trust, env_id),
        "out": out,
        "json_file": json_file,
        "console": table_console(),
        "progress": sys.stdout.isatty(),
    }
    if len(runs) == 1:
        evaluate_run(runs[0], **settings)
    else:
        evaluate_runs(runs, **settings)


def _names(text: str) -> list[str]:
    """Names with commas between; none where the text is empty or says so."""
    return [] if text in ("", "none") else [name.strip() for name in text.split(",")]
