"""One evaluation, start to finish: an agent and baselines on a split, as table, JSON and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from tqdm import tqdm

from sb3_alignsam.evaluation.agents import load_agent, make_clickers
from sb3_alignsam.evaluation.protocol import evaluate, spread
from sb3_alignsam.evaluation.report import check_writable, plot_curves, print_table, summary, write_json


def evaluate_run(
    run: Path,
    *,
    split: str | None = None,
    load_best: bool = False,
    episodes: int | None = None,
    clicks: int | None = None,
    baselines: Sequence[str] | None = (),
    env_kwargs: Mapping[str, Any] | None = None,
    out: Path | None = None,
    json_file: Path | None = None,
    console: Console | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Evaluate a run and write ``eval_<split>.json`` and ``eval_<split>.png``.

    :param baselines: names; None: `DEFAULT_BASELINES`.
    :param episodes: how many, spread evenly over the split; None: all. :param clicks: None: the run's budget.
    :param out: folder of the two files; None: ``report/`` beside the zip. :param json_file: another place for the JSON.
    :return: the figures, see `summary`.
    :raises InputError: the run, the split, a baseline, a keyword or a place to write to cannot be used.
    """
    console = console or Console(quiet=True)
    agent = load_agent(run, split, load_best, env_kwargs)
    clicks = clicks or agent.env.max_steps
    folder = out or agent.zip_path.parent / "report"
    json_path = json_file or folder / f"eval_{agent.env.dataset.split}.json"
    picture = folder / f"eval_{agent.env.dataset.split}.png"
    for path in (json_path, picture):
        check_writable(path)
    total = len(agent.env.dataset)
    indices = spread(total, total if episodes is None else episodes)
    clickers = make_clickers(agent, baselines, clicks, lambda line: console.print(line, soft_wrap=True))
    with tqdm(total=len(indices), disable=not progress, unit="episode") as bar:
        ids, records = evaluate(agent.env, clickers, indices, clicks, bar.update)
    about = {
        "zip": agent.zip_path.name,
        "env_id": agent.description.env_id,
        "split": agent.env.dataset.split,
        "num_timesteps": agent.description.num_timesteps,
        "clicks": clicks,
    }
    report = summary(ids, records, about)
    write_json(report, json_path)
    plot_curves(report, picture)
    print_table(report, console)
    console.print(f"figures: {json_path}\ncurves:  {picture}", soft_wrap=True)
    return report
