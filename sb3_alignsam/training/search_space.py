"""Search spaces of `optimize`: which hyperparameters are searched, and among which values, read from YAML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_alignsam.errors import InputError
from sb3_alignsam.training.config import SCHEDULES, check_hyperparams, zoo_folder
from sb3_alignsam.training.zoo_keys import HyperparamError
from sb3_alignsam.yaml_files import YamlFile, read_yaml

if TYPE_CHECKING:
    from optuna.trial import Trial

KEYS = ("low", "high", "log", "step")
NOT_SEARCHED = ("policy", "n_timesteps", "env_kwargs", "callback")
"""They would change what is compared, or how long each trial takes."""
DIGITS = 4
"""Significant digits of a number that is drawn: more say nothing, and less can be read at a glance."""


@dataclass(frozen=True)
class Dimension:
    """One hyperparameter that is searched.

    :param keys: that lead to it in an entry of hyperparameters. :param place: ``path:line``, for messages.
    :param choices: the values, or none: it is a number from `low` to `high`.
    :param log: whether numbers are drawn evenly by their logarithm. :param step: between whole numbers.
    :param linear: the numbers are starts of schedules, written as ``lin_NUMBER``.
    """

    keys: tuple[str, ...]
    place: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: int = 1
    linear: bool = False

    @property
    def name(self) -> str:
        """As the study calls it."""
        return ".".join(self.keys)

    def extremes(self) -> Sequence[Any]:
        """Values that tell whether all can be used."""
        return self.choices or [self._written(self.low), self._written(self.high)]

    def draw(self, trial: Trial) -> Any:
        """The value of one trial, as it is written in YAML."""
        if self.choices:
            return trial.suggest_categorical(self.name, self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int) and not self.linear:
            return trial.suggest_int(self.name, self.low, self.high, step=self.step, log=self.log)
        number = trial.suggest_float(self.name, self.low, self.high, log=self.log)
        return self._written(float(f"{number:.{DIGITS}g}"))

    def _written(self, number: float) -> Any:
        return f"lin_{number}" if self.linear else number


def shipped_space() -> Path:
    """The search space that ships with the package. Both algorithms have the same hyperparameters."""
    return zoo_folder() / "spaces" / "ppo.yml"


def read_space(path: Path, env_id: str, base: Mapping[str, Any], algo: str) -> list[Dimension]:
    """Read the entry of an environment, or the entry ``default``.

    :param base: hyperparameters that the searched ones replace.
    :raises InputError: the file cannot be read, or an entry of it cannot be searched: with its line.
    """
    file = read_yaml(path)
    entry = env_id if env_id in file.content else "default"
    content = file.content.get(entry)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} needs an entry '{env_id}' or 'default': a mapping of hyperparameters to search")
    dimensions: list[Dimension] = []
    for key, value in content.items():
        if key == "policy_kwargs" and isinstance(value, dict):
            dimensions += [_dimension(file, (entry, key, str(name)), each) for name, each in value.items()]
        else:
            dimensions.append(_dimension(file, (entry, str(key)), value))
    for dimension in dimensions:
        _check(dimension, base, algo)
    return dimensions


def with_values(base: Mapping[str, Any], values: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """A copy of hyperparameters in which those of these keys are replaced."""
    changed = dict(base)
    for keys, value in values.items():
        if len(keys) == 1:
            changed[keys[0]] = value
        else:
            changed[keys[0]] = {**(changed.get(keys[0]) or {}), keys[1]: value}
    return changed


def _dimension(file: YamlFile, keys: tuple[str, ...], value: Any) -> Dimension:
    place, name = file.where(*keys), ".".join(keys[1:])
    if keys[1] in NOT_SEARCHED:
        raise InputError(f"{place}: '{name}' is not searched; give it in the file of hyperparameters")
    if isinstance(value, list):
        if len(value) < 2 or len({repr(each) for each in value}) < len(value):
            raise InputError(f"{place}: '{name}' needs two different values or more to choose from")
        if not all(each is None or isinstance(each, bool | int | float | str) for each in value):
            raise InputError(f"{place}: '{name}' needs plain values to choose from, no lists or mappings")
        return Dimension(keys[1:], place, choices=tuple(value))
    if not isinstance(value, dict) or not {"low", "high"} <= set(value):
        raise InputError(f"{place}: '{name}' needs a list of values, or a mapping with low and high")
    for key in value:
        if key not in KEYS:
            raise InputError(f"{file.where(*keys, key)}: '{key}' is not known; known: {', '.join(KEYS)}")
    return _range(keys, place, name, value)


def _range(keys: tuple[str, ...], place: str, name: str, value: Mapping[str, Any]) -> Dimension:
    bounds, log, step = [value["low"], value["high"]], value.get("log", False), value.get("step", 1)
    linear = all(isinstance(each, str) and each.startswith("lin_") for each in bounds)
    if linear and keys[1] in SCHEDULES:
        bounds = [_number(each.removeprefix("lin_")) for each in bounds]
    low, high = bounds
    if not all(isinstance(each, int | float) and not isinstance(each, bool) and math.isfinite(each) for each in bounds):
        raise InputError(f"{place}: '{name}' needs two numbers, low and high, or both as lin_NUMBER of a schedule")
    if not low < high:
        raise InputError(f"{place}: '{name}' needs a low below its high, got {low} and {high}")
    whole = isinstance(low, int) and isinstance(high, int) and not linear
    if not isinstance(log, bool) or (log and low <= 0):
        raise InputError(f"{place}: log of '{name}' is true or false, and true needs numbers above 0")
    if isinstance(step, bool) or not isinstance(step, int) or step < 1 or (step > 1 and (log or not whole)):
        raise InputError(f"{place}: step of '{name}' is a whole number, for whole numbers without log")
    return Dimension(keys[1:], place, low=low, high=high, log=log, step=step, linear=linear)


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _check(dimension: Dimension, base: Mapping[str, Any], algo: str) -> None:
    """:raises InputError: a value cannot be used, whatever the others are."""
    for value in dimension.extremes():
        try:
            check_hyperparams(with_values(base, {dimension.keys: value}), algo)
        except HyperparamError as error:
            # Without keys it is about several hyperparameters together, which a trial may find in another state.
            if error.keys[: len(dimension.keys)] == dimension.keys:
                raise InputError(f"{dimension.place}: {error}") from error
