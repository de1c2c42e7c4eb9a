"""From a run's journal to MLflow: everything once and in its order, however often sending was interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sb3_alignsam
from sb3_alignsam.errors import InputError
from sb3_alignsam.tracking.addresses import anonymous, artifact_place
from sb3_alignsam.tracking.journal import FOLDER, journal_of, read_entries

# Short: who sends may wait, but the end of training waits for who sends. A user's own settings are kept.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
# What is trained here is nobody else's business, and there may be no network.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

STATE = "sent.json"
ID_TAG = "sb3_alignsam.id"
MODEL = "model"
"""Folder of the model among a run's artifacts."""
LOADER = "sb3_alignsam.inference.mlflow_model"
REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "FEATURE_DISABLED", "NOT_IMPLEMENTED", "ENDPOINT_NOT_FOUND")
"""Errors that come again however often an entry is sent."""
_BATCH = 100


class Sending:
    """Sends the journal of one run to one store, and keeps how far it came in ``tracking/sent.json``.

    What is sent twice because a kill came in between is the same to the server: points have their own times, files and
    models are known by their content.

    :param folder: of the run. :param uri: of the store.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri = folder, uri
        _make_database(uri)
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._state_path = folder / FOLDER / STATE
        state = _read_state(self._state_path).get(anonymous(uri), {})
        self.offset: int = state.get("offset", 0)
        self.run_id: str | None = state.get("run_id")
        self.files: dict[str, list[int]] = state.get("files", {})
        self.refused: list[str] = []
        """What the server will not take, in words."""

    def send(self) -> int:
        """Send what the journal holds beyond what was sent; how many entries that were.

        :raises Exception: whatever MLflow and its libraries raise; what was sent until then is noted.
        """
        count = 0
        for entry, end in read_entries(journal_of(self.folder), self.offset):
            if entry is not None:
                self._send(entry)
                count += 1
            self.offset = end
            self.note()
        return count

    def send_files(self, patterns: Mapping[str, str]) -> int:
        """Send the files of the run's folder that match and are not as they were when they were sent before.

        :param patterns: globs, and the folder among the run's artifacts where their files go.
        """
        before = dict(self.files)
        for pattern, to in patterns.items():
            for path in sorted(self.folder.glob(pattern)):
                self._file({"path": path.relative_to(self.folder).as_posix(), "to": to})
        self.note()
        return sum(before.get(name) != stamp for name, stamp in self.files.items())

    def note(self) -> None:
        """Write down how far it came; without room it is found out again, and nothing doubled."""
        state = _read_state(self._state_path)
        state[anonymous(self.uri)] = {"run_id": self.run_id, "offset": self.offset, "files": self.files}
        temporary = self._state_path.with_name(STATE + ".tmp")
        with suppress(OSError):
            temporary.write_text(json.dumps(state, indent=1), encoding="utf-8")
            os.replace(temporary, self._state_path)

    def _send(self, entry: Mapping[str, Any]) -> None:
        handlers = {"begin": self._begin, "metrics": self._metrics, "file": self._file, "model": self._model,
                    "status": self._status}  # fmt: skip
        try:
            if (handler := handlers.get(str(entry.get("kind")))) is not None:
                handler(entry)
        except MlflowException as error:
            if error.error_code not in REFUSED or entry["kind"] == "begin":
                raise
            self.refused.append(f"{entry['kind']} refused by the tracking server: {' '.join(str(error).split())[:200]}")

    def _begin(self, entry: Mapping[str, Any]) -> None:
        tags = [RunTag(key, str(value)) for key, value in entry["tags"].items()]
        if self.run_id is None:
            experiment = self._experiment(entry["experiment"])
            found = self.client.search_runs([experiment], f"tags.`{ID_TAG}` = '{entry['id']}'", max_results=1)
            run = found[0] if found else self.client.create_run(
                experiment, tags={ID_TAG: entry["id"]}, run_name=entry["name"]
            )  # fmt: skip
            self.run_id = run.info.run_id
            params = [Param(key, value) for key, value in entry["params"].items()]
            for start in range(0, len(params), _BATCH):
                self.client.log_batch(self.run_id, params=params[start : start + _BATCH])
        else:
            self.client.update_run(self.run_id, status="RUNNING")
        for start in range(0, len(tags), _BATCH):
            self.client.log_batch(self.run_id, tags=tags[start : start + _BATCH])

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return self.client.create_experiment(name, artifact_location=artifact_place(self.uri, name))
            except MlflowException:
                found = self.client.get_experiment_by_name(name)  # another run was quicker
                if found is None:
                    raise
        return found.experiment_id

    def _metrics(self, entry: Mapping[str, Any]) -> None:
        points = [Metric(key, value, entry["time"], entry["step"]) for key, value in entry["values"].items()]
        self.client.log_batch(self._run(), metrics=points)

    def _file(self, entry: Mapping[str, Any]) -> None:
        path = self.folder / entry["path"]
        if not path.is_file():
            return  # a checkpoint that was forgotten meanwhile
        stat = path.stat()
        stamp = [stat.st_mtime_ns, stat.st_size]
        if self.files.get(entry["path"]) != stamp:
            self.client.log_artifact(self._run(), str(path), entry["to"] or None)
            self.files[entry["path"]] = stamp

    def _model(self, entry: Mapping[str, Any]) -> None:
        path = self.folder / entry["path"]
        if not path.is_file():
            return
        run_id, name = self._run(), entry["name"]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with suppress_existing():
            self.client.create_registered_model(name)
        known = self.client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        if any(version.tags.get("sha256") == digest for version in known):
            return
        with tempfile.TemporaryDirectory() as temporary:
            _save_model(path, Path(temporary) / MODEL)
            self.client.log_artifacts(run_id, str(Path(temporary) / MODEL), MODEL)
        source = f"{self.client.get_run(run_id).info.artifact_uri}/{MODEL}"
        tags = {"sha256": digest, **entry.get("tags", {})}
        self.client.create_model_version(name, source, run_id, tags=tags)

    def _status(self, entry: Mapping[str, Any]) -> None:
        self.client.set_terminated(self._run(), entry["status"])

    def _run(self) -> str:
        if self.run_id is None:
            raise InputError(f"{journal_of(self.folder)} is damaged: it does not say which run it is of")
        return self.run_id


def _save_model(zip_path: Path, folder: Path) -> None:
    """A zip as an MLflow model: a copy of it, and the name of the module that loads it. No code is run or pickled."""
    import mlflow.pyfunc  # takes seconds
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    mlflow.pyfunc.save_model(
        str(folder),
        loader_module=LOADER,
        data_path=str(zip_path),
        signature=ModelSignature(
            Schema([ColSpec(DataType.binary, "image"), ColSpec(DataType.string, "category")]),
            Schema([ColSpec(DataType.binary, "mask"), ColSpec(DataType.double, "score")]),
        ),
        pip_requirements=[f"sb3-alignsam=={sb3_alignsam.__version__}"],
    )


def _make_database(uri: str) -> None:
    """Make an sqlite store that is not there, whole or not at all: one that a kill leaves half made is of no use.

    :raises InputError: it cannot be made.
    """
    path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    if not uri.startswith("sqlite:///") or path.exists():
        return
    with tempfile.TemporaryDirectory(prefix=".mlflow_", dir=path.parent) as temporary:
        new = Path(temporary) / path.name
        # In a process of its own, so that nothing has the file open when it gets its name.
        done = subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{new}"],
                              capture_output=True, text=True, check=False)  # fmt: skip
        if done.returncode or not new.is_file():
            reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise InputError(f"the store {path} cannot be made: {reason[:200]}")
        with suppress(FileExistsError):  # another run was quicker
            os.link(new, path)


@contextmanager
def suppress_existing() -> Iterator[None]:
    """Whoever came first has made it."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


@contextmanager
def only_sender(folder: Path) -> Iterator[None]:
    """Keep every other process from sending a run's journal.

    :raises BlockingIOError: another process does.
    """
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ImportError:  # Windows
        yield
        return
    with (folder / FOLDER / "lock").open("wb") as file:
        flock(file, LOCK_EX | LOCK_NB)
        yield


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}
