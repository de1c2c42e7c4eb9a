"""`sb3-alignsam train`."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from sb3_alignsam.cli.options import PairsCommand, check_at_least, log_folder_option, read_env_kwargs, read_pairs
from sb3_alignsam.errors import InputError
from sb3_alignsam.tracking.addresses import checked
from sb3_alignsam.training.config import (
    ALGORITHMS,
    Hyperparams,
    agent_env_kwargs,
    read_hyperparams,
    shipped_config,
)
from sb3_alignsam.training.distributed import Ranks, begins_launch, joined, launch, was_restarted
from sb3_alignsam.training.repeating import RecordedRun, read_run
from sb3_alignsam.training.resume import resume as resume_run
from sb3_alignsam.training.run import train
from sb3_alignsam.training.run_folder import forget_launches, launched_run
from sb3_alignsam.training.settings import RunSettings
from sb3_alignsam.training.vec_envs import VEC_ENVS

BESIDE_RESUME = (
    "resume", "device", "save_freq", "save_minutes", "keep_checkpoints", "track", "tracking_uri", "video_freq"
)  # fmt: skip
"""Options that a resumed run takes: they do not change what it learns."""


@click.command("train", cls=PairsCommand)
@click.option("--env", "env_id", help="Environment id, such as SamSegShapes-v0.")
@click.option("--algo", default="ppo", show_default=True, help=f"One of {', '.join(ALGORITHMS)}.")
@click.option("--agent", default="implicit", show_default=True, help="implicit or explicit: which features it reads.")
@click.option("--text-model", help="tiny (explicit on Shapes: the default), a folder or openai/clip-vit-base-patch16.")
@click.option(
    "--conf-file", "-conf", type=click.Path(path_type=Path), help="YAML of hyperparameters; else the shipped one."
)
@click.option("--n-timesteps", "-n", type=int, help="Environment steps; else n_timesteps of the YAML file.")
@click.option("--seed", default=0, show_default=True, help="Seed of policy, sampling and environments.")
@log_folder_option
@click.option("--hyperparams", "-params", multiple=True, metavar="KEY:VALUE ...", help="Replace hyperparameters.")
@click.option("--env-kwargs", multiple=True, metavar="KEY:VALUE ...", help="Keywords of the environment.")
@click.option("--vec-env", type=click.Choice(VEC_ENVS), default="batched", show_default=True, help="Kind of VecEnv.")
@click.option("--eval-freq", default=5000, show_default=True, help="Steps between evaluations on dev; 0: none.")
@click.option("--eval-episodes", default=100, show_default=True, help="Episodes of dev to evaluate on.")
@click.option("--save-freq", default=0, show_default=True, help="Steps between rl_model_*_steps.zip; 0: none.")
@click.option(
    "--imitate",
    default=0,
    show_default=True,
    metavar="STATES",
    help="States to imitate a clicker in who knows the ground truth, before PPO; -n counts PPO's own steps.",
)
@click.option("--save-minutes", default=10.0, show_default=True, help="Minutes between two of them; 0: none.")
@click.option("--keep-checkpoints", default=3, show_default=True, help="How many of them are kept; 0: all.")
@click.option(
    "--track", type=click.Choice(("mlflow", "none")), default="mlflow", show_default=True, help="Where runs are kept."
)
@click.option("--tracking-uri", metavar="URI", help="MLflow server or database; else mlflow.db in the log folder.")
@click.option("--video-freq", default=0, show_default=True, help="Steps between films of dev episodes; 0: none.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with a stopped run; see below.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps; of the policy.")
@click.option(
    "--from-run",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Repeat a run: its settings are taken, but for the options given beside this one.",
)
@click.pass_context
def command(
    context: click.Context,
    env_id: str | None,
    algo: str,
    agent: str,
    text_model: str | None,
    conf_file: Path | None,
    n_timesteps: int | None,
    seed: int,
    log_folder: Path,
    hyperparams: tuple[str, ...],
    env_kwargs: tuple[str, ...],
    vec_env: str,
    eval_freq: int,
    eval_episodes: int,
    save_freq: int,
    imitate: int,
    save_minutes: float,
    keep_checkpoints: int,
    track: Literal["mlflow", "none"],
    tracking_uri: str | None,
    video_freq: int,
    resume: Path | None,
    device: str,
    from_run: Path | None,
) -> None:
    """Train an agent; or by --from-run and a run's folder train once more as that run did, into a new folder; or by
    --resume go on with a run that was stopped: it ends as if it never had been. Ctrl-C and SIGTERM lose nothing.

    \b
    sb3-alignsam train --env SamSegShapes-v0 --algo maskable_ppo -n 50000
    sb3-alignsam train --env SamSegShapes-v0 --agent explicit --text-model tiny
    sb3-alignsam train --env SamSegCoco-v0 --env-kwargs root:coco split:train2017 -params n_envs:4
    sb3-alignsam train --from-run logs/maskable_ppo/SamSegShapes-v0_1 --seed 1
    sb3-alignsam train --resume logs/maskable_ppo/SamSegShapes-v0_1
    """
    numbers = {"--eval-freq": eval_freq, "--save-freq": save_freq, "--seed": seed, "--imitate": imitate}
    for name, value in {**numbers, "--keep-checkpoints": keep_checkpoints, "--video-freq": video_freq}.items():
        check_at_least(name, value, 0)
    if not 0 <= save_minutes < math.inf:
        raise InputError(f"--save-minutes needs a number >= 0, got {save_minutes:g}")
    if tracking_uri is not None:
        tracking_uri = context.params["tracking_uri"] = checked(tracking_uri)
    if resume is not None:
        _on_this_rank(partial(resume_run, resume, _changes(context)))
        return
    check_at_least("--eval-episodes", eval_episodes, 1)
    if seed >= 2**32:
        raise InputError(f"--seed needs a whole number below 2**32, got {seed}")
    overrides = read_pairs(hyperparams, "-params")
    if n_timesteps is not None:
        overrides["n_timesteps"] = n_timesteps
    asked = RunSettings(
        algo,
        env_id or "",
        read_env_kwargs(env_kwargs),
        seed,
        log_folder,
        vec_env,
        device,
        eval_freq,
        eval_episodes,
        save_freq,
        progress=sys.stdout.isatty(),
        imitate=imitate,
        save_minutes=save_minutes,
        keep_checkpoints=keep_checkpoints,
        track=track,
        tracking_uri=tracking_uri,
        video_freq=video_freq,
    )
    shipped_config(algo, agent)  # An unknown algorithm or agent is named even beside a file of the user's own.
    repeats = None
    if from_run is not None:
        run = read_run(from_run)
        repeats = run.inner
        settings, parameters = _repeated(run, asked, context, overrides)
    elif env_id is None:
        raise click.MissingParameter(param_hint="'--env'", param_type="option")
    else:
        path = conf_file or shipped_config(algo, agent, imitate > 0)
        parameters = read_hyperparams(path, env_id, algo, overrides)
        kwargs = {**parameters.env_kwargs, **asked.env_kwargs}
        settings = replace(asked, env_kwargs=agent_env_kwargs(agent, env_id, kwargs, text_model))
    if begins_launch():
        # Before any rank can fail: those started again would take a run of an earlier launch for theirs.
        forget_launches(settings.logs, settings.algo, settings.env_id, launch())
    _on_this_rank(partial(_begin, settings, parameters, repeats))


def _on_this_rank(work: Callable[[Callable[[str], None], Ranks], Path]) -> None:
    """Train as one of the ranks that there are; only the leader tells of it."""
    with joined() as ranks:
        report: Callable[[str], None] = click.echo if ranks.leader else lambda line: None
        folder = work(report, ranks)
        report(f"done; evaluate it with: sb3-alignsam eval {folder}")


def _begin(
    settings: RunSettings,
    parameters: Hyperparams,
    repeats: Path | None,
    report: Callable[[str], None],
    ranks: Ranks,
) -> Path:
    """Train into a new run folder; if ``torchrun`` has started this process again, into the one that it has begun."""
    begun = launched_run(settings.logs, settings.algo, settings.env_id, launch()) if was_restarted() else None
    begun = ranks.broadcast(begun)
    if begun is None:
        return train(settings, parameters, sys.argv, report, repeats, ranks)
    return resume_run(begun, {"progress": settings.progress}, report, ranks)


def _repeated(
    run: RecordedRun, asked: RunSettings, context: click.Context, overrides: Mapping[str, Any]
) -> tuple[RunSettings, Hyperparams]:
    """Settings and hyperparameters of a run, but for what was typed beside it.

    :raises InputError: they do not go together.
    """
    typed = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    # Options are named as the settings that they set, but for the log folder's.
    known = {each.name for each in fields(RunSettings)}
    settings = run.settings_with(asked, {"logs" if name == "log_folder" else name for name in typed} & known)
    params, agent = context.params, context.params["agent"]
    if typed & {"agent", "text_model"}:
        kwargs = agent_env_kwargs(agent, settings.env_id, settings.env_kwargs, params["text_model"])
        settings = replace(settings, env_kwargs=kwargs)
    if typed & {"agent", "algo", "conf_file"}:
        path = params["conf_file"] or shipped_config(settings.algo, agent, settings.imitate > 0)
        return settings, read_hyperparams(path, settings.env_id, settings.algo, overrides)
    return settings, run.hyperparams(overrides)


def _changes(context: click.Context) -> dict[str, Any]:
    """What a resumed run does otherwise than before.

    :raises InputError: an option is given that only a new run takes.
    """
    given = [param for param in context.command.params
             if param.name and context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE]  # fmt: skip
    others = [param.opts[0] for param in given if param.name not in BESIDE_RESUME]
    if others:
        raise InputError(f"--resume goes on with the run's own configuration; leave out {', '.join(others)}")
    changes = {str(param.name): context.params[str(param.name)] for param in given if param.name != "resume"}
    return {**changes, "progress": sys.stdout.isatty()}
