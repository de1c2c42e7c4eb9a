"""`MlflowCallback`: a training run in MLflow, which never makes training wait."""

from __future__ import annotations

import atexit
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image as Pictures
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Image, KVWriter, Logger, filter_excluded_keys

from sb3_alignsam.tracking.addresses import default_store, masked
from sb3_alignsam.tracking.journal import Journal, journal_of, read_entries
from sb3_alignsam.tracking.sender import PATIENCE, Sender

PATIENCE_WHEN_STOPPED = 10.0
"""Seconds that a run which was stopped waits for the server."""
MAX_KEY, MAX_VALUE = 250, 6000
"""MLflow's limits of a parameter, in characters; of a tag's value it takes a little more."""
PICTURES = "plots"
_FORBIDDEN = re.compile(r"[^\w./: -]")


class MlflowCallback(BaseCallback):
    """Keeps a run in MLflow: parameters, tags, every figure of SB3's logger, pictures, files, and its model.

    All of it goes to a journal in the run's folder, and a process of its own sends it, so a server that is slow or gone
    changes nothing for training; ``sb3-alignsam sync FOLDER`` sends what is left. The MLflow run belongs to the folder:
    who trains there again goes on with it.

    Used as a context manager it knows how training ended, and sends files that are written behind ``learn``::

        with MlflowCallback(Path("runs/1"), experiment="clicks") as tracking:
            model.learn(10_000, tracking)

    :param folder: of the run. :param tracking_uri: of the store; None: sqlite beside the folder.
    :param experiment: its name. :param run_name: None: the folder's name.
    :param params: nested mappings become ``outer.inner``; long values are cut.
    :param tags: likewise. :param files: globs of files to keep at the end, and the folders of artifacts they go to.
    :param files_at_start: likewise, at the beginning.
    :param model: a zip in the folder, written by `train`, to register at the end; None: none.
    :param registered_model: name in MLflow's model registry. :param report: told what goes wrong, in one line.
    """

    def __init__(
        self,
        folder: Path,
        tracking_uri: str | None = None,
        experiment: str = "Default",
        run_name: str | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        files: Mapping[str, str] | None = None,
        files_at_start: Mapping[str, str] | None = None,
        model: str | None = None,
        registered_model: str = "sb3-alignsam",
        report: Callable[[str], None] = print,
    ) -> None:
        super().__init__()
        self.folder, self.report = folder, report
        self.tracking_uri = tracking_uri or default_store(folder.parent)
        self.about: dict[str, Any] = {
            "experiment": experiment,
            "name": run_name or folder.name,
            "params": {_key(key): masked(value)[:MAX_VALUE] for key, value in flat(params or {})},
            "tags": {_key(key): masked(value)[:MAX_VALUE] for key, value in flat(tags or {})},
            "uri": masked(self.tracking_uri),
            "files": dict(files or {}),
        }
        self.files_at_start, self.registered_model, self.zip = dict(files_at_start or {}), registered_model, model
        self.journal = Journal(journal_of(folder), report)
        self.writer = _Writer(self)
        self._sender: Sender | None = None

    def begin(self, logger: Logger) -> None:
        """Begin, or go on where training in this folder ended; what `logger` is given from here on is kept."""
        if self.writer not in logger.output_formats:
            logger.output_formats.append(self.writer)
        if self._sender is not None:
            return
        run_id, known = _known(self.folder)
        self.writer.dumps = self.writer.known = known
        self.journal.append({"kind": "begin", "id": run_id or uuid.uuid4().hex, **self.about})
        self._upload_all(self.files_at_start)
        self._sender = Sender(self.folder, self.tracking_uri, self.report)
        atexit.register(self.finish)

    def upload(self, path: Path, to: str = "") -> None:
        """Keep a file of the run's folder. :param to: folder of artifacts."""
        self.journal.append({"kind": "file", "path": path.relative_to(self.folder).as_posix(), "to": to})

    def finish(self, status: str = "FINISHED") -> None:
        """Send what is left and end the MLflow run. :param status: ``FINISHED``, ``FAILED`` or ``KILLED``."""
        if self._sender is None:
            return
        atexit.unregister(self.finish)
        self._upload_all(self.about["files"])
        if self.zip is not None and status == "FINISHED":
            self.journal.append({"kind": "model", "path": self.zip, "name": self.registered_model})
        self.journal.append({"kind": "status", "status": status})
        self.journal.close()
        sender, self._sender = self._sender, None
        sender.close(PATIENCE if status == "FINISHED" else PATIENCE_WHEN_STOPPED)

    def __enter__(self) -> MlflowCallback:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whoever stops a run raises what is no Exception.
        self.finish("FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED")

    def state_dict(self) -> dict[str, Any]:
        """How many times the logger was dumped."""
        return {"dumps": self.writer.dumps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave: dumps that are made again are not kept twice."""
        self.writer.dumps = int(state["dumps"])

    def _on_training_start(self) -> None:
        self.begin(self.logger)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self._sender is not None:
            self._sender.relay()

    def _on_training_end(self) -> None:
        if self.logger.name_to_value:  # the last update's: SB3 dumps before it
            self.logger.dump(self.num_timesteps)

    def _upload_all(self, patterns: Mapping[str, str]) -> None:
        for pattern, to in patterns.items():
            for path in sorted(self.folder.glob(pattern)):
                self.upload(path, to)


class _Writer(KVWriter):
    """The logger's output format that writes to the journal, one entry for each dump.

    `known` dumps are in the journal already; `dumps` have been made.
    """

    def __init__(self, owner: MlflowCallback) -> None:
        self.owner = owner
        self.dumps = self.known = 0

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.dumps += 1
        if self.dumps <= self.known:
            return
        values = filter_excluded_keys(key_values, key_excluded, "mlflow")
        numbers = {_key(key): float(value) for key, value in values.items() if _is_number(value)}
        if numbers:
            now = time.time_ns() // 10**6
            self.owner.journal.append(
                {"kind": "metrics", "dump": self.dumps, "step": int(step), "time": now, "values": numbers}
            )
        for key, value in values.items():
            if isinstance(value, Image) and isinstance(value.image, np.ndarray) and value.dataformats == "HWC":
                self._keep_picture(f"{key.replace('/', '_')}_{step}.png", value.image)

    def close(self) -> None:
        """The journal is closed by its owner."""

    def _keep_picture(self, name: str, picture: np.ndarray) -> None:
        path = self.owner.folder / PICTURES / name
        with suppress(OSError):  # on a full disk the journal tells
            path.parent.mkdir(exist_ok=True)
            Pictures.fromarray(picture).save(path)
            self.owner.upload(path, PICTURES)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings as ``outer.inner`` and texts; lists as JSON."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, default=str) if isinstance(value, list | tuple) else str(value)


def _key(text: str) -> str:
    """A name as MLflow takes it."""
    return _FORBIDDEN.sub("_", text)[:MAX_KEY]


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (hasattr(value, "dtype") and getattr(value, "shape", None) == ())


def _known(folder: Path) -> tuple[str | None, int]:
    """The id by which a folder's journal knows its run, and how many dumps it holds."""
    run_id, dumps = None, 0
    for entry, _ in read_entries(journal_of(folder)):
        if entry is not None and entry.get("kind") == "begin":
            run_id = run_id or entry.get("id")
        elif entry is not None and entry.get("kind") == "metrics":
            dumps = max(dumps, int(entry["dump"]))
    return run_id, dumps
