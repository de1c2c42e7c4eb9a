"""Cityscapes (Cordts et al., CVPR 2016), fine annotations, as episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sb3_alignsam.datasets.coco import DEFAULT_MIN_AREA
from sb3_alignsam.datasets.findings import DatasetError, Findings
from sb3_alignsam.datasets.label_files import (
    UNLABELLED,
    LabelledImage,
    LabelledSplit,
    Segments,
    label_fault,
    labels_of,
)
from sb3_alignsam.datasets.label_maps import LabelMapDataset, stable_id

FIRST_LABEL = 4
"""Labels below (unlabelled, ego vehicle, rectification border, out of roi) count for nothing."""
NAMES = (
    "static",
    "dynamic",
    "ground",
    "road",
    "sidewalk",
    "parking",
    "rail track",
    "building",
    "wall",
    "fence",
    "guard rail",
    "bridge",
    "tunnel",
    "pole",
    "polegroup",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "caravan",
    "trailer",
    "train",
    "motorcycle",
    "bicycle",
)
"""The 30 classes, by ascending label from `FIRST_LABEL` on."""
VOCABULARY = dict(enumerate(NAMES, start=FIRST_LABEL))
_FIRST_WITH_INSTANCES = 24
"""Labels from *person* on have instances; there, what is not told apart (*cargroup*) is a group."""
_PER_CLASS = 1000
_IMAGE, _LABELS, _INSTANCES = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_instanceIds.png"


class CityscapesDataset(LabelMapDataset):
    """One split of Cityscapes, see `LabelMapDataset`.

    ``leftImg8bit/<split>/<city>/X_leftImg8bit.png`` with ``gtFine/<split>/<city>/X_gtFine_labelIds.png`` (a label of
    0 to 33 at each pixel) and ``X_gtFine_instanceIds.png`` (16 bits: ``label * 1000 + n`` for an instance, the label
    alone for what has none and for groups). Category ids are Cityscapes' labels. A category without instances is one
    instance; groups of one with instances are ignored.

    :param root: folder that holds ``leftImg8bit/`` and ``gtFine/``. :param split: ``train`` or ``val``.
    :param min_area: see `LabelMapDataset`, as for the others. :raises InputError: see there.
    """

    name = "cityscapes"

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        min_area: float = DEFAULT_MIN_AREA,
        categories: Sequence[str] | None = None,
        keep_image: Callable[[int], bool] | None = None,
    ) -> None:
        root = Path(root)
        super().__init__(
            root,
            split,
            cityscapes_split(root, split),
            VOCABULARY,
            min_area=min_area,
            categories=categories,
            keep_image=keep_image,
        )


def cityscapes_split(root: Path, split: str) -> LabelledSplit:
    """Where the files of a split lie."""
    return LabelledSplit(root / "leftImg8bit" / split, root / "gtFine" / split, _find, _segments)


def _find(photographs: Path, labels: Path, findings: Findings) -> list[LabelledImage]:
    """Every photograph of the split; labels without a photograph are not used."""
    paths = sorted(photographs.glob(f"*/*{_IMAGE}"))
    if not paths:
        message = f"there is no {photographs}/<city>/*{_IMAGE}; check root and split"
        findings.add(label_fault("missing", photographs, message))
    images = []
    for path in paths:
        stem = path.name.removesuffix(_IMAGE)
        beside = labels / path.parent.name / stem
        pair = (beside.with_name(stem + _LABELS), beside.with_name(stem + _INSTANCES))
        images.append(LabelledImage(stable_id(stem), path, pair))
    used = {path for each in images for path in each.labels}
    for path in sorted(each for kind in (_LABELS, _INSTANCES) for each in labels.glob(f"*/*{kind}")):
        if path not in used:
            message = f"{path} has no photograph in {photographs / path.parent.name}; it is not used"
            findings.add(label_fault("missing", path, message, level="warning"))
    return images


def _segments(image: LabelledImage) -> Segments:
    labels = labels_of(image, 0, ("L", "P"))
    codes = labels_of(image, 1, ("I;16", "I"))
    last, highest = FIRST_LABEL + len(NAMES) - 1, int(labels.max())
    if highest > last:
        message = f"{image.labels[0]} holds the label {highest}; labelIds are 0 to {last}: are these labelTrainIds?"
        raise DatasetError(label_fault("label", image.labels[0], message, image.image_id, highest))
    if not np.array_equal(np.where(codes < _PER_CLASS, codes, codes // _PER_CLASS), labels):
        message = f"{image.labels[1]} and {image.labels[0]} contradict each other; fetch both anew"
        raise DatasetError(label_fault("instances", image.labels[1], message, image.image_id))
    categories = np.arange((last + 1) * _PER_CLASS)
    categories[_PER_CLASS:] //= _PER_CLASS
    groups = categories >= _FIRST_WITH_INSTANCES
    groups[_PER_CLASS:] = False
    categories[categories < FIRST_LABEL] = UNLABELLED
    return Segments(codes, categories, groups)
