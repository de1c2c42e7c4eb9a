"""The model of a run, and its training by PPO: what all ranks of a run do alike."""

from __future__ import annotations

import inspect
from typing import Any, cast

from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_alignsam.errors import InputError
from sb3_alignsam.policies.loading import policy_class
from sb3_alignsam.policies.resolving import resolve_policy_kwargs
from sb3_alignsam.training.buffers import DistinctEpisodeDictRolloutBuffer, MaskableDistinctEpisodeDictRolloutBuffer
from sb3_alignsam.training.checkpoint import Checkpoint
from sb3_alignsam.training.config import ALGORITHMS, Hyperparams
from sb3_alignsam.training.distributed import ALONE, Ranks
from sb3_alignsam.training.settings import RunSettings
from sb3_alignsam.training.state import restore_training, state_of_rank
from sb3_alignsam.training.update import RANKED
from sb3_alignsam.training.vec_envs import spared_cores

BUFFERS: dict[str, type[RolloutBuffer]] = {
    "ppo": DistinctEpisodeDictRolloutBuffer,
    "maskable_ppo": MaskableDistinctEpisodeDictRolloutBuffer,
}


def make_model(
    settings: RunSettings, hyperparams: Hyperparams, vec_env: VecEnv, device: str, ranks: Ranks = ALONE
) -> OnPolicyAlgorithm:
    """SB3's own algorithm, or on several ranks one that updates by all of their rollouts.

    :param vec_env: this rank's environments.
    """
    policy = cast(Any, policy_class(hyperparams.policy))
    kwargs: dict[str, Any] = {
        "seed": settings.seed + ranks.part(hyperparams.n_envs).start,  # SB3 seeds the environments by it too
        "device": device,
        "policy_kwargs": resolve_policy_kwargs(hyperparams.policy_kwargs),
        "rollout_buffer_class": BUFFERS[settings.algo],
    }
    if ranks.size == 1:
        return ALGORITHMS[settings.algo](policy, vec_env, **kwargs, **hyperparams.algorithm)
    batch_size = batch_size_of(settings.algo, hyperparams)
    # SB3 compares it with the size of this rank's rollout buffer.
    own = {**hyperparams.algorithm, "batch_size": batch_size // ranks.size}
    model = RANKED[settings.algo](policy, vec_env, **kwargs, **own)
    model.ranks, model.batch_size = ranks, batch_size
    return model


def check_ranks(settings: RunSettings, hyperparams: Hyperparams, device: str, ranks: Ranks) -> None:
    """:raises InputError: a run of these settings cannot be one of these ranks."""
    if ranks.size == 1:
        return
    for name, value in (
        ("n_envs", hyperparams.n_envs),
        ("batch_size", batch_size_of(settings.algo, hyperparams)),
    ):
        if value % ranks.size:
            raise InputError(
                f"hyperparameter '{name}' is {value}, of all ranks together: {ranks.size} ranks cannot have it evenly; "
                f"choose a multiple, as with -params {name}:{(value // ranks.size + 1) * ranks.size}"
            )
    if device == "mps":
        raise InputError("ranks cannot share an MPS device: give --device cpu, or train without torchrun")


def batch_size_of(algo: str, hyperparams: Hyperparams) -> int:
    """Steps of a minibatch."""
    default = inspect.signature(ALGORITHMS[algo].__init__).parameters["batch_size"].default
    return int(hyperparams.algorithm.get("batch_size", default))


def own_part(checkpoint: Checkpoint | None, hyperparams: Hyperparams, ranks: Ranks) -> Checkpoint | None:
    """What a rank goes on from. :raises InputError: the checkpoint is one of another number of environments."""
    if checkpoint is None:
        return None
    state = state_of_rank(checkpoint.state, ranks, hyperparams.n_envs)
    return Checkpoint(checkpoint.path, checkpoint.parameters, state)


def learn(
    model: OnPolicyAlgorithm,
    vec_env: VecEnv,
    n_timesteps: int,
    callbacks: list[BaseCallback],
    checkpoint: Checkpoint | None,
    ranks: Ranks = ALONE,
) -> None:
    """Train by PPO to the last step. :param checkpoint: to go on from, see `own_part`; None: begin."""
    with spared_cores(vec_env):
        if checkpoint is None:
            ranks.share_weights(model.policy)
        else:
            model.set_parameters(checkpoint.parameters, device=model.device)
            restore_training(model, vec_env, callbacks, checkpoint.state)
        # SB3 takes how many steps are left, and adds those that are done, for the schedules too.
        left = n_timesteps - model.num_timesteps
        model.learn(left, CallbackList(callbacks), reset_num_timesteps=checkpoint is None)
