"""Keys of rl-zoo3's schema that are no hyperparameters of an algorithm: those that fit click agents, and those that
do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.errors import InputError
from sb3_alignsam.keywords import check_keywords
from sb3_alignsam.policies.resolving import resolve_name

OURS = ("n_envs", "n_timesteps", "policy", "policy_kwargs", "env_kwargs", "callback")
"""Keys that are read apart from the algorithm's."""
CALLBACK_MODULES = ("sb3_alignsam.callbacks", "stable_baselines3.common.callbacks")
_STATISTICS = "a click policy reads no running statistics of observations; leave it out, or set it to false"
_OFF_POLICY = "it is for off-policy algorithms; leave it out"
_OPTION = "it is an option of the command, not of the file"
_OUR_BUFFER = "`train` chooses the buffer; leave it out"
NOT_FITTING: dict[str, str] = {
    "env_wrapper": "the batched environment has no single ones to wrap; leave it out, or set it to null",
    "vec_env_wrapper": "`train` makes its own vectorised environment; leave it out, or set it to null",
    "frame_stack": "the observation already holds all clicks and the latest mask; leave it out, or set it to null",
    "monitor_kwargs": "the columns of monitor files are fixed; leave it out, or set it to null",
    "normalize": _STATISTICS,
    "normalize_kwargs": _STATISTICS,
    "noise_type": _OFF_POLICY,
    "noise_std": _OFF_POLICY,
    "train_freq": _OFF_POLICY,
    "gradient_steps": _OFF_POLICY,
    "learning_starts": _OFF_POLICY,
    "buffer_size": _OFF_POLICY,
    "replay_buffer_class": _OFF_POLICY,
    "replay_buffer_kwargs": _OFF_POLICY,
    "use_sde": "it explores continuous actions, and clicks are discrete; leave it out, or set it to false",
    "sde_sample_freq": "it explores continuous actions, and clicks are discrete; leave it out",
    "rollout_buffer_class": _OUR_BUFFER,
    "rollout_buffer_kwargs": _OUR_BUFFER,
    "seed": f"{_OPTION}: --seed",
    "device": f"{_OPTION}: --device",
    "verbose": f"{_OPTION}; leave it out",
    "tensorboard_log": f"{_OPTION}; TensorBoard's files always lie in the run folder",
}
"""Why a key of rl-zoo3's cannot be used here, and what to do instead."""


class HyperparamError(InputError):
    """A hyperparameter cannot be used. :param keys: that lead to it from the top of its entry."""

    def __init__(self, message: str, *keys: Any) -> None:
        super().__init__(message)
        self.keys = keys


@contextmanager
def naming(*keys: Any) -> Iterator[None]:
    """What goes wrong with a value is told with the keys that lead to it."""
    try:
        yield
    except InputError as error:
        raise HyperparamError(str(error), *keys) from error


def check_fitting(raw: Mapping[str, Any]) -> set[str]:
    """Refuse keys that do not fit.

    :return: those that are there but switched off, which is as if they were not.
    :raises HyperparamError: a key that does not fit has a value.
    """
    off = set()
    for key, why in NOT_FITTING.items():
        if key in raw:
            if raw[key] is not None and raw[key] is not False:
                raise HyperparamError(f"hyperparameter '{key}' does not fit click agents: {why}", key)
            off.add(key)
    return off


def mapping_of(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The mapping under a key; empty where there is none.

    :raises HyperparamError: it is no mapping. rl-zoo3 evaluates a text as Python's code; here nothing is evaluated.
    """
    value = raw.get(key)
    if value is None:
        return {}
    if isinstance(value, str):
        raise HyperparamError(
            f"hyperparameter '{key}' needs a mapping, got the text {value[:60]!r}; code is never evaluated, write its "
            "keywords as a YAML mapping",
            key,
        )
    if not isinstance(value, dict):
        raise HyperparamError(f"hyperparameter '{key}' needs a mapping, got {value!r}", key)
    for name in value:
        if not isinstance(name, str):
            raise HyperparamError(f"hyperparameter '{key}': keyword {name!r} is no word", key, name)
    return value


def check_env_kwargs(kwargs: Mapping[str, Any]) -> None:
    """:raises HyperparamError: the environment does not take a keyword, or the command itself decides it."""
    for name, value in kwargs.items():
        if name == "subset":
            raise HyperparamError("environment keyword 'subset' is chosen by the command", "env_kwargs", name)
        with naming("env_kwargs", name):
            check_keywords(SamSegEnv.__init__, {name: value}, "environment keyword")


def read_callbacks(value: Any) -> list[tuple[type[BaseCallback], dict[str, Any]]]:
    """Callbacks as rl-zoo3 writes them: a dotted name, a mapping of one to its keywords, or a list of these.

    Keywords are numbers, so that none names a file to be written.

    :raises HyperparamError: one lies outside `CALLBACK_MODULES`, is none, or does not take its keywords.
    """
    if value is None:
        return []
    found = []
    for index, each in enumerate(value if isinstance(value, list) else [value]):
        keys = ("callback", index) if isinstance(value, list) else ("callback",)
        if isinstance(each, dict) and len(each) == 1:
            ((name, kwargs),) = each.items()
        else:
            name, kwargs = each, {}
        if not isinstance(name, str) or not (kwargs is None or isinstance(kwargs, dict)):
            raise HyperparamError(
                f"a callback is a dotted name, or that with a mapping of keywords; got {each!r}", *keys
            )
        if name.rpartition(".")[0] not in CALLBACK_MODULES:
            raise HyperparamError(f"callback '{name}' lies outside {' and '.join(CALLBACK_MODULES)}", *keys)
        with naming(*keys):
            found.append((_callback_class(name, kwargs or {}), dict(kwargs or {})))
    return found


def _callback_class(name: str, kwargs: Mapping[str, Any]) -> type[BaseCallback]:
    found = resolve_name(name)
    if not issubclass(found, BaseCallback):
        raise InputError(f"'{name}' is no callback")
    for key, value in kwargs.items():
        if not isinstance(value, int | float):
            raise InputError(f"keyword '{key}' of callback '{name}' needs a number, got {value!r}")
    try:
        found(**kwargs)
    except Exception as error:  # a class of the user's choice with arguments of the user's choice
        reason = " ".join(str(error).split())[:150]
        raise InputError(f"callback '{name}' cannot be made of {dict(kwargs)}: {reason}") from error
    return found
