"""One training run, start to finish."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ProgressBarCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sb3_alignsam.callbacks import (
    CheckpointCallback,
    ClickMetricsCallback,
    EvaluationCallback,
    SamplingCallback,
    SimilarityPicturesCallback,
)
from sb3_alignsam.datasets.image_record import ImageRecord, other_images
from sb3_alignsam.envs.making import make_env
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.envs.sam_seg_vec_env import SamSegVecEnv
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.protocol import spread
from sb3_alignsam.perception.devices import resolve_device
from sb3_alignsam.policies.loading import MASKABLE, AgentDescription, policy_class, save_zip, zip_of
from sb3_alignsam.policies.resolving import resolve_policy_kwargs
from sb3_alignsam.training.boundary import BoundaryCallback
from sb3_alignsam.training.buffers import DistinctEpisodeDictRolloutBuffer, MaskableDistinctEpisodeDictRolloutBuffer
from sb3_alignsam.training.checkpoint import Checkpoint, add_state
from sb3_alignsam.training.config import ALGORITHMS, Hyperparams
from sb3_alignsam.training.imitation import Imitation
from sb3_alignsam.training.logs import RunLogger
from sb3_alignsam.training.run_folder import alone, mark_finished, new_run_folder, write_configuration
from sb3_alignsam.training.state import restore_training, training_state
from sb3_alignsam.training.stopping import Stops, stops, told_in_one_line
from sb3_alignsam.training.vec_envs import make_vec_env, spared_cores
from sb3_alignsam.training.versions import current_versions, differences, write_versions

BUFFERS: dict[str, type[RolloutBuffer]] = {
    "ppo": DistinctEpisodeDictRolloutBuffer,
    "maskable_ppo": MaskableDistinctEpisodeDictRolloutBuffer,
}
IMITATION_SEED = 1_000_003
"""Added to a run's seed, so that imitation and PPO see other scenes."""


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides a run but its hyperparameters.

    :param algo: ``ppo`` or ``maskable_ppo``. :param env_id: registered id. :param env_kwargs: its keywords.
    :param seed: of policy, sampling and environments. :param logs: root of the run folders.
    :param vec_env: ``batched``, ``subproc`` or ``dummy``, see `make_vec_env`.
    :param device: ``auto``, ``cpu``, ``cuda`` or ``mps``; of the policy.
    :param eval_freq: steps between two evaluations on dev; 0: none. :param eval_episodes: how many of dev's episodes.
    :param save_freq: steps between two ``rl_model_*_steps.zip``; 0: none. :param progress: show a progress bar.
    :param imitate: steps of `Imitation` before PPO begins, not counted among those of PPO; 0: none.
    :param save_minutes: minutes between two of them; 0: none. :param keep_checkpoints: how many are kept; 0: all.
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
    imitate: int = 0
    save_minutes: float = 10.0
    keep_checkpoints: int = 3


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
            with closing(logger):
                callbacks: list[BaseCallback] = []

                def compose() -> io.BytesIO:
                    zipped = zip_of(model, describe())
                    add_state(zipped, training_state(model, vec_env, callbacks, logger))
                    return zipped

                def save(path: Path) -> None:
                    save_zip(model, path, describe())

                boundary = BoundaryCallback(compose, stop, None if checkpoint is None else checkpoint.state)
                keeps_maps = getattr(model.policy.features_extractor, "seen_maps", None) is not None
                callbacks += [boundary, *_callbacks(settings, keeps_maps, folder, save, boundary.write, report)]
                callbacks += [make(**kwargs) for make, kwargs in hyperparams.callbacks]
                last = folder / f"{settings.env_id}.zip"
                try:
                    if checkpoint is None:
                        if settings.imitate:
                            _imitate(model, settings, hyperparams.n_envs, probe, folder, stop, report)
                            # What it reaches by itself.
                            save(folder / "imitation.zip")
                        steps = hyperparams.n_timesteps
                        report(f"training {settings.algo} on {settings.env_id} for {steps} steps into {folder}")
                    with spared_cores(vec_env):
                        if checkpoint is not None:
                            model.set_parameters(checkpoint.parameters, device=device)
                            restore_training(model, vec_env, callbacks, logger, checkpoint.state)
                        # SB3 takes how many steps are left, and adds those that are done, for the schedules too.
                        left = hyperparams.n_timesteps - model.num_timesteps
                        model.learn(left, CallbackList(callbacks), reset_num_timesteps=checkpoint is None)
                except BaseException:
                    boundary.write_at_end(folder)
                    with suppress(OSError):  # what was learnt is kept
                        save(last)
                    raise
                save(last)
                logger.dump(model.num_timesteps)
        mark_finished(folder, settings.env_id)


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


def _callbacks(
    settings: RunSettings,
    keeps_maps: bool,
    folder: Path,
    save: Callable[[Path], None],
    save_boundary: Callable[[Path], None],
    report: Callable[[str], None],
) -> list[BaseCallback]:
    callbacks: list[BaseCallback] = [
        CheckpointCallback(
            save_boundary,
            folder,
            settings.save_freq,
            settings.save_minutes,
            settings.keep_checkpoints,
            report,
            at_start=settings.imitate > 0,
        ),
        ClickMetricsCallback(),
        SamplingCallback(),
    ]
    if keeps_maps:
        callbacks.append(SimilarityPicturesCallback())
    if settings.eval_freq:
        callbacks += _evaluation(settings, folder, save, report)
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
    return [
        EvaluationCallback(
            env, indices, maskable, settings.eval_freq, folder, save, report, at_start=settings.imitate > 0
        )
    ]
