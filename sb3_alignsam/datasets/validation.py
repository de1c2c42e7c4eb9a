"""Checks a dataset of any kind that is known. Another kind plugs in by one line of `_kinds`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sb3_alignsam.datasets.findings import Findings
from sb3_alignsam.errors import InputError


@dataclass(frozen=True)
class Options:
    """What a user asked for.

    :param images: folder of photographs; None: where the dataset's layout has them.
    :param quick: read no more than headers of photographs.
    :param progress: goes through photographs, such as `tqdm`.
    """

    images: Path | None = None
    quick: bool = False
    progress: Callable[[list[int]], Iterable[int]] = iter


@dataclass
class Checked:
    """What was found in one part of a dataset, such as an annotation file.

    :param kind: of dataset. :param path: of the part. :param findings: all that is wrong.
    :param images: where its photographs were looked at; None: nowhere.
    :param records: how many there are, by what they are called.
    :param unusable_images: ids of images whose files cannot be used. :param unreadable: nothing of it can be read.
    """

    kind: str
    path: Path
    images: Path | None
    findings: Findings
    records: dict[str, int] = field(default_factory=dict)
    unusable_images: set[int] = field(default_factory=set)
    unreadable: bool = False

    def figures(self) -> dict[str, Any]:
        """In plain values, for JSON."""
        return {
            "kind": self.kind,
            "path": str(self.path),
            "images": None if self.images is None else str(self.images),
            "records": self.records,
            "counts": {level: dict(kinds) for level, kinds in self.findings.counts.items()},
            "findings": [each._asdict() for each in self.findings.listed],
        }


class Kind(NamedTuple):
    """A kind of dataset.

    :param recognises: whether an existing path is one. :param check: all that is wrong with it.
    :param repair: writes a copy of a checked part into a folder, without what cannot be used; how many of what kind of
        record it left out. None: nothing of this kind is written.
    """

    name: str
    recognises: Callable[[Path], bool]
    check: Callable[[Path, Options], list[Checked]]
    repair: Callable[[Checked, Path], dict[str, int]] | None = None


def validate(path: Path, options: Options) -> tuple[Kind, list[Checked]]:
    """Find everything that is wrong with a dataset.

    :raises InputError: as `kind_of`; or there is no such folder of photographs.
    """
    kind = kind_of(path)
    if options.images is not None and not options.images.is_dir():
        raise InputError(f"there is no image folder {options.images}; check --images")
    return kind, kind.check(path, options)


def kind_of(path: Path) -> Kind:
    """The kind of a dataset.

    :param path: of a folder, or of a file that such a dataset begins with.
    :raises InputError: there is no such path, or it is no dataset of a kind that is known.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; name a folder or an annotation file")
    for kind in _kinds():
        if kind.recognises(path):
            return kind
    known = ", ".join(kind.name for kind in _kinds())
    raise InputError(
        f"{path} is no dataset of a kind that is known ({known}); COCO's layout is annotations/instances_SPLIT.json "
        "and photographs in SPLIT/ or images/SPLIT/; ADE20K has images/training or images/ADE/training, Cityscapes "
        "leftImg8bit/train"
    )


def check_copy(kind: Kind, out: Path) -> None:
    """:raises InputError: a repaired copy cannot be written: not of this kind, or something is there already."""
    if kind.repair is None:
        raise InputError(
            f"--fix is for COCO's layout; of kind {kind.name} each picture has files of its own: list what is wrong "
            "without --fix, and remove those files"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty; name a new folder for the repaired copy")


def _kinds() -> tuple[Kind, ...]:
    # Imported here, since each kind uses this module's words.
    from sb3_alignsam.datasets.coco_repair import repair_coco
    from sb3_alignsam.datasets.coco_validation import check_coco, is_coco
    from sb3_alignsam.datasets.label_validation import check_ade20k, check_cityscapes, is_ade20k, is_cityscapes

    return (
        Kind("coco", is_coco, check_coco, repair_coco),
        Kind("ade20k", is_ade20k, check_ade20k),
        Kind("cityscapes", is_cityscapes, check_cityscapes),
    )
