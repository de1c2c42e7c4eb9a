"""Zips of others: SB3's own loading, which runs whatever their author put in, for users who trust that author."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch as th
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3 import PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file

from sb3_alignsam.envs.making import make_env
from sb3_alignsam.errors import InputError
from sb3_alignsam.policies.loading import (
    AgentDescription,
    describes_itself,
    load_policy,
    policy_class,
    read_description,
    zero_schedule,
)
from sb3_alignsam.registration import ENV_IDS
from sb3_alignsam.yaml_files import read_yaml

_NOT_TO_TRAIN: dict[str, Any] = {"learning_rate": 0.0, "lr_schedule": zero_schedule, "clip_range": zero_schedule}
"""What a policy that is only used does not need, and what other versions of Python cannot read most often."""


@dataclass(frozen=True)
class Trust:
    """What a user says about a zip that does not describe itself.

    :param given: it may be unpickled, which can run anything.
    :param env_id: the environment that it was trained on; None: what its run folder says, as rl-zoo3 writes it.
    """

    given: bool = False
    env_id: str | None = None


@dataclass(frozen=True)
class Agent:
    """A zip that can be used.

    :param path: where it lies. :param description: what is known of it.
    :param reads_category: whether it is of use for the categories that it was trained on only.
    :param algorithm: what SB3 loads it as; None: it is of this package and nothing in it is unpickled.
    """

    path: Path
    description: AgentDescription
    reads_category: bool
    algorithm: type[OnPolicyAlgorithm] | None = None

    def policy_for(self, env: gym.Env, device: str | th.device = "cpu", leave_out: Collection[str] = ()) -> BasePolicy:
        """Its policy for an environment, in evaluation mode.

        :param device: where it is put. :param leave_out: as in `load_policy`; of no effect on a zip of others.
        :raises InputError: it does not fit the environment, or cannot be loaded.
        """
        if self.algorithm is None:
            return load_policy(self.path, env, device, leave_out)
        try:
            policy = self.algorithm.load(self.path, env=env, device=device, custom_objects=_NOT_TO_TRAIN).policy
        except Exception as error:  # what is raised is up to the zip's author
            raise _unusable(self.path, "does not fit this environment", error) from error
        policy.set_training_mode(False)
        return policy


def open_agent(path: Path, env_kwargs: Mapping[str, Any] | None = None, trust: Trust | None = None) -> Agent:
    """Find out what a zip is. One of this package is never unpickled, whatever `trust` says.

    :param env_kwargs: keywords of the environment beside or instead of those that a foreign zip's run folder tells; one
        of this package tells them all itself, and they are not looked at.
    :raises InputError: the zip cannot be read, or does not describe itself and is not trusted, or what it was trained
        on is not known.
    """
    if describes_itself(path) or trust is None or not trust.given:
        description = read_description(path)
        return Agent(path, description, getattr(policy_class(description.policy), "reads_category", True))
    env_id, kwargs = _environment(path, trust.env_id)
    kwargs |= env_kwargs or {}
    categories = list(make_env(env_id, kwargs).dataset.categories)
    algo, algorithm, policy = _unpickle(path)
    name = f"{policy.__module__}.{policy.__qualname__}"
    description = AgentDescription(algo, env_id, kwargs, name, categories=categories)
    return Agent(path, description, getattr(policy, "reads_category", True), algorithm)


def _environment(path: Path, env_id: str | None) -> tuple[str, dict[str, Any]]:
    """Id and keywords of the environment that a foreign zip was trained on."""
    if env_id is not None:
        return env_id, {}
    kwargs: dict[str, Any] = {}
    for folder in (path.parent / known for known in ENV_IDS):
        if (folder / "args.yml").is_file():
            # As rl_zoo3.enjoy: the command's keywords replace the configuration's.
            for file in ("config.yml", "args.yml"):
                if (folder / file).is_file():
                    kwargs = read_yaml(folder / file).content.get("env_kwargs") or kwargs
            return folder.name, dict(kwargs)
    raise InputError(f"{path} does not say which environment it was trained on; name it: --env {next(iter(ENV_IDS))}")


def _unpickle(path: Path) -> tuple[str, type[OnPolicyAlgorithm], type[BasePolicy]]:
    """Name and class of the algorithm, and class of the policy. This runs what the zip's author wants."""
    try:
        data, _, _ = load_from_zip_file(path, device="cpu", custom_objects=_NOT_TO_TRAIN)
        policy = (data or {})["policy_class"]
        if issubclass(policy, MaskableActorCriticPolicy):
            return "maskable_ppo", MaskablePPO, policy
        if issubclass(policy, ActorCriticPolicy):
            return "ppo", PPO, policy
    except Exception as error:  # as above
        raise _unusable(path, "is no zip that SB3 can load", error) from error
    raise InputError(f"{path} holds a {policy.__name__}, which is no policy of PPO or MaskablePPO")


def _unusable(path: Path, what: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"{path} {what}: {reason}")
