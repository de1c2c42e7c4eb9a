"""Curves of one or several run folders in one picture: how they learnt, and how they click."""

from __future__ import annotations

import csv
import json
import textwrap
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.aggregate import mean_over_runs
from sb3_alignsam.evaluation.curves import draw_curve, empty_figure, finish, other_colours, write_figure
from sb3_alignsam.evaluation.summary import AGENT
from sb3_alignsam.yaml_files import read_yaml

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Curve:
    """What one run did over training.

    :param steps: environment steps, (n,), ascending. :param values: (n,).
    """

    steps: np.ndarray
    values: np.ndarray


def plot_learning(runs: Sequence[Path], path: Path) -> None:
    """Draw the learning curves of runs as a PNG: mIoU on dev where each run has evaluations, else the IoU of training
    episodes. Runs of one algorithm and policy are one line, the mean of its seeds, with a band from the lowest to the
    highest of them.

    :raises InputError: a folder holds no curve, or seeds have no step in common.
    """
    evaluated = all((run / "evaluations.npz").is_file() for run in runs)
    read, ylabel = (_dev_curve, "mIoU on dev") if evaluated else (_training_curve, "IoU of training episodes")
    figure, axes = empty_figure()
    colours = other_colours()
    for name, members in grouped_runs(runs).items():
        steps, matrix = on_common_steps([read(run) for run in members], name)
        colour, label = next(colours), _label(name, members)
        axes.plot(steps, matrix.mean(axis=0), color=colour, label=label, linewidth=2, marker=".", markersize=4)
        if len(members) > 1:
            axes.fill_between(steps, matrix.min(axis=0), matrix.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="environment steps", ylabel=ylabel, ylim=(0, 1))
    axes.set_title("mean over runs, bands: lowest to highest run", fontsize=10)
    write_figure(figure, axes, path)


def plot_clicks(runs: Sequence[Path], path: Path, split: str | None = None) -> None:
    """Draw the click curves that `eval` wrote as a PNG: agents with 95 % bands and, dotted, their latest masks'; below
    them the baselines of the first run's report.

    :param split: which report; None: val's, or the only one there is.
    :raises InputError: a run has no such report, or the reports of seeds are not of the same episodes.
    """
    reports = {run: _report(run, split) for run in runs}
    figure, axes = empty_figure()
    colours = other_colours()
    for name, members in grouped_runs(runs).items():
        row = _mean_row([reports[run] for run in members], name)
        draw_curve(axes, row, next(colours), _label(name, members), 2.4, "its latest mask")
    first = reports[runs[0]]
    _draw_baselines(axes, [row for row in first["clickers"] if row["name"] != AGENT])
    axes.set_title(f"{first['split']}, {first['num_episodes']} episodes, bands: 95 % bootstrap", fontsize=10)
    finish(figure, axes, max(len(report["clickers"][0]["miou_at"]) for report in reports.values()), path)


def _draw_baselines(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    """Thin grey lines that markers tell apart: colours are for agents."""
    markers = cycle("osv^<>DpPX*hd")
    for row, shade in zip(rows, np.linspace(0.35, 0.7, max(len(rows), 2)), strict=False):
        mean = [each["mean"] for each in row["miou_at"]]
        truth = row["uses_ground_truth"]
        label = row["name"] + (" (ground truth)" if truth else "")
        look: dict[str, Any] = {
            "linestyle": "--" if truth else "-",
            "marker": next(markers),
            "markersize": 3.5,
            "linewidth": 1,
        }
        axes.plot(range(1, len(mean) + 1), mean, color=str(shade), label=label, zorder=1, **look)


def grouped_runs(runs: Iterable[Path]) -> dict[str, list[Path]]:
    """Runs by environment, algorithm and policy, in the order in which they were named.

    :raises InputError: a run is no folder.
    """
    groups: dict[str, list[Path]] = {}
    for run in runs:
        if not run.is_dir():
            raise InputError(f"{run} is no run folder; give one that `train` wrote")
        groups.setdefault(_kind(run), []).append(run)
    return groups


def _label(name: str, members: Sequence[Path]) -> str:
    """A legend's text, in lines that leave room for the plot."""
    return textwrap.fill(f"{name}, {len(members)} runs" if len(members) > 1 else name, 32)


def _kind(run: Path) -> str:
    """Environment, algorithm and policy, by the folder's names and its configuration."""
    folder = run.resolve()
    names = [folder.name.rpartition("_")[0] or folder.name, folder.parent.name]
    for file in sorted(run.glob("*/config.yml")):
        try:
            config = read_yaml(file).content
        except InputError:
            continue  # a label is not worth an error
        if "policy" in config:
            names.append(str(config["policy"]).rpartition(".")[2])
            break
    return " ".join(names)


def on_common_steps(curves: Sequence[Curve], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Curves of several runs at the same steps: those of all of them within what every run reached, linear between.

    :return: steps, (n,), and values, (runs, n).
    :raises InputError: no step lies within all of them.
    """
    start, end = max(curve.steps[0] for curve in curves), min(curve.steps[-1] for curve in curves)
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    steps = steps[(steps >= start) & (steps <= end)]
    if not len(steps):
        raise InputError(f"the runs of {name} have no environment step in common; plot them one by one")
    return steps, np.stack([np.interp(steps, curve.steps, curve.values) for curve in curves])


def _dev_curve(run: Path) -> Curve:
    path = run / "evaluations.npz"
    try:
        with np.load(path, allow_pickle=False) as content:
            steps, values = content["timesteps"].astype(float), content["results"].mean(axis=1)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())[:150]}") from error
    return _curve(steps, values, path)


def _training_curve(run: Path) -> Curve:
    path = run / "progress.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        pairs = [(float(row["time/total_timesteps"]), float(row["rollout/iou"])) for row in rows if row["rollout/iou"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run} has neither evaluations.npz nor a progress.csv with rollout/iou: {error}") from error
    return _curve(np.array([step for step, _ in pairs]), np.array([value for _, value in pairs]), path)


def _curve(steps: np.ndarray, values: np.ndarray, path: Path) -> Curve:
    """A curve with ascending steps; of two values at one step, such as the last evaluations of a run, the later."""
    if not len(steps):
        raise InputError(f"{path} holds no value yet")
    unique, last = np.unique(steps[::-1], return_index=True)
    return Curve(unique, values[::-1][last])


def _report(run: Path, split: str | None) -> dict[str, Any]:
    folder = run / "report"
    found = sorted(each.stem for each in folder.glob("eval_*.json") if not each.stem.endswith(("_coco", "_runs")))
    splits = [stem.removeprefix("eval_") for stem in found]
    chosen = split or ("val" if "val" in splits else splits[0] if len(splits) == 1 else None)
    if chosen is None or chosen not in splits:
        there = f"it has {', '.join(splits)}" if splits else "run `sb3-alignsam eval` on it first"
        raise InputError(f"{folder} has no report of split {chosen or 'val'}: {there}")
    path = folder / f"eval_{chosen}.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        for key in ("split", "num_episodes", "episodes"):
            report[key]
        _agent(report)
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise InputError(f"{path} is no report of `eval`: {error!r}") from error
    return report


def _agent(report: dict[str, Any]) -> dict[str, Any]:
    return next(row for row in report["clickers"] if row["name"] == AGENT)


def _mean_row(reports: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """The agent's figures over the reports of several seeds, as `draw_curve` takes them."""
    rows = [_agent(report) for report in reports]
    if len(rows) == 1:
        return rows[0]
    episodes = [[each["index"] for each in report["episodes"]] for report in reports]
    scores = [np.array(row["answer_iou"]) for row in rows]
    if any(each != episodes[0] for each in episodes) or len({each.shape for each in scores}) > 1:
        raise InputError(f"the reports of {name} are not of the same episodes and clicks; evaluate them alike")
    matrix = np.stack(scores)
    last = np.mean([[each["mean"] for each in row["last_mask_miou_at"]] for row in rows], axis=0)
    return {
        **rows[0],
        "miou_at": [vars(mean_over_runs(matrix[:, :, k])) for k in range(matrix.shape[2])],
        "last_mask_miou_at": [{"mean": value} for value in last],
    }
