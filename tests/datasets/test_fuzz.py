"""Whatever an annotation file holds, it is read, thinned out or refused in one line: Hypothesis looks for more."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sb3_alignsam.datasets.coco_index import open_annotations
from sb3_alignsam.datasets.coco_masks import decode_segmentation
from sb3_alignsam.datasets.validation import Options, validate
from sb3_alignsam.errors import InputError
from tests.datasets.broken import sound

NUMBERS = st.one_of(
    st.integers(-3, 40), st.sampled_from([2**31, 2**63, 10**30, 10**400, -(10**20)]), st.floats(width=64)
)
TEXTS = st.one_of(st.text(max_size=6), st.sampled_from(["\ud800", "..", "/", "`2"]))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.dictionaries(st.sampled_from(["size", "counts", "id", "x"]), inner, max_size=3),
    ),
    max_leaves=12,
)
SEGMENTATIONS = st.one_of(
    VALUES,
    st.lists(st.lists(NUMBERS, max_size=12), max_size=3),
    st.fixed_dictionaries({"size": st.just([24, 32]), "counts": st.one_of(st.text("0PQo`~2", max_size=9), VALUES)}),
    st.fixed_dictionaries({"size": st.just([24, 32]), "counts": st.lists(st.integers(-1, 768), max_size=5)}),
)
KEYS = ["id", "image_id", "category_id", "area", "iscrowd", "file_name", "height", "width", "name", "info"]
# Seconds of the processor are limited in test_broken.py; wall time says nothing on a busy machine.
FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@st.composite
def contents(draw: st.DrawFn) -> Any:
    """The sound content of a few records, with some values replaced by anything."""
    content: Any = copy.deepcopy(sound())
    for key in ("images", "annotations"):
        content[key] = content[key][:4]
    for _ in range(draw(st.integers(1, 4))):
        key = draw(st.sampled_from(["images", "annotations", "categories"]))
        target: Any = content.get(key)
        how = draw(st.integers(0, 9))
        if how == 0 or not isinstance(target, list) or not target:
            content[key] = draw(VALUES)
        elif how == 1:
            target[draw(st.integers(0, len(target) - 1))] = draw(VALUES)
        else:
            record = target[draw(st.integers(0, len(target) - 1))]
            if isinstance(record, dict):
                changes = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=2)
                record |= draw(changes) if how < 6 else {"segmentation": draw(SEGMENTATIONS)}
    return content


def _read_every_way(path: Path) -> None:
    lines = []
    for lenient in (False, True):
        try:
            with warnings.catch_warnings(action="ignore"):
                table = open_annotations(path, lenient)
        except InputError as error:
            lines.append(str(error))
            continue
        for image_id in table.columns.image_ids.tolist():
            image = table.image(image_id)
            for annotation in table.annotations(image_id):
                # What was accepted can be decoded.
                decode_segmentation(table.segmentation(annotation), image.height, image.width, "accepted")
    _, (checked,) = validate(path, Options())
    for line in [*lines, *map(str, checked.findings.listed)]:
        assert line.startswith(f"{path}: ")
        assert "\n" not in line


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "instances.json"


@FUZZ
@given(content=contents())
def test_any_values(content: Any, place: Path) -> None:
    place.write_text(json.dumps(content))
    _read_every_way(place)


@FUZZ
@given(data=st.data())
def test_any_bytes(data: st.DataObject, place: Path) -> None:
    content = {key: value if key == "info" else value[:2] for key, value in sound().items()}
    text = bytearray(json.dumps(content).encode())
    pieces = st.sampled_from([b"NaN", b"-Infinity", b'"', b"[[[[", b"1e999", b"\\ud800"])
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.integers(0, 40))
        text[start:end] = data.draw(st.one_of(st.binary(max_size=4), pieces))
    place.write_bytes(text)
    _read_every_way(place)
