"""`TellingSubprocVecEnv`: SB3's `SubprocVecEnv`, but an error in a worker reaches the user as what it was."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_alignsam.errors import FULL_DISK, InputError, RunError

_GONE = (EOFError, ConnectionError)
"""What the pipe of a process that has ended raises."""


class WorkerError(RuntimeError):
    """An exception in a worker process; the message holds its traceback."""


class TellingSubprocVecEnv(SubprocVecEnv):
    """A `SubprocVecEnv` that raises what ended a worker, where SB3's own raises `EOFError`.

    A user's mistake (`InputError`) is raised as such, another exception as `WorkerError` with the worker's traceback,
    and a worker that was killed as `RunError`. Everything else is as in SB3.

    :param env_fns: make the environments, each in its process.
    :param start_method: as in SB3.
    """

    def __init__(self, env_fns: list[Callable[[], gym.Env]], start_method: str | None = None) -> None:
        self._folder = TemporaryDirectory(prefix="sb3-alignsam-")
        folder = Path(self._folder.name)
        self.processes: list[Any] = []
        try:
            super().__init__([_Maker(each, folder / str(row)) for row, each in enumerate(env_fns)], start_method)
        except _GONE:
            for process in self.processes:
                process.terminate()
            raise _told(folder) from None
        self.remotes = tuple(_Remote(each, folder) for each in self.remotes)

    def close(self) -> None:
        """End every worker, those included whose siblings have failed."""
        if self.closed:
            return
        for remote in self.remotes:
            try:
                if self.waiting:
                    remote.recv()
                remote.send(("close", None))
            except (InputError, RunError, WorkerError):
                continue  # It has ended already, and that was told where it was noticed.
        for process in self.processes:
            process.join()
        for remote in self.remotes:
            remote.close()
        self.closed = True
        self._folder.cleanup()


class _Remote:
    """One end of a worker's pipe."""

    def __init__(self, connection: Any, folder: Path) -> None:
        self._connection, self._folder = connection, folder

    def send(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except _GONE:
            raise _told(self._folder) from None

    def recv(self) -> Any:
        try:
            return self._connection.recv()
        except _GONE:
            raise _told(self._folder) from None

    def close(self) -> None:
        self._connection.close()


def _told(folder: Path) -> Exception:
    """The exception for what workers have noted, the first of them."""
    notes = [path for path in folder.iterdir() if path.suffix != ".tmp"]
    for note in sorted(notes, key=lambda path: path.stat().st_mtime):
        content = json.loads(note.read_text(encoding="utf-8"))
        if content["kind"] == "input":
            return InputError(content["text"])
        if content["kind"] == "full":
            return OSError(content["number"], content["text"], content["file"])
        return WorkerError(f"in worker process {note.name}:\n{content['text']}")
    return RunError("a worker process was killed; is there too little memory?")


@contextmanager
def _noting(path: Path) -> Iterator[None]:
    """In a worker: note an exception in a file, then end the process quietly."""
    try:
        yield
    except Exception as error:  # a user's dataset may raise anything
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            told = {"kind": "full", "number": error.errno, "text": error.strerror, "file": error.filename}
        elif isinstance(error, InputError):
            told = {"kind": "input", "text": str(error)}
        else:
            told = {"kind": "other", "text": traceback.format_exc()}
        # At once, since the parent may be reading what another worker has noted.
        unfinished = path.with_name(path.name + ".tmp")
        unfinished.write_text(json.dumps(told), encoding="utf-8")
        os.replace(unfinished, path)
        raise SystemExit(1) from None


class _Maker:
    """Makes an environment in a worker; errors go to a file, those of making it too."""

    def __init__(self, make: Callable[[], gym.Env], path: Path) -> None:
        self._make, self._path = make, path

    def __call__(self) -> gym.Env:
        with _noting(self._path):
            return _Noting(self._make(), self._path)


class _Noting(gym.Wrapper):
    def __init__(self, env: gym.Env, path: Path) -> None:
        super().__init__(env)
        self._path = path

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        with _noting(self._path):
            return super().reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        with _noting(self._path):
            return super().step(action)

    def render(self) -> Any:
        with _noting(self._path):
            return super().render()

    def get_wrapper_attr(self, name: str) -> Any:
        value = super().get_wrapper_attr(name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            with _noting(self._path):
                return value(*args, **kwargs)

        return call
