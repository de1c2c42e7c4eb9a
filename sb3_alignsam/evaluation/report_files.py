"""The files of a report: figures, tables, curves, contact sheet and COCO results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.evaluation.calibration import Calibration
from sb3_alignsam.evaluation.coco_results import coco_results
from sb3_alignsam.evaluation.contact_sheet import write_contact_sheet
from sb3_alignsam.evaluation.curves import plot_curves
from sb3_alignsam.evaluation.records import EpisodeId, Record
from sb3_alignsam.evaluation.report import check_writable, write_json, write_text
from sb3_alignsam.evaluation.tables import (
    categories_grid,
    clicks_grid,
    curves_grid,
    measures_grid,
    runs_grid,
    sizes_grid,
)


@dataclass(frozen=True)
class ReportFiles:
    """Where the parts of one report go.

    :param figures: JSON. :param tables: Markdown. :param curves: PNG. :param episodes: PNG, the contact sheet.
    :param results: the agent's answers as COCO results, JSON.
    """

    figures: Path
    tables: Path
    curves: Path
    episodes: Path
    results: Path

    @classmethod
    def of(cls, folder: Path, of_what: str, figures: Path | None = None) -> ReportFiles:
        """The usual names.

        :param of_what: the split, and more where that is not enough. :param figures: another place for the JSON.
        """
        stem = f"eval_{of_what}"
        names = (f"{stem}.md", f"{stem}.png", f"{stem}_episodes.png", f"{stem}_coco.json")
        return cls(figures or folder / f"{stem}.json", *(folder / name for name in names))

    def check(self) -> None:
        """:raises InputError: one of them cannot be written."""
        for each in fields(self):
            check_writable(getattr(self, each.name))


def write_run_files(
    files: ReportFiles,
    report: dict[str, Any],
    env: SamSegEnv,
    ids: Sequence[EpisodeId],
    agent: Record,
    calibration: Calibration,
) -> None:
    """Write all parts of one run's report. :param agent: the record to show; the others are in `report`."""
    write_json(report, files.figures)
    plot_curves(report, files.curves)
    write_contact_sheet(env, ids, agent, files.episodes)
    write_json(coco_results(ids, agent, calibration), files.results)
    grids = [each(report) for each in (curves_grid, measures_grid, clicks_grid, sizes_grid, categories_grid)]
    pictures = [f"![mIoU after each click]({files.curves.name})", "", f"![episodes]({files.episodes.name})"]
    text = [*_head(report), *(grid.markdown() for grid in grids), f"Scores: {report['calibration']['note']}.", ""]
    write_text("\n".join([*text, *pictures, ""]), files.tables)


def write_runs_files(files: ReportFiles, report: dict[str, Any]) -> None:
    """Write figures, table and curves of several runs together."""
    write_json(report, files.figures)
    plot_curves(report, files.curves)
    text = [*_head(report), runs_grid(report).markdown(), f"![mIoU after each click]({files.curves.name})", ""]
    write_text("\n".join(text), files.tables)


def _head(report: dict[str, Any]) -> list[str]:
    several = "zips" in report
    zips = report["zips"] if several else [report["zip"]]
    steps = report["num_timesteps"] if several else [report["num_timesteps"]]
    before = f" after {report['imitation_steps']} of imitation" if report["imitation_steps"] else ""
    loaded = ", ".join(f"`{name}` ({trained} steps{before})" for name, trained in zip(zips, steps, strict=True))
    said = f"{loaded} on split {report['split']}: {report['num_episodes']} episodes, the same for all."
    return [f"# {report['env_id']}", "", said, "Each measure is explained in docs/evaluation.md.", ""]
