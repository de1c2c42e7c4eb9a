"""Hyperparameters in rl-zoo3's YAML schema, read with a safe loader and typed; nothing is ever evaluated."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule

from sb3_alignsam.errors import InputError
from sb3_alignsam.keywords import as_number, check_keywords, unknown_name
from sb3_alignsam.policies.loading import check_policy
from sb3_alignsam.policies.resolving import resolve_policy_kwargs
from sb3_alignsam.registration import ENV_IDS

ALGORITHMS: dict[str, type[OnPolicyAlgorithm]] = {"ppo": PPO, "maskable_ppo": MaskablePPO}
SCHEDULES = ("learning_rate", "clip_range", "clip_range_vf")
"""Hyperparameters that may be a number or ``lin_NUMBER``, which falls linearly to 0."""
_OURS = ("n_envs", "n_timesteps", "policy", "policy_kwargs")
_NOT_IN_YAML = frozenset(
    [
        "self",
        "policy",
        "env",
        "seed",
        "device",
        "verbose",
        "tensorboard_log",
        "rollout_buffer_class",
        "rollout_buffer_kwargs",
        "policy_kwargs",
        "_init_setup_model",
        "stats_window_size",
        "use_sde",
        "sde_sample_freq",
    ]
)
_SHARES = ("gamma", "gae_lambda")
_POSITIVE = ("n_envs", "n_timesteps", "n_steps", "batch_size", "n_epochs")


@dataclass(frozen=True)
class Hyperparams:
    """One YAML entry, checked.

    :param raw: as written, to be stored with the run.
    :param n_envs: environments side by side. :param n_timesteps: environment steps to train for.
    :param policy: dotted path of the policy class. :param policy_kwargs: its keywords, as written.
    :param algorithm: remaining keywords of the algorithm's constructor, schedules as objects.
    """

    raw: dict[str, Any]
    n_envs: int
    n_timesteps: int
    policy: str
    policy_kwargs: dict[str, Any]
    algorithm: dict[str, Any]


def zoo_folder() -> Path:
    """The folder of the shipped YAML files: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "zoo_configs"
    return inside if inside.is_dir() else package.parent / "zoo_configs"


def shipped_config(algo: str, agent: str) -> Path:
    """The shipped YAML file of an algorithm and an agent.

    :raises InputError: the algorithm or the agent is unknown.
    """
    if algo not in ALGORITHMS:
        raise unknown_name(algo, ALGORITHMS, "algorithm")
    agents = {"implicit": f"{algo}.yml", "explicit": f"{algo}_explicit.yml"}
    if agent not in agents:
        raise unknown_name(agent, agents, "agent")
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
    """Read one environment's entry of a YAML file and apply overrides.

    :param overrides: from ``-params``; they replace single keys, and single keys of ``policy_kwargs``.
    :raises InputError: the file cannot be read, has no entry, or a key or value cannot be used.
    """
    entries = _read_yaml(path)
    if env_id not in entries:
        raise InputError(f"{path} has no entry '{env_id}'; it has {', '.join(map(str, entries))}")
    if not isinstance(entries[env_id], dict):
        raise InputError(f"{path}: entry '{env_id}' needs a mapping of hyperparameters, got {entries[env_id]!r}")
    raw = {key: as_number(value) for key, value in entries[env_id].items()}
    for key, value in (overrides or {}).items():
        both = isinstance(value, dict) and isinstance(raw.get(key), dict)
        raw[key] = raw[key] | value if both else value
    try:
        return check_hyperparams(raw, algo)
    except InputError as error:
        source = f"{path}, {env_id}" if not overrides else f"{path}, {env_id}, or -params"
        raise InputError(f"{source}: {error}") from error


def check_hyperparams(raw: Mapping[str, Any], algo: str) -> Hyperparams:
    """Type one entry.

    :raises InputError: a key is unknown or missing, or its value cannot be used.
    """
    for key in ("n_timesteps", "policy"):
        if key not in raw:
            raise InputError(f"hyperparameter '{key}' is missing")
    for key in _POSITIVE:
        value = _whole(raw[key]) if key in raw else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"hyperparameter '{key}' needs a whole number >= 1, got {raw[key]!r}")
    policy_kwargs = raw.get("policy_kwargs") or {}
    if not isinstance(policy_kwargs, dict):
        raise InputError(f"hyperparameter 'policy_kwargs' needs a mapping, got {policy_kwargs!r}")
    algorithm = {key: _whole(value) if key in _POSITIVE else value for key, value in raw.items() if key not in _OURS}
    for key in SCHEDULES:
        if algorithm.get(key) is not None:
            algorithm[key] = _schedule(key, algorithm[key])
    check_keywords(ALGORITHMS[algo].__init__, algorithm, "hyperparameter", _NOT_IN_YAML)
    _check_ranges(algorithm)
    _check_batches(algo, algorithm, _whole(raw.get("n_envs", 1)))
    check_policy(str(raw["policy"]), algo)
    resolve_policy_kwargs(policy_kwargs)
    return Hyperparams(
        dict(raw),
        _whole(raw.get("n_envs", 1)),
        _whole(raw["n_timesteps"]),
        str(raw["policy"]),
        policy_kwargs,
        algorithm,
    )


def _check_ranges(algorithm: Mapping[str, Any]) -> None:
    for key, value in algorithm.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            high = 1.0 if key in _SHARES else math.inf
            if not math.isfinite(value) or not 0 <= value <= high:
                raise InputError(f"hyperparameter '{key}' needs a finite number from 0 to {high:g}, got {value!r}")


def _check_batches(algo: str, algorithm: Mapping[str, Any], n_envs: int) -> None:
    """Refuse what SB3's normalisation of advantages turns into NaN or an assertion: a batch of one."""
    defaults = inspect.signature(ALGORITHMS[algo].__init__).parameters
    n_steps, batch_size = (algorithm.get(key, defaults[key].default) for key in ("n_steps", "batch_size"))
    rollout = n_steps * n_envs
    if rollout < 2 or batch_size < 2:
        raise InputError(f"n_steps x n_envs is {rollout} and batch_size {batch_size}; each must be 2 or more")
    # PPO skips the normalisation of a last minibatch of one, MaskablePPO does not.
    if algo == "maskable_ppo" and rollout % batch_size == 1:
        raise InputError(f"n_steps x n_envs = {rollout} leaves a last minibatch of one; change batch_size {batch_size}")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise InputError(f"configuration {path} does not exist or is no file")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{str(path)[:200]} is no YAML that can be read: {' '.join(str(error).split())[:200]}"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} needs one entry for each environment id at its top level")
    return content


def _whole(value: Any) -> Any:
    """1e5 as 100000, since rl-zoo3's files write step counts so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _schedule(key: str, value: Any) -> Any:
    if isinstance(value, str):
        kind, _, number = value.partition("_")
        try:
            start = float(number)
        except ValueError:
            start = -1.0
        if kind != "lin" or not 0 < start < math.inf:
            raise InputError(f"hyperparameter '{key}' needs a number or lin_NUMBER, got {value!r}")
        return LinearSchedule(start, 0.0, 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"hyperparameter '{key}' needs a number above 0 or lin_NUMBER, got {value!r}")
    return float(value)
