"""ADE20K (Zhou et al., CVPR 2017) as episodes: the SceneParsing benchmark's folder, or the full release's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sb3_alignsam.datasets.ade20k_names import SCENE_PARSING_CLASSES
from sb3_alignsam.datasets.coco import DEFAULT_MIN_AREA
from sb3_alignsam.datasets.findings import DatasetError, Findings
from sb3_alignsam.datasets.label_files import (
    OTHER,
    UNLABELLED,
    LabelledImage,
    LabelledSplit,
    Segments,
    label_fault,
    labels_of,
)
from sb3_alignsam.datasets.label_maps import LabelMapDataset, stable_id
from sb3_alignsam.errors import InputError

VOCABULARY = {label: name.partition(",")[0] for label, name in enumerate(SCENE_PARSING_CLASSES, start=1)}
"""Names of the 150 classes by label."""
_LABELS = {name.casefold(): label for label, name in enumerate(SCENE_PARSING_CLASSES, start=1)}
_UNLABELLED_CLASS = len(VOCABULARY) + 1
"""Stands, in the full release's segments, for what has no label."""


class Ade20kDataset(LabelMapDataset):
    """One split of ADE20K, see `LabelMapDataset`; which of the two folders it is, is seen by what lies there.

    SceneParsing: ``images/<split>/*.jpg`` and ``annotations/<split>/*.png`` of the same stem, whose pixels are a label
    from 1 to 150, or 0 for what is none of them or was not labelled: that counts for nothing. Instances are not told
    apart: all of a category's pixels are one.

    Full release (2021): below ``images/ADE/<split>/``, in folders of any depth, ``X.jpg`` with ``X_seg.png`` and
    ``X.json``. A pixel's class is ``R // 10 * 256 + G``, its instance is B; the JSON names the classes
    (``annotation.object[].name_ndx`` and ``name``). Categories are the 150 too; what is another class is background,
    what has none counts for nothing.

    :param root: folder that holds ``images/``. :param split: ``training`` or ``validation``.
    :param min_area: see `LabelMapDataset`, as for the others. :raises InputError: see there.
    """

    name = "ade20k"

    def __init__(
        self,
        root: str | Path,
        split: str = "training",
        *,
        min_area: float = DEFAULT_MIN_AREA,
        categories: Sequence[str] | None = None,
        keep_image: Callable[[int], bool] | None = None,
    ) -> None:
        root = Path(root)
        super().__init__(
            root,
            split,
            ade20k_split(root, split),
            VOCABULARY,
            min_area=min_area,
            categories=categories,
            keep_image=keep_image,
        )


def ade20k_split(root: Path, split: str) -> LabelledSplit:
    """Where the files of a split lie. :raises InputError: there is no folder of either release."""
    full, parsing = root / "images" / "ADE" / split, root / "images" / split
    if full.is_dir():
        return LabelledSplit(full, full, _full_release, _full_segments)
    if parsing.is_dir():
        return LabelledSplit(parsing, root / "annotations" / split, _scene_parsing, _parsing_segments)
    raise InputError(f"there is no folder {parsing} (SceneParsing) nor {full} (full release); check root and split")


def _scene_parsing(images: Path, annotations: Path, findings: Findings) -> list[LabelledImage]:
    """The pairs of both folders, which must hold the same stems."""
    photographs = {path.stem: path for path in sorted(images.glob("*.jpg"))}
    labels = {path.stem: path for path in sorted(annotations.glob("*.png"))}
    if not photographs:
        findings.add(label_fault("missing", images, f"{images} holds no *.jpg; check root and split"))
    for stem in sorted(photographs.keys() ^ labels.keys()):
        here, missing = (photographs[stem], annotations) if stem in photographs else (labels[stem], images)
        message = f"{here} has no file of the same name in {missing}; add it or remove this one"
        findings.add(label_fault("missing", here, message))
    both = sorted(photographs.keys() & labels.keys())
    return [LabelledImage(_number(stem), photographs[stem], (labels[stem],)) for stem in both]


def _full_release(folder: Path, _: Path, findings: Findings) -> list[LabelledImage]:
    photographs = sorted(folder.rglob("*.jpg"))
    if not photographs:
        message = f"{folder} holds no *.jpg in any of its folders; check root and split"
        findings.add(label_fault("missing", folder, message))
    for path in sorted(folder.rglob("*_seg.png")):
        if not path.with_name(path.name.removesuffix("_seg.png") + ".jpg").exists():
            message = f"{path} has no photograph beside it; it is not used"
            findings.add(label_fault("missing", path, message, level="warning"))
    beside = [(path, (path.with_name(path.stem + "_seg.png"), path.with_suffix(".json"))) for path in photographs]
    return [LabelledImage(_number(path.stem), path, labels) for path, labels in beside]


def _number(stem: str) -> int:
    """The number at the end of ``ADE_train_00000001``."""
    match = re.search(r"_(\d{1,15})$", stem)
    return int(match[1]) if match else stable_id(stem)


def _parsing_segments(image: LabelledImage) -> Segments:
    labels = labels_of(image, 0, ("L", "P"))
    highest = int(labels.max())
    if highest > len(VOCABULARY):
        message = (
            f"{image.labels[0]} holds the label {highest}; SceneParsing's are 0 to {len(VOCABULARY)}: the full "
            "release lies in images/ADE/"
        )
        raise DatasetError(label_fault("label", image.labels[0], message, image.image_id, highest))
    categories = np.arange(len(VOCABULARY) + 1)
    categories[0] = UNLABELLED
    return Segments(labels, categories, np.zeros(len(categories), bool))


def _full_segments(image: LabelledImage) -> Segments:
    pixels = labels_of(image, 0, ("RGB",)).astype(np.int32)
    classes = pixels[..., 0] // 10 * 256 + pixels[..., 1]
    # 0 has no name: not labelled. Names that are none of the 150 are left at OTHER.
    label_of = np.full(classes.max() + 1, OTHER)
    label_of[0] = _UNLABELLED_CLASS
    names = _class_names(image)
    for number in np.unique(classes).tolist():
        if number and number not in names:
            message = f"{image.labels[1]} does not name the class {number} of {image.labels[0]}; fetch it anew"
            raise DatasetError(label_fault("label", image.labels[1], message, image.image_id, number))
        if number:
            label_of[number] = _LABELS.get(names[number].casefold(), OTHER)
    # Several classes may be OTHER, and each class has instances of its own.
    segments = label_of[classes] * 256 + pixels[..., 2]
    categories = np.repeat(np.arange(_UNLABELLED_CLASS + 1), 256)
    categories[categories == _UNLABELLED_CLASS] = UNLABELLED
    return Segments(segments, categories, np.zeros(len(categories), bool))


def _class_names(image: LabelledImage) -> dict[int, str]:
    """Names of the classes on one image by number, from the JSON file beside it."""
    path = image.labels[1]
    try:
        objects = json.loads(path.read_bytes().decode(errors="replace"))["annotation"]["object"]
        return {int(each["name_ndx"]): str(each["name"]) for each in objects}
    except (OSError, ValueError, OverflowError, LookupError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        message = (
            f"{path} cannot be read as a description of ADE20K's ({type(error).__name__}: {reason}); fetch it anew"
        )
        raise DatasetError(label_fault("description", path, message, image.image_id)) from error
