"""`sb3-alignsam annotate`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from tqdm import tqdm

from sb3_alignsam.cli.options import PairsCommand, check_at_least, read_env_kwargs, trust_options
from sb3_alignsam.errors import InputError
from sb3_alignsam.file_locks import only_process
from sb3_alignsam.inference.annotation_files import FORMATS, AnnotationFiles, check_format
from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.inference.folder import AnnotationFile, FolderJob, annotate_folder
from sb3_alignsam.inference.progress import Progress
from sb3_alignsam.policies.foreign import Trust

MOST_OBJECTS = 20
"""Objects of a category in an image where --max-objects is not given."""


@click.command("annotate", cls=PairsCommand)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of photographs.")
@click.option("--categories", required=True, help="What to look for in each, with commas between.")
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="JSON file of results.")
@click.option(
    "--annotations", type=click.Path(path_type=Path), help="COCO file whose image and category ids are to be used."
)
@click.option(
    "--format", "kind", type=click.Choice(FORMATS), default="coco", show_default=True, help="Layout of the results."
)
@click.option("--max-objects", type=int, help=f"Of a category in an image, for target:instance; else {MOST_OBJECTS}.")
@click.option(
    "--review-below", default=0.7, show_default=True, help="Predicted IoU below which a mask needs a person's look."
)
@click.option("--load-best", is_flag=True, help="The best model on dev, not the last one.")
@click.option("--env-kwargs", multiple=True, metavar="KEY:VALUE ...", help="Replace keywords of the environment.")
@trust_options
def command(
    run: Path,
    images: Path,
    categories: str,
    out: Path,
    annotations: Path | None,
    kind: str,
    max_objects: int | None,
    review_below: float,
    load_best: bool,
    env_kwargs: tuple[str, ...],
    trust: bool,
    env_id: str | None,
) -> None:
    """Annotate a folder of photographs with an agent, RUN folder or zip.

    Stopped at any time, the same command goes on. Given again with another --format or --review-below, it writes the
    same masks anew and works no more. Beside the results lies a list of what needs review.

    \b
    sb3-alignsam annotate logs/ppo/SamSegCoco-v0_1 --images photos --categories person,dog -o results.json
    sb3-alignsam annotate logs/ppo/SamSegCoco-v0_1 --images val2017 --categories person \\
        --annotations instances_val2017.json -o results.json
    """
    names = tuple(dict.fromkeys(name.strip() for name in categories.split(",")))
    if max_objects is not None:
        check_at_least("--max-objects", max_objects, 1)
    if not 0 <= review_below <= 1:
        raise InputError(f"--review-below needs a number from 0 to 1, got {review_below}")
    source = None if annotations is None else AnnotationFile.read(annotations)
    kwargs = read_env_kwargs(env_kwargs)
    annotator = Annotator(run, load_best, kwargs, Trust(trust, env_id))
    if max_objects is not None and annotator.env.target == "category":
        raise InputError("--max-objects is for agents of target:instance; this one finds all of a category at once")
    job = FolderJob(images, names, source, max_objects or MOST_OBJECTS)
    check_format(kind, job)
    job.check(annotator)
    files = AnnotationFiles.of(out, job)
    found = job.names()
    refusal = f"another process is annotating into {out}; wait until it is done, or choose another place with -o"
    with only_process(files.progress, refusal):
        progress = Progress(files.progress, job.configuration(annotator, kwargs))
        with tqdm(total=len(found), disable=not sys.stdout.isatty(), unit="image") as bar:
            try:
                entries = list(annotate_folder(annotator, job, found, progress, bar.update))
            except KeyboardInterrupt:
                click.echo(f"{len(progress.entries)} images are done; the same command goes on", err=True)
                raise
        files.write(kind, entries, job, annotator.zip_path.stem, review_below)
    unreadable = [entry["image"] for entry in entries if "error" in entry]
    if unreadable:
        more = "" if len(unreadable) == 1 else f" and {len(unreadable) - 1} more"
        click.echo(f"left out, because they cannot be read: {unreadable[0]}{more}; {files.review} says why", err=True)
    objects = sum(len(entry.get("objects", [])) for entry in entries)
    click.echo(f"{len(entries) - len(unreadable)} images, {objects} objects\nresults: {files.results}")
    click.echo(f"review:  {files.review}")
