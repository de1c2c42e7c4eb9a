"""Hyperparameters in rl-zoo3's YAML schema, read with a safe loader and typed; nothing is ever evaluated."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule

from sb3_alignsam.errors import InputError
from sb3_alignsam.keywords import check_keywords, unknown_name
from sb3_alignsam.policies.loading import check_policy
from sb3_alignsam.policies.resolving import resolve_policy_kwargs
from sb3_alignsam.registration import ENV_IDS
from sb3_alignsam.training.zoo_keys import (
    OURS,
    HyperparamError,
    check_env_kwargs,
    check_fitting,
    mapping_of,
    naming,
    read_callbacks,
)
from sb3_alignsam.yaml_files import YamlFile, read_yaml

ALGORITHMS: dict[str, type[OnPolicyAlgorithm]] = {"ppo": PPO, "maskable_ppo": MaskablePPO}
SCHEDULES = ("learning_rate", "clip_range", "clip_range_vf")
"""Hyperparameters that may be a number or ``lin_NUMBER``, which falls linearly to 0."""
_NOT_IN_YAML = frozenset(["self", "env", "_init_setup_model"])
_SHARES = ("gamma", "gae_lambda")
_MOST = {
    "n_envs": 1024,
    "n_timesteps": 2**40,
    "n_steps": 2**20,
    "batch_size": 2**24,
    "n_epochs": 10_000,
    "stats_window_size": 2**20,
}
"""Whole numbers from 1, and the largest that is not a slip: memory grows with most of them."""
_LONGEST = 400
"""Characters of a message: a value that it quotes may be a long one."""


@dataclass(frozen=True)
class Hyperparams:
    """One YAML entry, checked.

    :param raw: as written, to be stored with the run.
    :param n_envs: environments side by side. :param n_timesteps: environment steps to train for.
    :param policy: dotted path of the policy class. :param policy_kwargs: its keywords, as written.
    :param algorithm: remaining keywords of the algorithm's constructor, schedules as objects.
    :param env_kwargs: keywords of the environment; those of the command line replace them one by one.
    :param callbacks: classes and their keywords, to be made for each training.
    :param places: ``path:line`` of each of `policy_kwargs`, which only building a policy can judge.
    """

    raw: dict[str, Any]
    n_envs: int
    n_timesteps: int
    policy: str
    policy_kwargs: dict[str, Any]
    algorithm: dict[str, Any]
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    callbacks: list[tuple[type[BaseCallback], dict[str, Any]]] = field(default_factory=list)
    places: Mapping[str, str] = field(default_factory=dict)

    def place_of(self, message: str) -> str:
        """``path:line: `` of the first of `policy_kwargs` that a message names; empty where it names none of a file."""
        words = re.findall(r"\w+", message)
        return next((f"{place}: " for name, place in self.places.items() if name in words), "")


def zoo_folder() -> Path:
    """The folder of the shipped YAML files: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "zoo_configs"
    return inside if inside.is_dir() else package.parent / "zoo_configs"


def shipped_config(algo: str, agent: str, imitating: bool = False) -> Path:
    """The shipped YAML file of an algorithm and an agent.

    :param imitating: whether the algorithm goes on from imitation, which wants smaller steps and, with *stop* to learn,
        another environment; for the Explicit agent there is such a file.
    :raises InputError: the algorithm or the agent is unknown.
    """
    if algo not in ALGORITHMS:
        raise unknown_name(algo, ALGORITHMS, "algorithm")
    agents = {"implicit": f"{algo}.yml", "explicit": f"{algo}_explicit.yml"}
    if agent not in agents:
        raise unknown_name(agent, agents, "agent")
    if imitating and agent == "explicit":
        return zoo_folder() / f"{algo}_explicit_imitation.yml"
    return zoo_folder() / agents[agent]


def agent_env_kwargs(
    agent: str, env_id: str, env_kwargs: Mapping[str, Any], text_model: str | None = None
) -> dict[str, Any]:
    """The environment's keywords for an agent: the Explicit one needs a text model.

    :param text_model: of the command line; None: the keyword's own, or for an Explicit agent on drawn scenes, of which
        it knows the words, the embedded one.
    :raises InputError: the Explicit agent has none, and there is no default for its dataset.
    """
    kwargs = {**env_kwargs, **({} if text_model is None else {"text_model": text_model})}
    if agent == "explicit" and kwargs.get("text_model") is None:
        dataset = {**ENV_IDS.get(env_id, {}), **kwargs}.get("dataset", "shapes")
        if dataset != "shapes":
            raise InputError(
                "the explicit agent needs a text model for this dataset: --text-model openai/clip-vit-base-patch16, "
                "or a folder (tiny knows the words of drawn scenes only)"
            )
        kwargs["text_model"] = "tiny"
    return kwargs


def read_hyperparams(path: Path, env_id: str, algo: str, overrides: Mapping[str, Any] | None = None) -> Hyperparams:
    """Read one environment's entry of a YAML file, or its entry ``default``, and apply overrides.

    :param overrides: from ``-params``; they replace single keys, and single keys of ``policy_kwargs``.
    :raises InputError: the file cannot be read, has no entry, or a key or value cannot be used: with its line.
    """
    file = read_yaml(path)
    entry = env_id if env_id in file.content else "default"
    if entry not in file.content:
        raise InputError(f"{path} has no entry '{env_id}'; it has {_listed(file.content)}"[:_LONGEST])
    return hyperparams_of(file, (entry,), algo, overrides or {})


def hyperparams_of(file: YamlFile, entry: tuple[str, ...], algo: str, overrides: Mapping[str, Any]) -> Hyperparams:
    """Read one entry of a file.

    :param entry: the key that leads to it; empty: the file is one, as the ``config.yml`` of a run.
    :param overrides: as in `read_hyperparams`.
    :raises InputError: a key or value cannot be used: with its line.
    """
    found = file.content[entry[0]] if entry else file.content
    if not isinstance(found, dict):
        got = str(found)[:60]
        raise InputError(f"{file.where(*entry)}: entry '{entry[0]}' needs a mapping of hyperparameters, got '{got}'")
    raw = dict(found)
    for key, value in overrides.items():
        both = isinstance(value, dict) and isinstance(raw.get(key), dict)
        raw[key] = raw[key] | value if both else value
    try:
        checked = check_hyperparams(raw, algo)
    except HyperparamError as error:
        place = "" if _is_overridden(error.keys, overrides) else f"{file.where(*entry, *error.keys)}: "
        raise InputError(f"{place}{error}"[:_LONGEST]) from error
    return replace(checked, places=_places(file, entry, checked.policy_kwargs, overrides))


def _listed(content: Mapping[Any, Any]) -> str:
    return ", ".join(map(str, content)) or "none"


def _is_overridden(keys: tuple[Any, ...], overrides: Mapping[str, Any]) -> bool:
    """Whether a value came from the command line."""
    if not keys or keys[0] not in overrides:
        return False
    inner = overrides[keys[0]]
    return len(keys) == 1 or not isinstance(inner, dict) or keys[1] in inner


def _places(
    file: YamlFile, entry: tuple[str, ...], kwargs: Mapping[str, Any], overrides: Mapping[str, Any]
) -> dict[str, str]:
    keys = (("policy_kwargs", name) for name in kwargs)
    return {name: file.where(*entry, key, name) for key, name in keys if not _is_overridden((key, name), overrides)}


def check_hyperparams(raw: Mapping[str, Any], algo: str) -> Hyperparams:
    """Type one entry.

    :raises HyperparamError: a key is unknown or missing, does not fit, or its value cannot be used.
    """
    for key in raw:
        if not isinstance(key, str):
            raise HyperparamError(f"hyperparameter {key!r} is no word", key)
    off = check_fitting(raw)
    for key in ("n_timesteps", "policy"):
        if key not in raw:
            raise HyperparamError(f"hyperparameter '{key}' is missing")
    policy_kwargs, env_kwargs = mapping_of(raw, "policy_kwargs"), mapping_of(raw, "env_kwargs")
    check_env_kwargs(env_kwargs)
    algorithm = {key: value for key, value in raw.items() if key not in OURS and key not in off}
    for key in SCHEDULES:
        if algorithm.get(key) is not None:
            algorithm[key] = _schedule(key, algorithm[key])
    for key, value in algorithm.items():
        if key in _MOST:
            algorithm[key] = _checked_whole(key, value)
        with naming(key):
            check_keywords(ALGORITHMS[algo].__init__, {key: algorithm[key]}, "hyperparameter", _NOT_IN_YAML)
    _check_ranges(algorithm)
    n_envs = _checked_whole("n_envs", raw.get("n_envs", 1))
    _check_batches(algo, algorithm, n_envs)
    with naming("policy"):
        check_policy(str(raw["policy"]), algo)
    for key, value in policy_kwargs.items():
        with naming("policy_kwargs", key):
            resolve_policy_kwargs({key: value})
    n_timesteps = _checked_whole("n_timesteps", raw["n_timesteps"])
    callbacks = read_callbacks(raw.get("callback"))
    return Hyperparams(
        dict(raw), n_envs, n_timesteps, str(raw["policy"]), policy_kwargs, algorithm, env_kwargs, callbacks
    )


def _checked_whole(key: str, value: Any) -> int:
    """A whole number; 1e5 is one, since rl-zoo3's files write step counts so."""
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(whole, bool) or not isinstance(whole, int) or whole < 1:
        raise HyperparamError(f"hyperparameter '{key}' needs a whole number >= 1, got {value!r}", key)
    if whole > _MOST[key]:
        raise HyperparamError(f"hyperparameter '{key}' needs a whole number <= {_MOST[key]}, got {value!r}", key)
    return whole


def _check_ranges(algorithm: Mapping[str, Any]) -> None:
    for key, value in algorithm.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            high = 1.0 if key in _SHARES else math.inf
            if not math.isfinite(value) or not 0 <= value <= high:
                raise HyperparamError(
                    f"hyperparameter '{key}' needs a finite number from 0 to {high:g}, got {value!r}", key
                )


def _check_batches(algo: str, algorithm: Mapping[str, Any], n_envs: int) -> None:
    """Refuse what SB3's normalisation of advantages turns into NaN or an assertion: a batch of one."""
    defaults = inspect.signature(ALGORITHMS[algo].__init__).parameters
    n_steps, batch_size = (algorithm.get(key, defaults[key].default) for key in ("n_steps", "batch_size"))
    rollout = n_steps * n_envs
    if rollout < 2 or batch_size < 2:
        raise HyperparamError(f"n_steps x n_envs is {rollout} and batch_size {batch_size}; each must be 2 or more")
    # PPO skips the normalisation of a last minibatch of one, MaskablePPO does not.
    if algo == "maskable_ppo" and rollout % batch_size == 1:
        raise HyperparamError(
            f"n_steps x n_envs = {rollout} leaves a last minibatch of one; change batch_size {batch_size}"
        )


def _schedule(key: str, value: Any) -> Any:
    if isinstance(value, str):
        kind, _, number = value.partition("_")
        try:
            start = float(number)
        except ValueError:
            start = -1.0
        if kind != "lin" or not 0 < start < math.inf:
            raise HyperparamError(f"hyperparameter '{key}' needs a number or lin_NUMBER, got {value!r}", key)
        return LinearSchedule(start, 0.0, 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise HyperparamError(f"hyperparameter '{key}' needs a number above 0 or lin_NUMBER, got {value!r}", key)
    return float(value)
