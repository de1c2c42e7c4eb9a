"""Reports as tables: the same rows in the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAVY
from rich.console import Console
from rich.table import Table

from sb3_alignsam.evaluation.summary import AGENT

MOST_CLICK_COLUMNS = 5
"""More do not fit into 100 characters."""
_TARGETS = ("80", "85", "90")
_SIZES = ("small", "medium", "large")


@dataclass
class Grid:
    """A table of texts.

    :param title: above it. :param header: of each column. :param rows: of as many cells. :param notes: lines below it.
    :param texts: how many columns, from the left, are words; the others are figures.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    texts: int = 1

    def show(self, console: Console) -> None:
        """Print it; the agent's row is bold."""
        table = Table()
        table.box, table.show_edge, table.padding = SIMPLE_HEAVY, False, (0, 1, 0, 0)
        for index, name in enumerate(self.header):
            table.add_column(name, justify="left" if index < self.texts else "right", no_wrap=True)
        for row in self.rows:
            table.add_row(*row, style="bold" if row[0] == AGENT else None)
        console.print(f"[italic]{self.title}", table, sep="\n", highlight=False, soft_wrap=True)
        for note in self.notes:
            console.print(f"[dim italic]{note}", highlight=False, soft_wrap=True)
        console.print()

    def markdown(self) -> str:
        """The same in Markdown."""
        rule = ["---" if index < self.texts else "---:" for index in range(len(self.header))]
        rows = [[f"**{row[0]}**", *row[1:]] if row[0] == AGENT else row for row in self.rows]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.header, rule, *rows)]
        return "\n".join([f"## {self.title}", "", *lines, "", *(f"{note}  " for note in self.notes), ""])


def print_table(report: dict[str, Any], console: Console) -> None:
    """Show the figures of one run that matter most: curves, then other measures, best last click first."""
    curves_grid(report).show(console)
    measures_grid(report).show(console)
    clicks_grid(report).show(console)


def print_runs_table(report: dict[str, Any], console: Console) -> None:
    """Show what several runs reached together."""
    runs_grid(report).show(console)


def shown_clicks(clicks: int) -> list[int]:
    """Of the clicks 1..K those that get a column: the first, the last and some between."""
    if clicks <= MOST_CLICK_COLUMNS:
        return list(range(1, clicks + 1))
    return sorted({1, 2, 3, 5 if clicks < 20 else 10, clicks})


def curves_grid(report: dict[str, Any]) -> Grid:
    """mIoU@k of each clicker, the interval of the last and how far the agent is above it."""
    rows = _by_last_click(report)
    clicks = len(rows[0]["miou_at"])
    shown = shown_clicks(clicks)
    header = ["clicker", "truth", *(f"@{k}" for k in shown), f"95 % of @{clicks}", "agent above it"]
    cells = [
        [
            row["name"],
            _truth(row),
            *(f"{row['miou_at'][k - 1]['mean']:.3f}" for k in shown),
            _range(row["miou_at"][-1]),
            _signed_range(report["differences"].get(row["name"])),
        ]
        for row in rows
    ]
    title = f"{report['split']}: {report['num_episodes']} episodes, mIoU@k of the answer after k clicks"
    notes = ["truth: uses ground truth. Intervals: 95 % bootstrap over episodes, differences paired."]
    return Grid(title, header, cells, [*notes, *_more_clicks(rows, clicks)], texts=2)


def measures_grid(report: dict[str, Any]) -> Grid:
    """What mIoU does not tell, after the last click."""
    rows = _by_last_click(report)
    clicks = len(rows[0]["miou_at"])
    header = ["clicker", "Dice", "boundary IoU", "answer fell", "latest fell", "AP unions", "AP instances"]
    cells = [
        [
            row["name"],
            f"{row['dice_at'][-1]['mean']:.3f}",
            f"{row['boundary_iou_at'][-1]['mean']:.3f}",
            f"{row['answer_falls']['share']:.0%}",
            f"{row['last_mask_falls']['share']:.0%}",
            _or_dash(row["coco"]["unions"]["AP"]),
            _or_dash(row["coco"]["instances"]["AP"]),
        ]
        for row in rows
    ]
    notes = [
        "fell: share of episodes whose answer, or latest mask, got worse from one click to the next.",
        "AP: COCO's, of masks, against category unions and against instances.",
        *_agent_lines(report),
    ]
    return Grid(f"after {clicks} clicks", header, cells, notes)


def clicks_grid(report: dict[str, Any]) -> Grid:
    """NoC and failures."""
    rows = _by_last_click(report)
    clicks = len(rows[0]["miou_at"])
    header = ["clicker"]
    for target in _TARGETS:
        header += [f"NoC@{target}", "failed"]
    cells = []
    for row in rows:
        figures = [row["noc"][target] for target in _TARGETS]
        cells.append([row["name"], *(text for each in figures for text in _noc_texts(each))])
    notes = [f"NoC: clicks until the answer's IoU is 0.80, 0.85, 0.90; {clicks} where an episode failed."]
    return Grid("clicks needed", header, cells, notes)


def sizes_grid(report: dict[str, Any]) -> Grid:
    """mIoU of the last answers by COCO's area classes."""
    counts = {size: _episodes_of(report, size) for size in _SIZES}
    present = [size for size in _SIZES if counts[size]]
    header = ["clicker", *(f"{size} ({counts[size]})" for size in present)]
    cells = [
        [row["name"], *(_mean_and_range(row["by_size"][size]["miou"]) for size in present)]
        for row in _by_last_click(report)
    ]
    notes = ["Area of the category's union in pixels of the image: small < 32², medium < 96², large (and episodes)."]
    return Grid("mIoU by area", header, cells, notes)


def categories_grid(report: dict[str, Any], name: str = AGENT) -> Grid:
    """One clicker's last answers by category."""
    row = next(each for each in report["clickers"] if each["name"] == name)
    cells = [
        [
            category,
            str(figures["episodes"]),
            _mean_and_range(figures["miou"]),
            f"{figures['dice']['mean']:.3f}",
            f"{figures['boundary_iou']['mean']:.3f}",
        ]
        for category, figures in row["by_category"].items()
    ]
    return Grid(f"{name} by category", ["category", "episodes", "mIoU", "Dice", "boundary IoU"], cells)


def runs_grid(report: dict[str, Any]) -> Grid:
    """What several runs reached together, after the last click."""
    rows = _by_last_click(report)
    clicks = len(rows[0]["miou_at"])
    header = ["clicker", "truth", f"mIoU@{clicks}", "95 %", f"IQM@{clicks}", "95 %", "runs", "agent above it"]
    cells = [
        [
            row["name"],
            _truth(row),
            f"{row['miou_at'][-1]['mean']:.3f}",
            _range(row["miou_at"][-1]),
            f"{row['iqm_at'][-1]['mean']:.3f}",
            _range(row["iqm_at"][-1]),
            _spread(row["miou_of_runs"]),
            _signed_range(report["differences"].get(row["name"])),
        ]
        for row in rows
    ]
    title = f"{report['split']}: {report['num_runs']} runs, {report['num_episodes']} episodes, {clicks} clicks"
    notes = [
        "mIoU: mean over runs and episodes, both resampled; runs: the lowest and the highest run's.",
        "IQM: interquartile mean over runs and categories, stratified bootstrap (Agarwal et al., 2021).",
    ]
    return Grid(title, header, cells, notes, texts=2)


def _by_last_click(report: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(report["clickers"], key=lambda row: -row["miou_at"][-1]["mean"])


def _more_clicks(rows: Sequence[dict[str, Any]], clicks: int) -> list[str]:
    """A line on those who made more clicks than their columns say, so that none is compared with them unawares."""
    more = [f"{row['name']} {row['clicks_placed']:.0f}" for row in rows if row["clicks_placed"] > clicks]
    return [f"clicks on average, all in the first step: {', '.join(more)}"] if more else []


def _agent_lines(report: dict[str, Any]) -> list[str]:
    """Lines on how the agent's answers fell and on how it stopped."""
    lines = []
    for row in report["clickers"]:
        if row["name"] != AGENT:
            continue
        fell, raw, stop = row["answer_falls"], row["last_mask_falls"], row["stop"]
        lines.append(
            f"agent: largest fall {fell['mean_largest']:.3f} on average ({raw['mean_largest']:.3f} of the latest mask),"
            f" {fell['largest_of_mean']:.3f} of the mean curve"
        )
        if stop["share"]:
            lines.append(f"agent: stopped {stop['share']:.0%} of the episodes; {stop['steps']:.1f} clicks on average")
        if stop["iou"] is not None:
            lines.append(f"agent: IoU {stop['iou']:.3f} at the stop, the best that was reached {stop['best_iou']:.3f}")
    return lines


def _noc_texts(figures: dict[str, Any]) -> tuple[str, str]:
    return f"{figures['mean']:.2f}", f"{figures['failures']} ({figures['failure_share']:.0%})"


def _episodes_of(report: dict[str, Any], size: str) -> int:
    return sum(each["size_class"] == size for each in report["episodes"])


def _truth(row: dict[str, Any]) -> str:
    return "yes" if row["uses_ground_truth"] else "no"


def _range(interval: dict[str, float]) -> str:
    return f"{interval['low']:.3f}..{interval['high']:.3f}"


def _mean_and_range(interval: dict[str, float]) -> str:
    return f"{interval['mean']:.3f} [{_range(interval)}]"


def _signed_range(interval: dict[str, float] | None) -> str:
    return "" if interval is None else f"{interval['low']:+.3f}..{interval['high']:+.3f}"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _spread(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return "" if low == high else f"{low:.3f}..{high:.3f}"
