"""One training run, start to finish."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
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
from sb3_alignsam.training.callbacks import run_callbacks
from sb3_alignsam.training.checkpoint import Checkpoint, add_state
from sb3_alignsam.training.config import Hyperparams
from sb3_alignsam.training.distributed import ALONE, Ranks, launch
from sb3_alignsam.training.following import follow
from sb3_alignsam.training.imitation import Imitation
from sb3_alignsam.training.learning import BUFFERS, check_ranks, learn, make_model, own_part
from sb3_alignsam.training.logs import RunLogger, monitor_sizes
from sb3_alignsam.training.run_folder import alone, mark_finished, new_run_folder, write_configuration, write_launch
from sb3_alignsam.training.settings import RunSettings
from sb3_alignsam.training.state import rank_state, training_state
from sb3_alignsam.training.stopping import Stops, held_to_time, stops, told_in_one_line
from sb3_alignsam.training.tracking import tracked
from sb3_alignsam.training.update import CountAllRanks
from sb3_alignsam.training.vec_envs import make_vec_env, spared_cores
from sb3_alignsam.training.versions import current_versions, differences, write_versions

IMITATION_SEED = 1_000_003
"""Added to a run's seed, so that imitation and PPO see other scenes."""


def train(
    settings: RunSettings,
    hyperparams: Hyperparams,
    command: Sequence[str] = (),
    report: Callable[[str], None] = print,
    repeats: Path | None = None,
    ranks: Ranks = ALONE,
) -> Path:
    """Train one agent into a new run folder, which is returned. Every line for people goes to `report`.

    :param repeats: the configuration's folder of a run that this one repeats; what differs beside the settings is told.
    :param ranks: of which all call this with the same settings and hyperparameters; the leader makes the folder.

    However training ends, the folder gets a last zip with what was learnt, and a checkpoint from which
    `sb3_alignsam.training.resume.resume` goes on.

    :raises InputError: a keyword of the environment or a hyperparameter cannot be used, and no folder is left then; or
        a file of the dataset cannot.
    :raises RunError: a worker process or another rank died, or the disk is full.
    :raises RunStopped: SIGTERM or Ctrl-C.
    """
    device, probe = prepare(settings, hyperparams, ranks)
    check_imitation(settings, ranks)
    if not ranks.leader:
        return follow(settings, hyperparams, probe, device, ranks)
    folder = new_run_folder(settings.logs, settings.algo, settings.env_id)
    arguments = {key: str(value) if isinstance(value, Path) else value for key, value in vars(settings).items()}
    arguments["tracking_uri"] = settings.tracking_uri and masked(settings.tracking_uri)
    write_configuration(folder, settings.env_id, hyperparams.raw, arguments, command or sys.argv)
    versions = current_versions(device, probe)
    write_versions(folder, settings.env_id, versions)
    write_launch(folder, settings.env_id, launch())
    images = ImageRecord.of(probe.dataset)
    images.write(folder / settings.env_id)
    for line in [] if repeats is None else differences(repeats, versions) + other_images(repeats, images):
        report(f"not as in the run that is repeated: {line}")
    with alone(folder, settings.env_id):
        train_in(folder, settings, hyperparams, probe, device, report, ranks=ranks)
    return folder


def check_imitation(settings: RunSettings, ranks: Ranks) -> None:
    """:raises InputError: a run that begins is to imitate on several ranks."""
    if ranks.size > 1 and settings.imitate:
        raise InputError(
            "--imitate is for one process: start it without torchrun, stop it once PPO has begun, and go on with "
            f"{ranks.command} train --resume RUN"
        )


def prepare(settings: RunSettings, hyperparams: Hyperparams, ranks: Ranks = ALONE) -> tuple[str, SamSegEnv]:
    """The device and one environment to train on, before anything is written.

    :raises InputError: a keyword of the environment or a hyperparameter cannot be used.
    """
    device = resolve_device(settings.device)
    check_ranks(settings, hyperparams, device, ranks)
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
    ranks: Ranks = ALONE,
) -> None:
    """Train in a run folder, as the leader of its ranks, to the end; whatever ends it before, the state between the
    last two updates is kept.

    :param probe: an environment to train on, which is used up. :param checkpoint: to go on from; None: begin.
    :raises InputError: a file of the dataset cannot be used.
    :raises RunError: a worker process or another rank died, or the disk is full.
    :raises RunStopped: SIGTERM or Ctrl-C.
    """
    ranks.broadcast((folder, checkpoint))
    checkpoint = own_part(checkpoint, hyperparams, ranks)
    with stops() as stop, told_in_one_line(stop, folder, ranks):
        kwargs = {**settings.env_kwargs, "subset": "fit"}
        vec_env = make_vec_env(
            settings.env_id, kwargs, hyperparams.n_envs, settings.seed, settings.vec_env, folder, probe, ranks
        )
        with closing(vec_env):
            model = make_model(settings, hyperparams, vec_env, device, ranks)
            done = 0 if checkpoint is None else int(checkpoint.state["model"]["num_timesteps"])
            # Imitation has logged at steps of its own, which a TensorBoard that is open must not take for later ones.
            forget_after = None if checkpoint is None or settings.imitate else done
            logger = RunLogger(folder, forget_after, done // (model.n_steps * hyperparams.n_envs))
            model.set_logger(logger)
            describe = partial(_describe, model, settings, hyperparams, list(probe.dataset.categories))
            with closing(logger), tracked(settings, hyperparams, folder, logger, report) as tracking:
                callbacks: list[BaseCallback] = []

                def compose() -> io.BytesIO:
                    zipped = zip_of(model, describe())
                    own = rank_state(model, vec_env, monitor_sizes(folder, ranks.part(hyperparams.n_envs)))
                    add_state(zipped, training_state(model, ranks.gather(own), callbacks, logger))
                    return zipped

                def save(path: Path) -> None:
                    save_zip(model, path, describe())

                boundary = BoundaryCallback(compose, stop, None if checkpoint is None else checkpoint.state)
                keeps_maps = getattr(model.policy.features_extractor, "seen_maps", None) is not None
                callbacks += [] if ranks.size == 1 else [CountAllRanks(ranks)]
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
                    else:
                        logger.load_state_dict(checkpoint.state["pending"])
                    hung = f"no answer from another rank; go on with: {ranks.command} train --resume {folder}"
                    with held_to_time(partial(boundary.write_at_end, folder), hung, ranks):
                        learn(model, vec_env, hyperparams.n_timesteps, callbacks, checkpoint, ranks)
                except BaseException:
                    # torchrun sends a signal as soon as another rank has ended, which may be what is handled here.
                    stop.hold()
                    boundary.write_at_end(folder)
                    with suppress(OSError):  # what was learnt is kept
                        save(last)
                    raise
                save(last)
                if logger.name_to_value:
                    logger.dump(model.num_timesteps)
        mark_finished(folder, settings.env_id)


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
    report(f"imitating in {settings.imitate} states into {folder}")
    vec_env = SamSegVecEnv(probe.twin(), num_envs)
    vec_env.seed(settings.seed + IMITATION_SEED)
    with closing(vec_env), spared_cores(vec_env), tqdm(total=settings.imitate, disable=not settings.progress) as bar:

        def progress(steps: int) -> None:
            bar.update(steps)
            stop.check()

        stop.hold()  # worker processes may be answering, see `Stops`
        Imitation(model, vec_env, BUFFERS[settings.algo], settings.seed + IMITATION_SEED).learn(
            settings.imitate, progress
        )
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
