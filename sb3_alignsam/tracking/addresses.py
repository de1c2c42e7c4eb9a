"""Addresses of tracking stores: the default one, and how they are written down without their passwords."""

from __future__ import annotations

import re
from pathlib import Path

from sb3_alignsam.errors import InputError

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
HIDDEN = "***"
_USER = re.compile(r"(?<=://)([^/\s@:]*)(:[^\s/]*)?@")


def default_store(folder: Path) -> str:
    """The sqlite store in a folder, which needs no server."""
    return f"sqlite:///{(folder / DATABASE).resolve()}"


def checked(uri: str) -> str:
    """An address that a user gave, sqlite files by their absolute paths, since it may be read from elsewhere.

    :raises InputError: it is no address of a store.
    """
    if uri.startswith("file:") or ("://" not in uri and not uri.startswith("databricks")):
        raise InputError(
            f"--tracking-uri needs an address such as http://host:5000 or sqlite:///mlflow.db, got '{uri}'"
        )
    if not uri.startswith("sqlite:///"):
        return uri
    path = Path(uri.removeprefix("sqlite:///"))
    if not path.parent.is_dir():
        raise InputError(f"--tracking-uri {uri}: there is no folder {path.parent}")
    return f"sqlite:///{path.resolve()}"


def artifact_place(uri: str, experiment: str) -> str | None:
    """Where an experiment's files go: beside an sqlite database; None: the server decides."""
    if not uri.startswith("sqlite:///"):
        return None
    safe = re.sub(r"[^\w.-]+", "_", experiment)
    return (Path(uri.removeprefix("sqlite:///").partition("?")[0]).resolve().parent / ARTIFACTS / safe).as_uri()


def masked(text: str) -> str:
    """A text with the passwords of all addresses in it hidden; a user name without a password may be a token."""
    return _USER.sub(lambda found: f"{found[1]}:{HIDDEN}@" if found[2] else f"{HIDDEN}@", text)


def usable(uri: str) -> str:
    """An address that was written down: where its password is hidden, the one without it, for which MLflow reads
    ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD``."""
    return anonymous(uri) if HIDDEN in uri else uri


def anonymous(uri: str) -> str:
    """An address without user name and password."""
    return _USER.sub("", uri)
