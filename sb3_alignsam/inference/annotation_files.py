"""The files that `annotate` leaves: results in one of three formats, and a review list beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.report import check_writable
from sb3_alignsam.inference.coco_export import Entry, coco_dataset, coco_results, found_objects
from sb3_alignsam.inference.files import as_json, write_whole
from sb3_alignsam.inference.folder import FolderJob
from sb3_alignsam.inference.label_studio import label_config, label_studio_tasks

FORMATS = ("coco", "coco-polygons", "label-studio")


@dataclass(frozen=True)
class AnnotationFiles:
    """Where results go. :param results: JSON in the asked format. :param review: JSON for people.
    :param progress: see `Progress`. :param label_config: XML, for Label Studio alone."""

    results: Path
    review: Path
    progress: Path
    label_config: Path

    @classmethod
    def of(cls, results: Path, job: FolderJob) -> AnnotationFiles:
        """Files named after the one of results.

        :raises InputError: they cannot be written, or something else lies there.
        """
        kinds = (".review.json", ".progress.jsonl", ".label_config.xml")
        files = cls(results, *(results.with_name(results.stem + kind) for kind in kinds))
        if job.annotations is not None and results.resolve() == job.annotations.path.resolve():
            raise InputError(f"-o {results} would replace the annotation file; choose another place")
        for path in (files.results, files.review, files.progress, files.label_config):
            check_writable(path)
        if results.exists() and not files.progress.exists():
            raise InputError(
                f"{results} is there already, and no {files.progress.name} of an earlier start beside it; choose "
                "another place with -o, or delete it"
            )
        return files

    def write(self, kind: str, entries: Sequence[Entry], job: FolderJob, agent: str, review_below: float) -> None:
        """Write results and review list from all images' entries, each file whole or not at all.

        :param kind: one of `FORMATS`. :param agent: what made them.
        :param review_below: predicted IoU below which an object needs a look.
        :raises InputError: a file cannot be written.
        """
        readable = [entry for entry in entries if "error" not in entry]
        # The results come last: where they are, all else is too.
        write_whole(self.review, as_json(_review(entries, readable, job, review_below)))
        if kind == "label-studio":
            write_whole(self.label_config, label_config(job.categories).encode())
            content: Any = label_studio_tasks(readable, job.images.resolve().name, agent)
        elif job.annotations is not None:
            content = coco_results(readable, job.annotations)
        else:
            content = coco_dataset(readable, job.categories, polygons=kind == "coco-polygons")
        write_whole(self.results, as_json(content))


def check_format(kind: str, job: FolderJob) -> None:
    """:raises InputError: the format does not go with an annotation file."""
    if job.annotations is not None and kind != "coco":
        raise InputError(
            f"--format {kind} does not go with --annotations: COCO's results are run lengths; leave one of them out"
        )


def _review(entries: Sequence[Entry], readable: Sequence[Entry], job: FolderJob, below: float) -> dict[str, Any]:
    """What people want to know beside the masks. ``annotation`` counts the objects of the results from 1 up."""
    objects = [
        {
            "annotation": number,
            "image": entry["image"],
            **{key: found[key] for key in ("category", "score", "stopped", "clicks")},
        }
        for number, (entry, found) in enumerate(found_objects(readable), 1)
    ]
    doubtful = sorted((each for each in objects if each["score"] < below), key=lambda each: each["score"])
    keys = ("annotation", "image", "category", "score")
    there = set(job.images_in_folder())
    named = set(job.annotations.images) if job.annotations else there
    return {
        "review_below": below,
        "needs_review": [{key: each[key] for key in keys} for each in doubtful],
        "left_out": [{"image": entry["image"], **each} for entry in readable for each in entry["left_out"]],
        "unreadable": [{"image": entry["image"], "reason": entry["error"]} for entry in entries if "error" in entry],
        "not_in_annotations": sorted(there - named),
        "not_in_folder": sorted(named - {entry["image"] for entry in entries}) if job.annotations else [],
        "objects": objects,
    }
