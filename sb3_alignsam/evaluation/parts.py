"""What a stopped evaluation had already found out: one file a batch of episodes, each written at once."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sb3_alignsam.evaluation.records import EpisodeId, Record
from sb3_alignsam.evaluation.report import write_text

FORMAT = 1
"""Part of every key: to be raised when the same evaluation writes other figures down."""
Batch = tuple[list[EpisodeId], list[Record]]


class Parts:
    """The batches of one evaluation, in a folder of their own that bears a digest of all that decides them.

    :param folder: where the folder goes. :param key: what decides the figures, in JSON's own types.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        text = json.dumps({"format": FORMAT, **key}, sort_keys=True, default=str)
        self.folder = folder / f".parts_{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def read(self, number: int) -> Batch | None:
        """The batch of that number; None where there is none, or its file is torn."""
        try:
            digest, _, text = self._path(number).read_text(encoding="utf-8").partition("\n")
        except (OSError, UnicodeDecodeError):
            return None
        if digest != _digest(text):
            return None
        content = json.loads(text)
        ids = [EpisodeId.from_plain(each) for each in content["episodes"]]
        return ids, [Record.from_plain(each) for each in content["records"]]

    def write(self, number: int, ids: Sequence[EpisodeId], records: Sequence[Record]) -> None:
        """Keep a batch; a kill leaves either all of it or nothing."""
        text = json.dumps({"episodes": [e.to_plain() for e in ids], "records": [r.to_plain() for r in records]})
        write_text(f"{_digest(text)}\n{text}", self._path(number))

    def remove(self) -> None:
        """Forget all batches, once their report is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.json"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
