"""``train --from-run``: the settings and hyperparameters of an earlier run, to train by them again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sb3_alignsam.errors import InputError
from sb3_alignsam.keywords import check_keywords
from sb3_alignsam.training.config import ALGORITHMS, Hyperparams, hyperparams_of
from sb3_alignsam.training.settings import RunSettings
from sb3_alignsam.yaml_files import YamlFile, read_yaml

NOT_RECORDED = ("progress",)
"""Settings that a run's record says nothing about, since they belong to where the command is typed."""


@dataclass(frozen=True)
class RecordedRun:
    """An earlier run.

    :param inner: folder of its configuration. :param settings: its own. :param config: its ``config.yml``.
    """

    inner: Path
    settings: RunSettings
    config: YamlFile

    def settings_with(self, asked: RunSettings, names: Collection[str]) -> RunSettings:
        """The run's settings, but for those of these names as they are asked for; ``env_kwargs`` keyword by keyword."""
        changed = {name: getattr(asked, name) for name in (*names, *NOT_RECORDED) if name != "env_kwargs"}
        env_kwargs = {**self.settings.env_kwargs, **(asked.env_kwargs if "env_kwargs" in names else {})}
        return replace(self.settings, env_kwargs=env_kwargs, **changed)

    def hyperparams(self, overrides: Mapping[str, Any]) -> Hyperparams:
        """The run's hyperparameters with some replaced.

        :raises InputError: one cannot be used.
        """
        return hyperparams_of(self.config, (), self.settings.algo, overrides)


def read_run(run: Path) -> RecordedRun:
    """Read what an earlier run recorded of itself.

    :raises InputError: `run` is no folder of a run that `train` wrote, or its record cannot be used.
    """
    found = sorted(run.glob("*/args.yml")) if run.is_dir() else []
    if not found:
        raise InputError(f"{run} is no run folder: it has no <environment>/args.yml; give one that `train` wrote")
    inner = found[0].parent
    args = read_yaml(found[0])
    if "env_id" not in args.content:
        raise InputError(f"{found[0]} was not written by sb3-alignsam: it has no env_id")
    known = {each.name for each in fields(RunSettings)}
    given = {name: value for name, value in args.content.items() if name not in NOT_RECORDED}
    for name, value in given.items():
        try:
            check_keywords(RunSettings.__init__, {name: value}, "setting")
        except InputError as error:
            raise InputError(f"{args.where(name)}: {error}") from error
    if given.get("algo") not in ALGORITHMS:
        raise InputError(f"{args.where('algo')}: algorithm '{given.get('algo')}' is not known")
    given = {name: Path(value) if name == "logs" else value for name, value in given.items() if name in known}
    return RecordedRun(inner, RunSettings(**given), read_yaml(inner / "config.yml"))
