"""Click curves: the answer's mIoU after each click as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_alignsam.evaluation.report import replaced
from sb3_alignsam.evaluation.summary import AGENT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AGENT_COLOUR = "black"


def plot_curves(report: dict[str, Any], path: Path) -> None:
    """Draw mIoU@k of each clicker with its 95 % band as a PNG; of the agent also the latest mask's, thin and dotted."""
    figure, axes = empty_figure()
    rows = sorted(report["clickers"], key=lambda row: -row["miou_at"][-1]["mean"])
    colours = other_colours()
    for row in rows:
        if row["name"] == AGENT:
            draw_curve(axes, row, AGENT_COLOUR, _label(row), 2.6, "agent, latest mask")
        else:
            draw_curve(axes, row, next(colours), _label(row), 1.3, None)
    of_runs = f"{report['num_runs']} runs, " if "num_runs" in report else ""
    axes.set_title(f"{report['split']}, {of_runs}{report['num_episodes']} episodes, bands: 95 % bootstrap", fontsize=10)
    finish(figure, axes, len(rows[0]["miou_at"]), path)


def draw_curve(axes: Axes, row: dict[str, Any], colour: Any, label: str, width: float, raw: str | None) -> None:
    """One clicker's curve and band. :param raw: what its latest mask's curve is called; None: it is not drawn."""
    clicks = range(1, len(row["miou_at"]) + 1)
    style = "--" if row["uses_ground_truth"] else "-"
    mean = [each["mean"] for each in row["miou_at"]]
    marker = "o" if len(clicks) < 12 else None
    front = 3 if row["name"] == AGENT else 2
    axes.plot(
        clicks, mean, style, marker=marker, markersize=3.5, linewidth=width, color=colour, label=label, zorder=front
    )
    low, high = ([each[end] for each in row["miou_at"]] for end in ("low", "high"))
    axes.fill_between(clicks, low, high, color=colour, alpha=0.13, linewidth=0)
    if raw is not None:
        last = [each["mean"] for each in row["last_mask_miou_at"]]
        axes.plot(clicks, last, ":", linewidth=1.2, color=colour, label=raw, zorder=front)


def other_colours() -> Any:
    """Colours for all that is not the agent, endless."""
    from itertools import cycle

    from matplotlib import color_sequences

    # Of each pair the dark one first: few clickers get ten distinct colours.
    shades = color_sequences["tab20"]
    return cycle([*shades[::2], *shades[1::2]])


def empty_figure() -> tuple[Figure, Axes]:
    """A figure with one plot in it."""
    # Imported here: matplotlib costs a second and 100 MB, which training workers need not pay.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    return figure, figure.add_subplot()


def finish(figure: Figure, axes: Axes, clicks: int, path: Path) -> None:
    """Label the axes of click curves and write the PNG."""
    step = max(clicks // 10, 1)
    ticks = [1, *range(step if step > 1 else 2, clicks + 1, step)]
    axes.set(xlabel="clicks", ylabel="mIoU of the answer", ylim=(0, 1), xticks=ticks)
    write_figure(figure, axes, path)


def write_figure(figure: Figure, axes: Axes, path: Path) -> None:
    """Add grid and legend and write the PNG; a kill leaves the previous file as it was."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    with replaced(path) as temporary:
        figure.savefig(temporary, format="png")


def _label(row: dict[str, Any]) -> str:
    notes: Sequence[str] = ["ground truth"] if row["uses_ground_truth"] else []
    if row["clicks_placed"] > len(row["miou_at"]):
        notes = [*notes, f"{row['clicks_placed']:.0f} clicks at once"]
    return f"{row['name']} ({', '.join(notes)})" if notes else row["name"]
