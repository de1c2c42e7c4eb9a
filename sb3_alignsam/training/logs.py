"""What a run logs beside its zips: TensorBoard's events, ``progress.csv`` and the monitors' files.

How far they reach at a checkpoint, and how they are cut back to it.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat, filter_excluded_keys
from torch.utils.tensorboard import SummaryWriter

PROGRESS = "progress.csv"
TENSORBOARD = "tensorboard"
GROWING = ("*.monitor.csv", f"{TENSORBOARD}/**/events.out.tfevents.*")
"""Files of a run folder to which something is only ever appended."""


class RunLogger(Logger):
    """SB3's `Logger` into a run folder: TensorBoard under ``tensorboard/``, the same figures in ``progress.csv``.

    :param folder: of the run; what it has logged before is kept.
    :param steps: a TensorBoard that is open is to forget what it has read of later steps; None: of none.
    :param iterations: rollouts before them.
    """

    def __init__(self, folder: Path, steps: int | None = None, iterations: int = 0) -> None:
        self.folder = folder
        (folder / TENSORBOARD).mkdir(exist_ok=True)
        self.events = Events(folder / TENSORBOARD, steps)
        self.progress = ProgressFile(folder / PROGRESS)
        super().__init__(str(folder), [self.events, self.progress])
        self._iterations = iterations

    def record(self, key: str, value: Any, exclude: str | tuple[str, ...] | None = None) -> None:
        # SB3 counts those of one call of `learn`.
        super().record(key, value + self._iterations if key == "time/iterations" else value, exclude)

    def note(self, title: str, values: Mapping[str, Any]) -> None:
        """Show a mapping as text in TensorBoard."""
        text = yaml.safe_dump(dict(values), sort_keys=False)
        self.events.writer.add_text(title, "".join(f"    {line}\n" for line in text.splitlines()), 0)

    def reach(self) -> dict[str, Any]:
        """How far the run's logs reach: sizes of the growing ones in bytes, rows of ``progress.csv``."""
        self.events.writer.flush()
        sizes = {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in _growing(self.folder)}
        return {"sizes": sizes, "rows": self.progress.count}

    def state_dict(self) -> dict[str, Any]:
        """Figures that wait for the next dump, such as the last update's; pictures and the like are left out."""
        plain = [key for key, value in self.name_to_value.items() if _is_number(value) or isinstance(value, str)]
        return {
            "values": {key: self.name_to_value[key] for key in plain},
            "counts": {key: self.name_to_count[key] for key in plain if key in self.name_to_count},
            "excluded": {key: list(self.name_to_excluded[key]) for key in plain},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.name_to_value.update(state["values"])
        self.name_to_count.update(state["counts"])
        self.name_to_excluded.update({key: tuple(value) for key, value in state["excluded"].items()})


class Events(TensorBoardOutputFormat):
    """TensorBoard's events. Each process writes a file of its own into one folder, which TensorBoard shows as one run.

    :param steps: see `RunLogger`.
    """

    def __init__(self, folder: Path, steps: int | None) -> None:
        _wait_for_a_later_name(folder)
        self.writer = SummaryWriter(str(folder), purge_step=None if steps is None else steps + 1)
        self._is_closed = False


class ProgressFile(KVWriter):
    """``progress.csv`` as SB3's own format writes it, but appending to rows that are there, and whole at any instant.

    :param path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        rows = _rows(path)
        self.keys: list[str] = rows[0] if rows else []
        self.count = max(len(rows) - 1, 0)
        """Rows below the keys."""

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        values = filter_excluded_keys(key_values, key_excluded, "csv")
        values = {key: value for key, value in values.items() if _is_number(value) or isinstance(value, str)}
        new = [key for key in values if key not in self.keys]
        row = [str(values.get(key, "")) for key in [*self.keys, *new]]
        if new:
            before = [each + [""] * len(new) for each in _rows(self.path)[1:]]
            _replace(self.path, [[*self.keys, *new], *before, row])
            self.keys += new
        else:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(_text([row]))
        self.count += 1

    def close(self) -> None:
        """Nothing is left open."""


def cut_back(folder: Path, known: Mapping[str, Any] | None) -> None:
    """Drop what a run logged after a checkpoint. Called again after a kill it ends the same.

    :param known: what `RunLogger.reach` gave then; None: drop everything.
    """
    sizes = {} if known is None else known["sizes"]
    for path in _growing(folder):
        size = sizes.get(path.relative_to(folder).as_posix())
        if size is None:
            path.unlink()
        elif size < path.stat().st_size:
            os.truncate(path, size)
    progress, rows = folder / PROGRESS, 0 if known is None else known["rows"]
    if not rows:
        progress.unlink(missing_ok=True)
    elif ProgressFile(progress).count > rows:
        _replace(progress, _rows(progress)[: 1 + rows])


def monitor_sizes(folder: Path, numbers: Iterable[int]) -> dict[str, int]:
    """Sizes in bytes, by name, of those of these environments' monitor files that are there."""
    files = [folder / f"{number}.monitor.csv" for number in numbers]
    return {file.name: file.stat().st_size for file in files if file.is_file()}


def _wait_for_a_later_name(folder: Path) -> None:
    """TensorBoard reads files by name, and names have whole seconds: one of this second could come first."""
    seconds = [each.name.split(".")[3] for each in folder.glob("events.out.tfevents.*")]
    newest = max((int(each) for each in seconds if each.isdigit()), default=0)
    time.sleep(min(max(newest + 1 - time.time(), 0.0), 1.0))


def _growing(folder: Path) -> list[Path]:
    return [path for pattern in GROWING for path in sorted(folder.glob(pattern)) if path.is_file()]


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (hasattr(value, "dtype") and getattr(value, "shape", None) == ())


def _rows(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def _text(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _replace(path: Path, rows: list[list[str]]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(_text(rows), encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
