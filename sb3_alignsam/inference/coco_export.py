"""What was found in a folder, in COCO's layouts: a results list, or a whole dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sb3_alignsam.datasets.coco_masks import decode_segmentation
from sb3_alignsam.inference.folder import AnnotationFile
from sb3_alignsam.inference.polygons import mask_polygons

Entry = dict[str, Any]
"""An image's entry, as `annotate_folder` yields it; here always one that could be read."""


def coco_results(entries: Sequence[Entry], annotations: AnnotationFile) -> list[dict[str, Any]]:
    """A list for ``COCO.loadRes``, with the image ids and category ids of an annotation file.

    It has no boxes: pycocotools would take them for box results and their areas for the masks'.
    """
    return [
        {
            "image_id": annotations.images[entry["image"]][0],
            "category_id": annotations.categories[found["category"]],
            "segmentation": run_lengths(entry, found),
            "score": found["score"],
        }
        for entry, found in found_objects(entries)
    ]


def coco_dataset(entries: Sequence[Entry], categories: Sequence[str], polygons: bool) -> dict[str, Any]:
    """A whole dataset for ``COCO(...)`` and for annotation tools, with ids from 1 up.

    :param categories: in the order of their ids.
    :param polygons: segmentations as lists of outlines, see `mask_polygons`, rather than exact run lengths. Areas and
        boxes are the exact mask's in both.
    """
    image_ids = {entry["image"]: identity for identity, entry in enumerate(entries, 1)}
    category_ids = {name: identity for identity, name in enumerate(categories, 1)}
    return {
        "info": {"description": "made by sb3-alignsam annotate; score is predicted IoU"},
        "licenses": [],
        "images": [{"id": image_ids[entry["image"]], "file_name": entry["image"], **_size(entry)} for entry in entries],
        "categories": [{"id": identity, "name": name, "supercategory": ""} for name, identity in category_ids.items()],
        "annotations": [
            {
                "id": identity,
                "image_id": image_ids[entry["image"]],
                "category_id": category_ids[found["category"]],
                "segmentation": _outlines(entry, found) if polygons else run_lengths(entry, found),
                "area": found["area"],
                "bbox": found["bbox"],
                "iscrowd": 0,
                "score": found["score"],
            }
            for identity, (entry, found) in enumerate(found_objects(entries), 1)
        ],
    }


def found_objects(entries: Sequence[Entry]) -> Iterator[tuple[Entry, dict[str, Any]]]:
    """Each object with its image's entry, in the one order that all files share."""
    return ((entry, found) for entry in entries for found in entry["objects"])


def run_lengths(entry: Entry, found: dict[str, Any]) -> dict[str, Any]:
    """A mask as COCO's compressed run lengths."""
    return {"size": [entry["height"], entry["width"]], "counts": found["counts"]}


def object_polygons(entry: Entry, found: dict[str, Any]) -> list[np.ndarray]:
    """Outlines of an object's parts, see `mask_polygons`."""
    where = f"{entry['image']}: {found['category']}"
    return mask_polygons(decode_segmentation(run_lengths(entry, found), entry["height"], entry["width"], where))


def _outlines(entry: Entry, found: dict[str, Any]) -> list[list[float]]:
    return [polygon.ravel().tolist() for polygon in object_polygons(entry, found)]


def _size(entry: Entry) -> dict[str, int]:
    return {"width": entry["width"], "height": entry["height"]}
