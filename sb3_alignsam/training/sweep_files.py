"""Results of a search as files: a table, JSON, and the best hyperparameters as YAML that `train` takes."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sb3_alignsam.errors import InputError
from sb3_alignsam.training.settings import RunSettings


@dataclass(frozen=True)
class SweepFiles:
    """The files of one study. Every process that takes part writes all of it anew after each of its trials.

    :param folder: where they lie.
    """

    folder: Path

    @property
    def table(self) -> Path:
        """One row a trial, as CSV."""
        return self.folder / "trials.csv"

    @property
    def figures(self) -> Path:
        """The same with the intermediate values, as JSON."""
        return self.folder / "trials.json"

    @property
    def best(self) -> Path:
        """The best trial's hyperparameters; there is none before a trial has ended whole."""
        return self.folder / "best.yml"

    def write(self, study: Study, settings: RunSettings, n_timesteps: int) -> None:
        """Write the study as it is now.

        :param n_timesteps: steps of each trial.
        :raises InputError: a file cannot be written.
        """
        rows = [_row(trial) for trial in study.trials]
        _write_whole(self.figures, json.dumps({"study": study.study_name, "trials": rows}, indent=1))
        _write_whole(self.table, _csv(rows))
        if any(trial.state == TrialState.COMPLETE for trial in study.trials):
            _write_whole(self.best, _best(study, settings, n_timesteps))


def best_entry(trial: FrozenTrial, settings: RunSettings) -> Mapping[str, Any]:
    """A trial's entry of a configuration file, with the environment's keywords in it."""
    raw = dict(trial.user_attrs["hyperparams"])
    kwargs = {**(raw.get("env_kwargs") or {}), **settings.env_kwargs}
    return {**raw, "env_kwargs": kwargs} if kwargs else raw


def _best(study: Study, settings: RunSettings, n_timesteps: int) -> str:
    trial = study.best_trial
    ended = sum(each.state in (TrialState.COMPLETE, TrialState.PRUNED) for each in study.trials)
    head = (
        f"# Study '{study.study_name}': trial {trial.number}, the best of {ended}; mIoU {trial.value:.4f} on "
        f"{settings.eval_episodes} dev episodes after {n_timesteps} steps, seed {settings.seed}.\n"
        f"# sb3-alignsam train --env {settings.env_id} --algo {settings.algo} --seed {settings.seed} "
        "--conf-file best.yml\n"
    )
    return head + yaml.safe_dump({settings.env_id: dict(best_entry(trial, settings))}, sort_keys=False)


def _row(trial: FrozenTrial) -> dict[str, Any]:
    seconds = None if trial.duration is None else round(trial.duration.total_seconds(), 1)
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "miou": trial.value,
        "params": trial.params,
        "evaluations": {str(step): value for step, value in sorted(trial.intermediate_values.items())},
        "seconds": seconds,
        "run": trial.user_attrs.get("run"),
        "reason": trial.user_attrs.get("reason"),
    }


def _csv(rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row["params"]))
    columns = ["number", "state", "miou", *names, "seconds", "run", "reason"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row["params"], **row})
    return text.getvalue()


def _write_whole(path: Path, text: str) -> None:
    """Write a file at once, also where another process writes the same one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
