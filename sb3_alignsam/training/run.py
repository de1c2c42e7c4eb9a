"""One training run, start to finish."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sb3_alignsam.datasets.image_record import ImageRecord, other_images
from sb3_alignsam.envs.making import make_env
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.envs.sam_seg_vec_env import SamSegVecEnv
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.devices import resolve_device
from sb3_alignsam.policies.loading import AgentDescription, policy_class, save_zip, zip_of
from sb3_alignsam.policies.resolving import resolve_policy_kwargs
from sb3_alignsam.tracking.addresses import masked
from sb3_alignsam.training.boundary import BoundaryCallback
from sb3_alignsam.training.buffers import DistinctEpisodeDictRolloutBuffer, MaskableDistinctEpisodeDictRolloutBuffer
from sb3_alignsam.training.callbacks import run_callbacks
from sb3_alignsam.training.checkpoint import Checkpoint, add_state
from sb3_alignsam.training.config import ALGORITHMS, Hyperparams
from sb3_alignsam.training.imitation import Imitation
from sb3_alignsam.training.logs import RunLogger
from sb3_alignsam.training.run_folder import alone, mark_finished, new_run_folder, write_configuration
from sb3_alignsam.training.settings import RunSettings
from sb3_alignsam.training.state import restore_training, training_state
from sb3_alignsam.training.stopping import Stops, stops, told_in_one_line
from sb3_alignsam.training.tracking import tracked
from sb3_alignsam.training.vec_envs import make_vec_env, spared_cores
from sb3_alignsam.training.versions import current_versions, differences, write_versions

BUFFERS: dict[str, type[RolloutBuffer]] = {
    "ppo": DistinctEpisodeDictRolloutBuffer,
    "maskable_ppo": MaskableDistinctEpisodeDictRolloutBuffer,
}
IMITATION_SEED = 1_000_003
"""Added to a run's seed, so that imitation and PPO see other scenes."""


def train(
    settings: RunSettings,
    hyperparams: Hyperparams,
    command: Sequence[str] = (),
    report: Callable[[str], None] = print,
    repeats: Path | None = None,
) -> Path:
    """Train one agent into a new run folder, which is returned. Every line for people goes to `report`.

    :param repeats: the configuration's folder of a run that this one repeats; what differs beside the settings is told.

    However training ends, the folder gets a last zip with what was learnt, and a checkpoint from which
    `sb3_alignsam.training.resume.resume` goes on.

    :raises InputError: a keyword of the environment or a hyperparameter cannot be used, and no folder is left then; or
        a file of the dataset cannot.
    :raises RunError: a worker process died, or the disk is full.
    :raises RunStopped: SIGTERM or Ctrl-C.
    """
    device, probe = prepare(settings, hyperparams)
    folder = new_run_folder(settings.logs, settings.algo, settings.env_id)
    arguments = {key: str(value) if isinstance(value, Path) else value for key, value in vars(settings).items()}
    arguments["tracking_uri"] = settings.tracking_uri and masked(settings.tracking_uri)
    write_configuration(folder, settings.env_id, hyperparams.raw, arguments, command or sys.argv)
    versions = current_versions(device, probe)
    write_versions(folder, settings.env_id, versions)
    images = ImageRecord.of(probe.dataset)
    images.write(folder / settings.env_id)
    for line in [] if repeats is None else differences(repeats, versions) + other_images(repeats, images):
        report(f"not as in the run that is repeated: {line}")
    with alone(folder, settings.env_id):
        train_in(folder, settings, hyperparams, probe, device, report)
    return folder


def prepare(settings: RunSettings, hyperparams: Hyperparams) -> tuple[str, SamSegEnv]:
    """The device and one environment to train on, before anything is written.

    :raises InputError: a keyword of the environment or a hyperparameter cannot be used.
    """
    device = resolve_device(settings.device)
    # Made first, in this process: a user's mistake shows as one line here, not as a worker's traceback.
    probe = make_env(settings.env_id, {**settings.env_kwargs, "subset": "fit"})
    try_policy(hyperparams, probe)
    return device, probe


def train_in(
    folder: Path,
    settings: RunSettings,
    hyperparams: Hyperparams,
    probe: SamSegEnv,
    device: str,
    report: Callable[[str], None],
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train in a run folder to the end; whatever ends it before, the state between the last two updates is kept.

    :param probe: an environment to train on, which is used up. :param checkpoint: to go on from; None: begin.
    :raises InputError: a file of the dataset cannot be used.
    :raises RunError: a worker process died, or the disk is full.
    :raises RunStopped: SIGTERM or Ctrl-C.
    """
    with stops() as stop, told_in_one_line(stop, folder):
        kwargs = {**settings.env_kwargs, "subset": "fit"}
        vec_env = make_vec_env(
            settings.env_id, kwargs, hyperparams.n_envs, settings.seed, settings.vec_env, folder, probe
        )
        with closing(vec_env):
            model = _make_model(settings, hyperparams, vec_env, device)
            done = 0 if checkpoint is None else int(checkpoint.state["model"]["num_timesteps"])
            # Imitation has logged at steps of its own, which a TensorBoard that is open must not take for later ones.
            forget_after = None if checkpoint is None or settings.imitate else done
            logger = RunLogger(folder, forget_after, done // (model.n_steps * model.n_envs))
            model.set_logger(logger)
            describe = partial(_describe, model, settings, hyperparams, list(probe.dataset.categories))
            with closing(logger), tracked(settings, hyperparams, folder, logger, report) as tracking:
                callbacks: list[BaseCallback] = []

                def compose() -> io.BytesIO:
                    zipped = zip_of(model, describe())
                    add_state(zipped, training_state(model, vec_env, callbacks, logger))
                    return zipped

                def save(path: Path) -> None:
                    save_zip(model, path, describe())

                boundary = BoundaryCallback(compose, stop, None if checkpoint is None else checkpoint.state)
                keeps_maps = getattr(model.policy.features_extractor, "seen_maps", None) is not None
                callbacks += run_callbacks(settings, hyperparams, folder, boundary, tracking, save, keeps_maps, report)
                last = folder / f"{settings.env_id}.zip"
                try:
                    if checkpoint is None:
                        if tracking is not None:
                            tracking.load_state_dict({"dumps": 0})  # what an earlier try has logged is made again
                        logger.note("hyperparameters", hyperparams.raw)
                        if settings.imitate:
                            _imitate(model, settings, hyperparams.n_envs, probe, folder, stop, report)
                            # What it reaches by itself.
                            save(folder / "imitation.zip")
                        report(f"training {settings.algo} on {settings.env_id} for {hyperparams.n_timesteps} steps "
                               f"into {folder}")  # fmt: skip
                    _learn(model, vec_env, hyperparams.n_timesteps, callbacks, logger, checkpoint)
                except BaseException:
                    boundary.write_at_end(folder)
                    with suppress(OSError):  # what was learnt is kept
                        save(last)
                    raise
                save(last)
                if logger.name_to_value:
                    logger.dump(model.num_timesteps)
        mark_finished(folder, settings.env_id)


def _learn(
    model: OnPolicyAlgorithm,
    vec_env: VecEnv,
    n_timesteps: int,
    callbacks: list[BaseCallback],
    logger: RunLogger,
    checkpoint: Checkpoint | None,
) -> None:
    """Train by PPO to the last step, from a checkpoint on if there is one."""
    with spared_cores(vec_env):
        if checkpoint is not None:
            model.set_parameters(checkpoint.parameters, device=model.device)
            restore_training(model, vec_env, callbacks, logger, checkpoint.state)
        # SB3 takes how many steps are left, and adds those that are done, for the schedules too.
        left = n_timesteps - model.num_timesteps
        model.learn(left, CallbackList(callbacks), reset_num_timesteps=checkpoint is None)


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


def _imitate(
    model: OnPolicyAlgorithm,
    settings: RunSettings,
    num_envs: int,
    probe: SamSegEnv,
    folder: Path,
    stop: Stops,
    report: Callable[[str], None],
) -> None:
    """The warm start, on episodes of its own; where it is stopped it has to begin again."""
    report(f"imitating for {settings.imitate} steps into {folder}")
    vec_env = SamSegVecEnv(probe.twin(), num_envs)
    vec_env.seed(settings.seed + IMITATION_SEED)
    with closing(vec_env), spared_cores(vec_env), tqdm(total=settings.imitate, disable=not settings.progress) as bar:

        def progress(steps: int) -> None:
            bar.update(steps)
            stop.check()

        stop.hold()  # worker processes may be answering, see `Stops`
        Imitation(model, vec_env, BUFFERS[settings.algo], settings.seed).learn(settings.imitate, progress)
        stop.release()


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


def _describe(
    model: BaseAlgorithm, settings: RunSettings, hyperparams: Hyperparams, categories: list[str]
) -> AgentDescription:
    return AgentDescription(
        settings.algo,
        settings.env_id,
        dict(settings.env_kwargs),
        hyperparams.policy,
        hyperparams.policy_kwargs,
        model.num_timesteps,
        categories,
        settings.imitate,
    )
