"""The JSON of an annotation file: its records as undecoded bytes, each with its place in the file.

A file of COCO's size has half a gigabyte. It is scanned once; its records are decoded one at a time and not kept.
"""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

from sb3_alignsam.datasets.findings import DatasetError, Fault, Finding

_CHUNK = 2**20
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|-?Infinity|NaN', re.DOTALL)
"""Strings, whole or cut short by the end of the file, and what Python's json writes but JSON does not know."""
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
"""Escapes in a string; the group is half a character."""


class JsonFile:
    """An annotation file, read whole.

    :param path: an existing file.
    :raises DatasetError: it cannot be read, or is no JSON object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise self.error(
                "unreadable", f"the annotation file cannot be read ({error.strerror}); check its permissions"
            ) from error
        _check_encoding(self)
        self._base = _address(self.data)
        self._scanned, self.parts = self._scan()

    def error(self, kind: str, message: str) -> DatasetError:
        """What keeps the whole file from being used."""
        return DatasetError(Finding.of(Fault(kind, "", None, message), self.path))

    def entries(self, key: str) -> list[Raw]:
        """The records of a list, undecoded.

        :raises DatasetError: there is no such list.
        """
        try:
            return msgspec.json.decode(self.parts[key], type=list[Raw])
        except (KeyError, msgspec.ValidationError) as error:
            raise self.error(
                "layout", f"the annotation file has no list '{key}'; it must be in COCO's layout (instances_*.json)"
            ) from error

    def span(self, raw: Raw) -> tuple[int, int]:
        """Where a part of the file stands in it: its first byte and how many there are."""
        return _address(raw) - self._base, memoryview(raw).nbytes

    def original(self, raw: Raw) -> bytes:
        """A part as it stands in the file."""
        start, size = self.span(raw)
        return self.data[start : start + size]

    def _scan(self) -> tuple[bytes | bytearray, dict[str, Raw]]:
        """The text, of the same length as the file, and the values of its keys."""
        text: bytes | bytearray = self.data
        try:
            try:
                return text, self._top(text)
            except msgspec.ValidationError:
                raise
            except msgspec.DecodeError:
                text = _as_json(self.data)
                self._base = _address(text)
                return text, self._top(text)
        except msgspec.ValidationError as error:
            message = "the annotation file is no JSON object; it must be in COCO's layout (instances_*.json)"
            raise self.error("layout", message) from error
        except (msgspec.DecodeError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            message = f"the annotation file is no valid JSON ({reason}); fetch or export it anew"
            raise self.error("json", message) from error

    def _top(self, text: bytes | bytearray) -> dict[str, Raw]:
        # Some programs begin a file with a mark of its encoding.
        start = len(codecs.BOM_UTF8) if text.startswith(codecs.BOM_UTF8) else 0
        return msgspec.json.decode(memoryview(text)[start:], type=dict[str, Raw])


def decode_plainly(text: bytes) -> Any:
    """A part of a file by Python's own decoder, which also takes NaN, Infinity and numbers of any size.

    :raises ValueError: it is no JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _address(buffer: Any) -> int:
    return np.frombuffer(buffer, np.uint8).__array_interface__["data"][0] if len(memoryview(buffer)) else 0


def _check_encoding(file: JsonFile) -> None:
    """JSON is UTF-8; the scanner itself does not look inside strings that nobody asks for."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(file.data), _CHUNK):
        chunk = file.data[start : start + _CHUNK]
        try:
            decoder.decode(chunk, start + _CHUNK >= len(file.data))
        except UnicodeDecodeError as error:
            message = (
                f"the annotation file is not in UTF-8 (near byte {start + error.start}: {error.reason}); it is no "
                "valid JSON, save it as UTF-8"
            )
            raise file.error("encoding", message) from error


def _as_json(text: bytes) -> bytearray:
    """The same text with NaN, Infinity and half characters, which Python's json writes, replaced by as many bytes
    that every decoder takes and no check does: texts that begin with n, and control characters."""
    changed = bytearray(text)
    for token in _TOKEN.finditer(text):
        start, end = token.span()
        if text[start : start + 1] != b'"':
            changed[start:end] = b'"' + b"n" * (end - start - 2) + b'"'
        elif b"\\" in token.group():
            for escape in _ESCAPE.finditer(token.group()):
                if escape.group(1):
                    changed[start + escape.start() : start + escape.end()] = rb"\u0000"
    return changed
