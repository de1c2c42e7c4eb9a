"""What is wrong with a dataset: one `Finding` a fault, by the same checks whether it is opened or validated."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from reprlib import repr as short
from typing import Any, Literal, NamedTuple

from sb3_alignsam.errors import InputError

Level = Literal["error", "warning"]
MOST_LISTED = 1000
"""Findings of one kind that are kept; the rest is only counted, so that a file of nothing but faults fits in memory."""
MOST_CHARACTERS = 400
"""Of a message that is not shortened."""


class Fault(NamedTuple):
    """What a check finds in one record, which does not know where it stands.

    :param kind: short name, by which findings are counted, such as ``polygon``.
    :param place: what follows the record's JSON path, such as ``.segmentation[0]``; may be empty.
    :param value: what stands there. :param message: what is wrong with it and how to mend it, without a full stop.
    """

    kind: str
    place: str
    value: Any
    message: str
    level: Level = "error"


class Finding(NamedTuple):
    """One fault of a dataset.

    :param level: ``error``: what it names cannot be used; ``warning``: it can, but somebody should look.
    :param kind: see `Fault`. :param file: path of the file. :param place: JSON path in it; may be empty.
    :param id: the record's own id, whatever stands there; None: it has none.
    :param value: what stands there, shortened. :param message: what is wrong and how to mend it.
    """

    level: Level
    kind: str
    file: str
    place: str
    id: Any
    value: str
    message: str

    @classmethod
    def of(cls, fault: Fault, file: Path, place: str = "", identity: Any = None) -> Finding:
        """A fault at its place: the record at the JSON path `place` of `file`."""
        value = "" if fault.value is None and not fault.place else _printable(short(fault.value))
        if identity is not None and (type(identity) is not int or identity.bit_length() > 64):
            identity = _printable(short(identity))
        message = fault.message
        if len(message) > MOST_CHARACTERS:  # it quotes something long, such as a path; its end says how to mend it
            message = f"{message[: MOST_CHARACTERS // 2]}…{message[-MOST_CHARACTERS // 3 :]}"
        return cls(fault.level, fault.kind, _printable(str(file)), place + fault.place, identity, value, message)

    def inside(self) -> str:
        """In a line, for somebody who knows which file it is about."""
        which = "" if self.id is None else f" (id {self.id})"
        where = f"{self.place}{which}: " if self.place else ""
        return f"{where}{_printable(self.message)}"

    def __str__(self) -> str:
        inside = self.inside()
        return inside if self.file in inside else f"{self.file}: {inside}"


class DatasetError(InputError):
    """A dataset cannot be used. :param finding: what is wrong, where, in parts."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding

    def __reduce__(self) -> tuple[type[DatasetError], tuple[Finding]]:
        return DatasetError, (self.finding,)


class Findings:
    """Takes findings as they come.

    :param strict: raise the first error; else all are counted, and up to `MOST_LISTED` of each kind kept.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.counts: dict[Level, Counter[str]] = {"error": Counter(), "warning": Counter()}
        self.listed: list[Finding] = []
        self.unusable: dict[str, set[int]] = {}
        """Records to leave out, by the name of their list: their places in it."""

    def add(self, finding: Finding) -> None:
        """:raises DatasetError: it is an error and `strict` is set."""
        if self.strict and finding.level == "error":
            raise DatasetError(finding)
        kinds = self.counts[finding.level]
        kinds[finding.kind] += 1
        if kinds[finding.kind] <= MOST_LISTED:
            self.listed.append(finding)

    def leave_out(self, key: str, index: int) -> None:
        """Remember a record that cannot be used."""
        self.unusable.setdefault(key, set()).add(index)

    def is_left_out(self, key: str, index: int) -> bool:
        """Whether that record cannot be used."""
        return index in self.unusable.get(key, ())

    def total(self, level: Level) -> int:
        """How many there were, listed or not."""
        return self.counts[level].total()


def _printable(text: str) -> str:
    """One line that every terminal takes."""
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
