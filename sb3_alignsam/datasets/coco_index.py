"""The columns of a large annotation file, kept in a file of their own that every process maps.

Reading half a gigabyte of JSON takes many seconds and as much memory. An index of a tenth of its size is written the
first time: beside the file, or where that cannot be written to in the user's cache folder. It holds the digest of the
file it was made from, and counts for nothing once the file has another. Its pages lie in the page cache, once for all
processes.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from sb3_alignsam.cache_home import cache_home
from sb3_alignsam.datasets.coco_annotations import CocoColumns, read_annotations
from sb3_alignsam.datasets.coco_json import JsonFile
from sb3_alignsam.datasets.coco_table import CocoTable, stamp
from sb3_alignsam.datasets.findings import Findings
from sb3_alignsam.datasets.photographs import MAX_PIXELS
from sb3_alignsam.errors import InputError

MIN_BYTES = 16_000_000
"""Smaller annotation files are simply read: it takes less than a second."""
_FORMAT = "sb3-alignsam annotation index 1"
"""Raise the number when the columns, or what makes a record usable, change."""
_ALIGNMENT = 64
_MOST_HEADER_BYTES = 2**24
_DTYPES = {"names": np.uint8, "areas": np.float64, "crowds": np.bool_}
"""Of columns; the others hold int64."""


def open_annotations(path: Path, lenient: bool = False) -> CocoTable:
    """Open an ``instances_*.json`` with all checks of its records.

    :param path: an existing file.
    :param lenient: leave out records that cannot be used, and warn of how many, rather than refuse the file.
    :raises DatasetError: it is no JSON, lacks a part, or, unless `lenient`, has a record that cannot be used: the first
        one is named.
    """
    table: CocoTable | None = _open_index(path) if _size(path) >= MIN_BYTES else None
    if table is None or (table.skipped and not lenient):
        table = _read(path, lenient)
    if table.skipped:
        counts = ", ".join(f"{count} {key}" for key, count in table.skipped.items())
        message = f"{path}: left out what cannot be used ({counts}); sb3-alignsam validate lists it"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    return table


class IndexedTable(CocoTable):
    """A table whose columns are mapped from an index. Pickled, it carries no more than where that lies.

    :param index: path of the index. :param digest: of the annotation file.
    :raises InputError: there is no such index of a file with that digest.
    """

    def __init__(self, path: Path, file_stamp: tuple[int, int], index: Path, digest: str) -> None:
        found = _map(index, digest, file_stamp[0])
        if found is None:
            raise InputError(f"{index}, the index of {path}, is gone or has changed; start anew")
        super().__init__(path, file_stamp, *found)
        self._place = (path, file_stamp, index, digest)

    def __reduce__(self) -> tuple[type[IndexedTable], tuple[Any, ...]]:
        return IndexedTable, self._place


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _read(path: Path, lenient: bool) -> CocoTable:
    """Read the file itself; write its index if it is large."""
    findings = Findings(strict=not lenient)
    # Before it is read: whoever changes the file meanwhile gives it another stamp.
    before = stamp(path.stat()) if path.is_file() else (0, 0)
    file = JsonFile(path)
    columns = read_annotations(file, findings)
    skipped = {key: len(indices) for key, indices in findings.unusable.items()}
    if len(file.data) >= MIN_BYTES:
        digest = hashlib.sha256(file.data).hexdigest()
        del file
        for index in _places(path, digest):
            # A full or read-only disk costs no more than time.
            with suppress(OSError, InputError):
                _write(index, digest, columns, skipped)
                return IndexedTable(path, before, index, digest)
    return CocoTable(path, before, columns, skipped)


def _open_index(path: Path) -> IndexedTable | None:
    """The table of an index that was made of this very file; None where there is none."""
    with suppress(OSError, InputError):
        with path.open("rb") as file:
            before = stamp(os.fstat(file.fileno()))
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        for index in _places(path, digest):
            with suppress(OSError, InputError):
                return IndexedTable(path, before, index, digest)
    return None


def _places(path: Path, digest: str) -> list[Path]:
    """Where an index may lie, the preferred one first."""
    places = [path.with_name(f".{path.name}.index")]
    with suppress(InputError):
        places.append(cache_home() / "annotations" / f"{digest}.index")
    return places


def _write(index: Path, digest: str, columns: CocoColumns, skipped: dict[str, int]) -> None:
    """The header's length, the header as JSON, and each array at a multiple of `_ALIGNMENT` bytes."""
    categories, *arrays = columns
    arrays = [np.ascontiguousarray(each) for each in arrays]
    header = {
        "format": _FORMAT,
        "digest": digest,
        "skipped": skipped,
        "categories": list(categories.items()),
        "shapes": [list(each.shape) for each in arrays],
    }
    encoded = json.dumps(header).encode()
    index.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=index.parent, prefix=index.name, delete=False) as file:
        try:
            file.write(len(encoded).to_bytes(8, "little") + encoded)
            for each in arrays:
                file.write(bytes(-file.tell() % _ALIGNMENT))
                file.write(each.tobytes())
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, index)
        except BaseException:
            os.unlink(file.name)
            raise


def _map(index: Path, digest: str, file_bytes: int) -> tuple[CocoColumns, dict[str, int]] | None:
    """Columns and skipped records of an index; None where it is no sound index of a file with that digest."""
    try:
        with index.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= _MOST_HEADER_BYTES else {}
            if header.get("format") != _FORMAT or header.get("digest") != digest:
                return None
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        columns = _columns(content, header, 8 + length)
        skipped = {str(key): int(count) for key, count in header["skipped"].items()}
        return (columns, skipped) if _is_sound(columns, file_bytes) else None
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None


def _columns(content: mmap.mmap, header: dict[str, Any], start: int) -> CocoColumns:
    """Views of the mapped arrays. :raises ValueError: the file is shorter than its header says."""
    arrays = []
    for name, shape in zip(CocoColumns._fields[1:], header["shapes"], strict=True):
        start += -start % _ALIGNMENT
        dtype = np.dtype(_DTYPES.get(name, np.int64))
        arrays.append(np.ndarray(shape, dtype, content, start))
        start += arrays[-1].nbytes
    if start != len(content):
        raise ValueError("the index was cut short")
    return CocoColumns({int(identity): str(name) for identity, name in header["categories"]}, *arrays)


def _is_sound(columns: CocoColumns, file_bytes: int) -> bool:
    """Whether an index that came with a folder can be relied on: what it says stays within its arrays and the file."""
    images, annotations = len(columns.image_ids), len(columns.ids)
    starts, sizes = columns.spans.T
    return bool(
        columns.sizes.shape == (images, 2)
        and columns.spans.shape == (annotations, 2)
        and columns.name_ends.shape == columns.ends.shape == (images,)
        and columns.category_ids.shape == columns.areas.shape == columns.crowds.shape == (annotations,)
        and (np.diff(columns.image_ids) > 0).all()
        and _ascends_to(columns.name_ends, len(columns.names))
        and _ascends_to(columns.ends, annotations)
        and (columns.sizes >= 1).all()
        and (columns.sizes <= MAX_PIXELS).all()
        and np.isin(columns.category_ids, list(columns.categories)).all()
        and (starts >= 0).all()
        and (sizes >= 0).all()
        and (starts <= file_bytes - sizes).all()
    )


def _ascends_to(ends: np.ndarray, total: int) -> bool:
    return bool((np.diff(ends, prepend=0) >= 0).all() and (ends[-1] if len(ends) else 0) == total)
