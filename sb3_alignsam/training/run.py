"""One training run, start to finish."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ProgressBarCallback
from stable_baselines3.common.logger import CSVOutputFormat, Logger, TensorBoardOutputFormat
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_alignsam.callbacks import (
    CheckpointCallback,
    ClickMetricsCallback,
    EvaluationCallback,
    SimilarityPicturesCallback,
)
from sb3_alignsam.envs.making import make_env
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.errors import InputError, RunError
from sb3_alignsam.evaluation.protocol import spread
from sb3_alignsam.perception.devices import resolve_device
from sb3_alignsam.policies.loading import MASKABLE, AgentDescription, policy_class, save_zip
from sb3_alignsam.policies.resolving import resolve_policy_kwargs
from sb3_alignsam.training.buffers import DistinctEpisodeDictRolloutBuffer, MaskableDistinctEpisodeDictRolloutBuffer
from sb3_alignsam.training.config import ALGORITHMS, Hyperparams
from sb3_alignsam.training.run_folder import new_run_folder, write_configuration
from sb3_alignsam.training.vec_envs import make_vec_env, spared_cores
from sb3_alignsam.training.versions import current_versions, differences, write_versions

BUFFERS: dict[str, type[RolloutBuffer]] = {
    "ppo": DistinctEpisodeDictRolloutBuffer,
    "maskable_ppo": MaskableDistinctEpisodeDictRolloutBuffer,
}


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides a run but its hyperparameters.

    :param algo: ``ppo`` or ``maskable_ppo``. :param env_id: registered id. :param env_kwargs: its keywords.
    :param seed: of policy, sampling and environments. :param logs: root of the run folders.
    :param vec_env: ``batched``, ``subproc`` or ``dummy``, see `make_vec_env`.
    :param device: ``auto``, ``cpu``, ``cuda`` or ``mps``; of the policy.
    :param eval_freq: steps between two evaluations on dev; 0: none. :param eval_episodes: how many of dev's episodes.
    :param save_freq: steps between two ``rl_model_*_steps.zip``; 0: none. :param progress: show a progress bar.
    """

    algo: str
    env_id: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    logs: Path = Path("logs")
    vec_env: str = "batched"
    device: str = "auto"
    eval_freq: int = 5000
    eval_episodes: int = 100
    save_freq: int = 0
    progress: bool = False


def train(
    settings: RunSettings,
    hyperparams: Hyperparams,
    command: Sequence[str] = (),
    report: Callable[[str], None] = print,
    repeats: Path | None = None,
) -> Path:
    """Train one agent into a new run folder, which is returned. Every line for people goes to `report`.

    :param repeats: the configuration's folder of a run that this one repeats; what differs beside the settings is told.

    However training ends, the folder gets a last zip with what was learnt.

    :raises InputError: a keyword of the environment or a hyperparameter cannot be used, and no folder is left then; or
        a file of the dataset cannot.
    :raises RunError: a worker process died.
    """
    device = resolve_device(settings.device)
    # Made first, in this process: a user's mistake shows as one line here, not as a worker's traceback.
    probe = make_env(settings.env_id, {**settings.env_kwargs, "subset": "fit"})
    try_policy(hyperparams, probe)
    folder = new_run_folder(settings.logs, settings.algo, settings.env_id)
    arguments = {key: str(value) if isinstance(value, Path) else value for key, value in vars(settings).items()}
    write_configuration(folder, settings.env_id, hyperparams.raw, arguments, command or sys.argv)
    versions = current_versions(device, probe)
    write_versions(folder, settings.env_id, versions)
    for line in [] if repeats is None else differences(repeats, versions):
        report(f"not as in the run that is repeated: {line}")
    kwargs = {**settings.env_kwargs, "subset": "fit"}
    try:
        vec_env = make_vec_env(
            settings.env_id, kwargs, hyperparams.n_envs, settings.seed, settings.vec_env, folder, probe
        )
        try:
            model = _make_model(settings, hyperparams, vec_env, device)
            model.set_logger(_logger(folder))
            save = partial(_save, model, settings, hyperparams, list(probe.dataset.categories))
            report(f"training {settings.algo} on {settings.env_id} for {hyperparams.n_timesteps} steps into {folder}")
            with closing(model.logger):
                try:
                    keeps_maps = getattr(model.policy.features_extractor, "seen_maps", None) is not None
                    callbacks = _callbacks(settings, keeps_maps, folder, save, report)
                    callbacks += [make(**kwargs) for make, kwargs in hyperparams.callbacks]
                    with spared_cores(vec_env):
                        model.learn(hyperparams.n_timesteps, CallbackList(callbacks))
                finally:  # whatever ended it, what was learnt is kept
                    save(folder / f"{settings.env_id}.zip")
                model.logger.dump(model.num_timesteps)
        finally:
            vec_env.close()
    except RunError as error:
        raise RunError(f"{error}; what was learnt is in {folder}") from error
    return folder


def _make_model(settings: RunSettings, hyperparams: Hyperparams, vec_env: VecEnv, device: str) -> OnPolicyAlgorithm:
    return ALGORITHMS[settings.algo](
        cast(Any, policy_class(hyperparams.policy)),
        vec_env,
        seed=settings.seed,
        device=device,
        policy_kwargs=resolve_policy_kwargs(hyperparams.policy_kwargs),
        rollout_buffer_class=BUFFERS[settings.algo],
        **hyperparams.algorithm,
    )


def try_policy(hyperparams: Hyperparams, env: SamSegEnv) -> None:
    """Build the policy once before anything is written, since only that tells whether its keywords are right.

    :raises InputError: they are not.
    """
    kwargs = resolve_policy_kwargs(hyperparams.policy_kwargs)
    try:
        policy_class(hyperparams.policy)(env.observation_space, env.action_space, lambda _: 1e-3, **kwargs)
    except InputError as error:  # it says by itself what is wrong, which need not be a keyword of the policy
        raise InputError(f"{hyperparams.place_of(str(error))}{error}") from error
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        given = str(hyperparams.policy_kwargs)[:200]
        place = hyperparams.place_of(reason)
        raise InputError(f"{place}policy_kwargs {given} cannot be used: {reason}") from error


def _save(
    model: BaseAlgorithm, settings: RunSettings, hyperparams: Hyperparams, categories: list[str], path: Path
) -> None:
    description = AgentDescription(
        settings.algo,
        settings.env_id,
        dict(settings.env_kwargs),
        hyperparams.policy,
        hyperparams.policy_kwargs,
        model.num_timesteps,
        categories,
    )
    save_zip(model, path, description)


def _callbacks(
    settings: RunSettings,
    keeps_maps: bool,
    folder: Path,
    save: Callable[[Path], None],
    report: Callable[[str], None],
) -> list[BaseCallback]:
    callbacks: list[BaseCallback] = [ClickMetricsCallback()]
    if keeps_maps:
        callbacks.append(SimilarityPicturesCallback())
    if settings.eval_freq:
        callbacks += _evaluation(settings, folder, save, report)
    if settings.save_freq:
        callbacks.append(CheckpointCallback(save, folder, settings.save_freq))
    if settings.progress:
        callbacks.append(ProgressBarCallback())
    return callbacks


def _evaluation(
    settings: RunSettings, folder: Path, save: Callable[[Path], None], report: Callable[[str], None]
) -> list[BaseCallback]:
    try:
        env = make_env(settings.env_id, {**settings.env_kwargs, "subset": "dev"})
    except InputError as error:
        # The same keywords made the training environment, so it is the dev part that is empty.
        report(f"no dev episodes, so best_model.zip is not chosen: {error}")
        return []
    indices = spread(len(env.dataset), settings.eval_episodes)
    maskable = settings.algo in MASKABLE
    return [EvaluationCallback(env, indices, maskable, settings.eval_freq, folder, save, report)]


def _logger(folder: Path) -> Logger:
    """TensorBoard under ``tensorboard/`` and the same figures in ``progress.csv``."""
    (folder / "tensorboard").mkdir(exist_ok=True)
    formats = [TensorBoardOutputFormat(str(folder / "tensorboard")), CSVOutputFormat(str(folder / "progress.csv"))]
    return Logger(str(folder), formats)
