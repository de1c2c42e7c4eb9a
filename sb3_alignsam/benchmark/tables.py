"""Figures of a benchmark as tables of at most 80 columns."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

LEGEND = """\
Median (quartiles) of a call's time; baseline and product take turns in one run.
encode: one image. Baseline: the network as trained, in contiguous memory.
  Product: branches and BatchNorms fused, channels-last memory.
N envs, K clicks: Segmenter.segment. Baseline: a call for each environment.
  Product: one call for all."""


def print_tables(figures: dict[str, Any], console: Console) -> None:
    """Show what `benchmark_perception` found."""
    console.print(figures["processor"], highlight=False)
    console.print(
        f"{figures['threads']} threads on {figures['cores']} cores, device {figures['device']}, "
        f"torch {figures['torch']}, {figures['repeats']} repeats",
        highlight=False,
    )
    for group in figures["groups"]:
        height, width = group["image_shape"]
        console.print(f"\n{group['name']}, {group['weights']}, image {height}×{width}", highlight=False)
        console.print(_table(group["rows"]))
    console.print(f"\n{LEGEND}", highlight=False)
    if figures["peak_memory_bytes"] is not None:
        console.print(f"Peak memory of the whole process: {figures['peak_memory_bytes'] / 1e6:.0f} MB", highlight=False)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for title in ("baseline", "product", "times faster"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["what"],
            _duration(row.get("baseline_seconds")),
            _duration(row["product_seconds"]),
            _cell(row["times_faster"]) if "times_faster" in row else "-",
        )
    return table


def _duration(spread: dict[str, Any] | None) -> str:
    if spread is None:
        return "-"
    return _cell(spread, 1, " s") if spread["median"] >= 1 else _cell(spread, 1000, " ms")


def _cell(spread: dict[str, Any], scale: float = 1, unit: str = "") -> str:
    low, high = spread["quartiles"]
    return f"{_short(scale * spread['median'])}{unit} ({_short(scale * low)}..{_short(scale * high)})"


def _short(value: float) -> str:
    """Three digits that count, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
