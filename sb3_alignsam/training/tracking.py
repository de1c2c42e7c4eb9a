"""What a run keeps in MLflow, and under which names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import Logger

from sb3_alignsam.callbacks import MlflowCallback
from sb3_alignsam.tracking.addresses import default_store, usable
from sb3_alignsam.training.config import Hyperparams
from sb3_alignsam.training.settings import RunSettings
from sb3_alignsam.training.versions import FILE as VERSIONS
from sb3_alignsam.yaml_files import read_yaml

FILES = {
    "*.zip": "",
    "progress.csv": "",
    "evaluations.npz": "",
    "videos/*.mp4": "videos",
    "report/*": "report",
}
"""Kept at the end, and by ``sb3-alignsam sync``."""


@contextmanager
def tracked(
    settings: RunSettings, hyperparams: Hyperparams, folder: Path, logger: Logger, report: Callable[[str], None]
) -> Iterator[MlflowCallback | None]:
    """Keep a run in MLflow while the block lasts, as its settings say; None: it is not to be kept."""
    if settings.track == "none":
        yield None
        return
    inner = folder / settings.env_id
    callback = MlflowCallback(
        folder,
        usable(settings.tracking_uri) if settings.tracking_uri else default_store(folder.parents[1]),
        settings.env_id,
        f"{settings.algo}/{folder.name}",
        _params(settings, hyperparams),
        _tags(settings, hyperparams, inner),
        FILES,
        {f"{settings.env_id}/{name}": "configuration" for name in ("*.yml", "command.txt")},
        "best_model.zip" if settings.eval_freq else f"{settings.env_id}.zip",
        f"{settings.env_id}-{settings.algo}",
        report,
    )
    with callback:
        callback.begin(logger)
        yield callback


def _params(settings: RunSettings, hyperparams: Hyperparams) -> dict[str, Any]:
    left_out = ("logs", "progress", "track", "tracking_uri")
    own = {name: value for name, value in vars(settings).items() if name not in left_out}
    return {**own, "hyperparams": hyperparams.raw}


def _tags(settings: RunSettings, hyperparams: Hyperparams, inner: Path) -> dict[str, Any]:
    versions: Mapping[str, Any] = read_yaml(inner / VERSIONS).content
    packages = {f"version.{name}": version for name, version in versions.get("packages", {}).items()}
    commit = versions.get("commit")
    return {
        "algo": settings.algo,
        "agent": hyperparams.policy.rpartition(".")[2],
        "env_id": settings.env_id,
        "seed": settings.seed,
        "run_folder": str(inner.parent.resolve()),
        "device": versions.get("device"),
        "version.sb3-alignsam": versions.get("sb3-alignsam"),
        "version.python": versions.get("python"),
        **packages,
        **({} if commit is None else {"mlflow.source.git.commit": commit}),
        "mlflow.source.name": "sb3-alignsam train",
        "mlflow.source.type": "LOCAL",
    }
