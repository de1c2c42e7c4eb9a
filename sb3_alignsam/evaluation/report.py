"""An evaluation as a table, as JSON and as a picture of curves."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAVY
from rich.console import Console
from rich.table import Table

from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.metrics import miou_at
from sb3_alignsam.evaluation.records import EpisodeId, Record


def summary(ids: Sequence[EpisodeId], records: Sequence[Record], about: dict[str, Any]) -> dict[str, Any]:
    """All figures of an evaluation in plain values; `about` says what was evaluated."""
    return {
        **about,
        "num_episodes": len(ids),
        "clickers": [
            {
                "name": record.name,
                "uses_ground_truth": record.uses_ground_truth,
                "miou_at": [asdict(interval) for interval in miou_at(record.answer_iou)],
                "last_mask_miou_at": [asdict(interval) for interval in miou_at(record.last_iou)],
                "clicks_placed": float(record.clicks_placed.mean()),
                "answer_iou": record.answer_iou.round(5).tolist(),
            }
            for record in records
        ],
        "episodes": [each.listed() for each in ids],
    }


def print_table(report: dict[str, Any], console: Console) -> None:
    """Show mIoU@k of each clicker, best last click first, with the 95 % interval of the last."""
    rows = sorted(report["clickers"], key=lambda row: -row["miou_at"][-1]["mean"])
    clicks = len(rows[0]["miou_at"])
    title = f"{report['split']}: {report['num_episodes']} episodes, mIoU@k of the answer after k clicks"
    caption = "\n".join(["truth: uses ground truth", *_more_clicks(rows, clicks)])
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.box, table.pad_edge = SIMPLE_HEAVY, False
    table.add_column("clicker", no_wrap=True)
    table.add_column("truth", no_wrap=True)
    for k in range(1, clicks + 1):
        table.add_column(f"@{k}", justify="right", no_wrap=True)
    table.add_column(f"95 % of @{clicks}", justify="right", no_wrap=True)
    for row in rows:
        last = row["miou_at"][-1]
        means = [f"{each['mean']:.3f}" for each in row["miou_at"]]
        truth = "yes" if row["uses_ground_truth"] else "no"
        style = "bold" if row["name"] == "agent" else None
        table.add_row(row["name"], truth, *means, f"{last['low']:.3f}..{last['high']:.3f}", style=style)
    console.print(table)


def _more_clicks(rows: Sequence[dict[str, Any]], clicks: int) -> list[str]:
    """A line on those who made more clicks than their columns say, so that none is compared with them unawares."""
    more = [f"{row['name']} {row['clicks_placed']:.0f}" for row in rows if row["clicks_placed"] > clicks]
    return [f"clicks on average, all in the first step: {', '.join(more)}"] if more else []


def check_writable(path: Path) -> None:
    """Find out before long work whether a file can be written.

    :raises InputError: it cannot; the message says why.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    if path.is_dir():
        raise InputError(f"{path} cannot be written: it is a folder")


def write_json(report: dict[str, Any], path: Path) -> None:
    """Write figures; a kill leaves the previous file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(report, indent=1))
    os.replace(temporary, path)


def plot_curves(report: dict[str, Any], path: Path) -> None:
    """Draw mIoU@k of each clicker with its 95 % band, as a PNG."""
    # Imported here: matplotlib costs a second and 100 MB, which training workers need not pay.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    rows = sorted(report["clickers"], key=lambda row: -row["miou_at"][-1]["mean"])
    for row in rows:
        clicks = list(range(1, len(row["miou_at"]) + 1))
        mean = [each["mean"] for each in row["miou_at"]]
        style = "--" if row["uses_ground_truth"] else "-"
        label = row["name"] + (" (ground truth)" if row["uses_ground_truth"] else "")
        label += f" ({row['clicks_placed']:.0f} clicks at once)" if row["clicks_placed"] > clicks[-1] else ""
        width = 3 if row["name"] == "agent" else 1.5
        (line,) = axes.plot(clicks, mean, style, marker="o", markersize=4, linewidth=width, label=label)
        low, high = [each["low"] for each in row["miou_at"]], [each["high"] for each in row["miou_at"]]
        axes.fill_between(clicks, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(xlabel="clicks", ylabel="mIoU of the answer", ylim=(0, 1), xticks=clicks)
    axes.set_title(f"{report['split']}, {report['num_episodes']} episodes, bands: 95 % bootstrap", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="png")
    os.replace(temporary, path)
