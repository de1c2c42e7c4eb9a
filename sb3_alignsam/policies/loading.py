"""Zips: SB3's own, with one more member that tells in plain JSON how to use the policy without unpickling."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch as th
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.utils import get_device

from sb3_alignsam import policies
from sb3_alignsam.errors import InputError
from sb3_alignsam.keywords import check_keywords
from sb3_alignsam.policies.resolving import resolve_policy_kwargs

DESCRIPTION_MEMBER = "sb3_alignsam.json"
POLICY_PREFIX = "sb3_alignsam.policies."
MASKABLE = ("maskable_ppo",)
POLICY_BASES: dict[str, type[BasePolicy]] = {"ppo": ActorCriticPolicy, "maskable_ppo": MaskableActorCriticPolicy}
"""What a policy must derive from to be trained by an algorithm."""


@dataclass(frozen=True)
class AgentDescription:
    """What a zip is, in plain values.

    :param algo: ``ppo`` or ``maskable_ppo``.
    :param env_id: registered id of the environment it was trained on.
    :param env_kwargs: keywords of that environment.
    :param policy: dotted path of the policy class under ``sb3_alignsam.policies``.
    :param policy_kwargs: its keywords, scalars.
    :param num_timesteps: environment steps it was trained for.
    :param imitation_steps: of the warm start that its training began with, not among `num_timesteps`; 0: none.
    :param categories: the dataset's vocabulary, in the order of `target_category`; empty: not known.
    """

    algo: str
    env_id: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    policy: str = POLICY_PREFIX + "ImplicitPolicy"
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    num_timesteps: int = 0
    categories: list[str] = field(default_factory=list)
    imitation_steps: int = 0


def policy_class(dotted: str) -> type[BasePolicy]:
    """The policy class of a dotted path under ``sb3_alignsam.policies``.

    :raises InputError: it is elsewhere, or there is none of that name.
    """
    name = dotted.removeprefix(POLICY_PREFIX)
    known = [each for each in policies.__all__ if each.endswith("Policy")]
    if not dotted.startswith(POLICY_PREFIX) or name not in known:
        raise InputError(f"policy '{dotted}' is not known; known: {', '.join(POLICY_PREFIX + each for each in known)}")
    return getattr(policies, name)


def check_policy(dotted: str, algo: str) -> None:
    """:raises InputError: the policy is unknown, or is not one for the algorithm."""
    cls = policy_class(dotted)
    if algo not in POLICY_BASES or not issubclass(cls, POLICY_BASES[algo]):
        raise InputError(f"policy '{dotted}' is not one for algorithm '{algo}'")


def zip_of(model: BaseAlgorithm, description: AgentDescription) -> io.BytesIO:
    """An SB3 zip that also describes itself, in memory.

    The last observation is left out: it is large, and another run's observation is of use to nobody.
    """
    buffer = io.BytesIO()
    model.save(buffer, exclude=["_last_obs", "_last_episode_starts"])
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(DESCRIPTION_MEMBER, json.dumps(asdict(description), indent=1))
    return buffer


def save_zip(model: BaseAlgorithm, path: Path, description: AgentDescription) -> None:
    """Write what `zip_of` gives; a kill or a full disk leaves a previous file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(zip_of(model, description).getvalue())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_description(path: Path) -> AgentDescription:
    """Read what a zip says of itself.

    :raises InputError: the file is missing, damaged, or was not written by this package.
    """
    content = _read_members(path)[0]
    try:
        fields = json.loads(content)
        if not isinstance(fields, dict):
            raise InputError("it holds no mapping")
        check_keywords(AgentDescription.__init__, fields, "field")
        description = AgentDescription(**fields)
        check_policy(description.policy, description.algo)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: its member {DESCRIPTION_MEMBER} cannot be used: {error}") from error
    return description


def load_policy(
    path: Path, env: gym.Env, device: str | th.device = "cpu", leave_out: Collection[str] = ()
) -> BasePolicy:
    """Rebuild a zip's policy for `env` and load its weights; nothing is unpickled.

    :param env: an environment with the observations and actions that the policy was trained on.
    :param leave_out: of its `policy_kwargs`, which keep their defaults; they must have no weights.
    :raises InputError: the zip cannot be read, or its weights do not fit the environment.
    """
    description, weights = read_description(path), _read_members(path)[1]
    kept = {name: value for name, value in description.policy_kwargs.items() if name not in leave_out}
    kwargs = resolve_policy_kwargs(kept)
    try:
        policy = policy_class(description.policy)(env.observation_space, env.action_space, zero_schedule, **kwargs)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise InputError(f"{path}: its policy cannot be built: {' '.join(str(error).split())[:200]}") from error
    try:
        state = th.load(io.BytesIO(weights), map_location=get_device(device), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: its member policy.pth is no file of weights") from error
    try:
        policy.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: its weights do not fit this environment (other grid or categories?): {reason}"
        ) from error
    policy.set_training_mode(False)
    return policy.to(get_device(device))


def zero_schedule(_: float) -> float:
    """Learning rate of a policy that will not be trained."""
    return 0.0


def describes_itself(path: Path) -> bool:
    """Whether a zip has the member by which it can be used without unpickling.

    :raises InputError: the file is missing or no zip.
    """
    with _opened(path) as archive:
        return DESCRIPTION_MEMBER in archive.namelist()


def _read_members(path: Path) -> tuple[bytes, bytes]:
    with _opened(path) as archive:
        names = archive.namelist()
        if DESCRIPTION_MEMBER not in names:
            raise InputError(
                f"{path} was not written by sb3-alignsam: all that it says of itself are pickles, which run their "
                "author's code when they are read; if you trust whoever made it, give --trust"
            )
        if "policy.pth" not in names:
            raise InputError(f"{path} is damaged: it has no member policy.pth")
        return archive.read(DESCRIPTION_MEMBER), archive.read("policy.pth")


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip to read from. :raises InputError: it is missing, damaged or no zip."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a run folder or a .zip that `train` wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    # RuntimeError: an encrypted member; NotImplementedError: an unknown compression.
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError, NotImplementedError) as error:
        raise InputError(f"{path} is damaged or no zip: {error}") from error


def find_zip(run: Path, load_best: bool = False) -> Path:
    """The zip of a run: `run` itself if it is a file, else the run folder's last or best model.

    :raises InputError: there is none.
    """
    if run.is_file():
        return run
    if not run.is_dir():
        raise InputError(f"{run} does not exist; give a run folder or a .zip that `train` wrote")
    # rl-zoo3 names the last model after the environment, and so the folder of its configuration.
    configurations = sorted(run.glob("*/config.yml"))
    env_id = configurations[0].parent.name if configurations else run.resolve().name.rpartition("_")[0]
    path = run / ("best_model.zip" if load_best else f"{env_id}.zip")
    if not path.is_file():
        others = sorted(each.name for each in run.glob("*.zip"))
        raise InputError(f"{run} holds no {path.name}; it holds {', '.join(others) or 'no zip at all'}")
    return path


def is_maskable(description: AgentDescription) -> bool:
    """Whether the agent takes action masks."""
    return description.algo in MASKABLE
