"""What a long job has done so far, one JSON line an image, so that the same command goes on after any kind of end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sb3_alignsam.errors import InputError


class Progress:
    """An append-only file: a first line with the job's configuration, then one line for each image.

    A line that a kill or a full disk cut short is the last one; it is taken away when the file is opened again.

    :param path: of the file; made where there is none.
    :param configuration: plain JSON values, by name; decides whether earlier lines are of any use.
    :raises InputError: the file cannot be used, or was begun with another configuration; the message says what differs.
    """

    def __init__(self, path: Path, configuration: dict[str, Any]) -> None:
        self.path = path
        configuration = json.loads(json.dumps(configuration, default=str))
        try:
            content = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); choose another place with -o") from error
        lines, size = _whole_lines(content, path)
        self.entries: dict[str, dict[str, Any]] = {}
        """The latest line of each image, by its name."""
        if lines:
            self._check(lines[0], configuration)
            self.entries = {line["image"]: line for line in lines[1:] if isinstance(line.get("image"), str)}
        if len(content) > size:
            self._cut(size)
        if not lines:
            self._write({"configuration": configuration})

    def add(self, entry: dict[str, Any]) -> None:
        """Note one image's entry, under its ``image``; it is on disk when this returns.

        :raises InputError: the disk is full, or the file has become read-only.
        """
        self._write(entry)
        self.entries[entry["image"]] = entry

    def _cut(self, size: int) -> None:
        try:
            os.truncate(self.path, size)
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be written ({error.strerror}); choose another place with -o"
            ) from error

    def _write(self, line: dict[str, Any]) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            reason = error.strerror
            raise InputError(
                f"{self.path} cannot be written ({reason}); mend that and give the same command"
            ) from error

    def _check(self, first: dict[str, Any], configuration: dict[str, Any]) -> None:
        begun = first.get("configuration")
        if not isinstance(begun, dict):
            raise InputError(f"{self.path} was not written by this command; choose another place with -o")
        differing = [name for name in configuration if begun.get(name) != configuration[name]]
        if differing:
            raise InputError(
                f"{self.path} was begun with another {', '.join(differing)}; choose another place with -o, or delete "
                "it to start anew"
            )


def _whole_lines(content: bytes, path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines that can be read, and up to which byte they reach; only the last line may be damaged."""
    lines: list[dict[str, Any]] = []
    size = 0
    parts = content.split(b"\n")
    for number, part in enumerate(parts[:-1], 1):  # What follows the last line's end is empty, or torn.
        try:
            line = json.loads(part)
            if not isinstance(line, dict):
                raise ValueError("it is no JSON object")
        except (ValueError, RecursionError) as error:
            if number < len(parts) - 1 or parts[-1]:
                raise InputError(f"{path}: line {number} is damaged; delete the file to start anew") from error
            break
        lines.append(line)
        size += len(part) + 1
    return lines, size
