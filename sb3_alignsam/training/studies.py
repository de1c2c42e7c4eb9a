"""Optuna studies that several processes and machines share."""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from sb3_alignsam.errors import InputError

SAMPLERS = ("tpe", "random")
PRUNERS = ("median", "halving", "none")
HEARTBEAT = 60
"""Seconds between two signs of life of a trial; one without any for `GRACE` is taken for killed."""
GRACE = 600
PAUSES = (0.1, 0.3, 0.6)
"""Seconds after which a database that could not be opened is tried again."""
ABOUT = "about"
"""The study's attribute that tells what its trials have in common."""


class SamplerOfTrials(BaseSampler):
    """Draws each trial by a generator of its own, seeded with the trial's number: processes that share a study and a
    seed never draw the same, and what is drawn depends on the study's trials alone, not on who asks.

    :param kind: one of `SAMPLERS`. :param seed: of the study. :param n_startup_trials: drawn at random at first.
    """

    def __init__(self, kind: str, seed: int, n_startup_trials: int) -> None:
        self._kind, self._seed, self._startup = kind, seed, n_startup_trials
        self._latest: tuple[int, BaseSampler] | None = None

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if self._latest is None or self._latest[0] != trial.number:
            seed = (self._seed * 1_000_003 + trial.number) % 2**32
            self._latest = trial.number, self._made(seed)
        return self._latest[1]

    def _made(self, seed: int) -> BaseSampler:
        if self._kind == "random":
            return RandomSampler(seed=seed)
        return TPESampler(n_startup_trials=self._startup, multivariate=True, constant_liar=True, seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)


def make_pruner(kind: str, n_startup_trials: int, n_evaluations: int) -> BasePruner:
    """One of `PRUNERS`, over evaluations that are counted from 1 to `n_evaluations`."""
    if kind == "halving":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    if kind == "median":
        return MedianPruner(n_startup_trials=n_startup_trials, n_warmup_steps=n_evaluations // 3)
    return NopPruner()


def open_study(
    storage: str, name: str, about: Mapping[str, Any], sampler: BaseSampler | None = None, pruner: Any = None
) -> Study:
    """Open a study, or begin it.

    :param storage: address of a database server, or a file of sqlite. :param name: of the study.
    :param about: what its trials have in common, in plain values.
    :raises InputError: the storage cannot be opened, or the study of that name is about something else.
    """
    # Its warnings are tracebacks of trials that end early, of which the command tells in a line of its own.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = storage if "://" in storage else _sqlite(Path(storage))
    # sqlite: another process may be writing.
    engine = {"connect_args": {"timeout": 100}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            database = _open_database(url, engine)
        study = optuna.create_study(
            storage=database, study_name=name, sampler=sampler, pruner=pruner, direction="maximize", load_if_exists=True
        )
        _check_about(study, name, json.loads(json.dumps(about)))
    except (SQLAlchemyError, ImportError, OSError, RuntimeError) as error:
        raise InputError(f"storage {_without_password(url)} cannot be used: {_reason(error)}") from error
    return study


def fail_killed_trials(study: Study) -> None:
    """Trials without a sign of life for `GRACE` count as failed, as Optuna itself does whenever it begins a trial."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)


def _open_database(url: str, engine: dict[str, Any]) -> RDBStorage:
    """Optuna's storage; its tables are made where there are none.

    Of several processes that make them at the same time all but one fail, and find them made when they ask again.
    """
    for pause in PAUSES:
        try:
            return RDBStorage(url, engine, heartbeat_interval=HEARTBEAT, grace_period=GRACE)
        except SQLAlchemyError:
            time.sleep(pause)
    return RDBStorage(url, engine, heartbeat_interval=HEARTBEAT, grace_period=GRACE)


def _check_about(study: Study, name: str, about: dict[str, Any]) -> None:
    """Trials of different settings are not to be compared."""
    before = study.user_attrs.get(ABOUT)
    if before is None:
        study.set_user_attr(ABOUT, about)
        return
    for key in {**before, **about}:
        if before.get(key) != about.get(key):
            shown = [str(each.get(key))[:120] for each in (before, about)]
            raise InputError(
                f"study '{name}' was begun with {key} {shown[0]}, not {shown[1]}; choose another --study-name"
            )


def _sqlite(path: Path) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"storage {path} cannot be written: {error.strerror}") from error
    return f"sqlite:///{path.absolute()}"


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return re.sub(r"//[^@/]*@", "//***@", url)


def _reason(error: Exception) -> str:
    """The error's own words, less any account that they quote."""
    text = str(getattr(error, "orig", None) or error)
    return re.sub(r"//[^@/\s]*@", "//***@", " ".join(text.split()))[:200]
