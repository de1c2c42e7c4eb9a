"""`sb3-alignsam validate`."""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial
from pathlib import Path

import click
from tqdm import tqdm

from sb3_alignsam.datasets.validation import Checked, Kind, Options, check_copy, kind_of, validate
from sb3_alignsam.evaluation.report import check_writable, write_json

MOST_SHOWN = 20
"""Findings of one kind that are shown."""


@click.command("validate")
@click.argument("path", metavar="FOLDER|ANNOTATIONS.json", type=click.Path(path_type=Path))
@click.option("--images", type=click.Path(path_type=Path), help="COCO: folder of photographs, if it is not beside.")
@click.option("--quick", is_flag=True, help="Read the photographs' headers only; damaged pixels go unnoticed.")
@click.option("--fix", "out", type=click.Path(path_type=Path), help="COCO: write a copy without what cannot be used.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the findings here.")
def command(path: Path, images: Path | None, quick: bool, out: Path | None, json_file: Path | None) -> int:
    """List what is wrong with a dataset; exit code 2 if there are errors, warnings alone give 0.

    Of COCO's layout, of ADE20K (SceneParsing or the full release) or of Cityscapes, told by what lies there.

    An error is what cannot be used: training refuses it, or of COCO's layout leaves it out with --env-kwargs
    lenient:true. A warning is what somebody should look at, such as stated areas that differ from the pixels covered.

    \b
    sb3-alignsam validate coco
    sb3-alignsam validate coco/annotations/instances_val2017.json --images photos --fix repaired
    """
    if json_file is not None:
        check_writable(json_file)
    if out is not None:
        check_copy(kind_of(path), out)
    progress = partial(tqdm, disable=not sys.stdout.isatty(), unit="image", leave=False)
    kind, parts = validate(path, Options(images, quick, progress))
    for checked in parts:
        _show(checked)
    errors, warnings = (sum(each.findings.total(level) for each in parts) for level in ("error", "warning"))
    click.echo(f"{_count(errors, 'error')}, {_count(warnings, 'warning')}")
    if json_file is not None:
        write_json({"errors": errors, "warnings": warnings, "parts": [each.figures() for each in parts]}, json_file)
        click.echo(f"findings: {json_file}")
    if out is not None:
        _repair(kind, parts, out)
    return 2 if errors else 0


def _show(checked: Checked) -> None:
    records = ", ".join(f"{count} {name}" for name, count in checked.records.items()) or "nothing that can be read"
    where = f"photographs in {checked.images}" if checked.images else "photographs not looked at (--images FOLDER)"
    click.echo(f"{checked.path}: {records}; {where}")
    shown: Counter[str] = Counter()
    for finding in checked.findings.listed:
        shown[finding.kind] += 1
        if shown[finding.kind] <= MOST_SHOWN:
            click.echo(f"{finding.level}: {finding.inside()}")
    for level, kinds in checked.findings.counts.items():
        for kind, count in kinds.items():
            if count > MOST_SHOWN:
                click.echo(f"{level}: {count - MOST_SHOWN} more of kind {kind}")


def _repair(kind: Kind, parts: list[Checked], out: Path) -> None:
    assert kind.repair is not None
    for checked in parts:
        left_out = ", ".join(f"{count} {name}" for name, count in kind.repair(checked, out).items() if count)
        click.echo(f"repaired copy of {checked.path.name} in {out}, without {left_out or 'nothing'}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
