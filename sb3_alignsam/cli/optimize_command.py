"""`sb3-alignsam optimize`."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import click

from sb3_alignsam.cli.options import PairsCommand, check_at_least, log_folder_option, read_env_kwargs, read_pairs
from sb3_alignsam.errors import InputError
from sb3_alignsam.training.config import ALGORITHMS, agent_env_kwargs, read_hyperparams, shipped_config
from sb3_alignsam.training.search_space import read_space, shipped_space
from sb3_alignsam.training.settings import RunSettings
from sb3_alignsam.training.vec_envs import VEC_ENVS


@click.command("optimize", cls=PairsCommand)
@click.option("--env", "env_id", required=True, help="Environment id, such as SamSegShapes-v0.")
@click.option("--algo", default="ppo", show_default=True, help=f"One of {', '.join(ALGORITHMS)}.")
@click.option("--agent", default="implicit", show_default=True, help="implicit or explicit: which features it reads.")
@click.option("--text-model", help="As for train.")
@click.option("--space", type=click.Path(path_type=Path), help="YAML of what is searched; else the shipped one.")
@click.option(
    "--conf-file",
    "-conf",
    type=click.Path(path_type=Path),
    help="YAML of all other hyperparameters; else the shipped one.",
)
@click.option("--hyperparams", "-params", multiple=True, metavar="KEY:VALUE ...", help="Replace some of them.")
@click.option("--env-kwargs", multiple=True, metavar="KEY:VALUE ...", help="Keywords of the environment.")
@click.option("--n-timesteps", "-n", type=int, help="Environment steps of a trial; else n_timesteps of the YAML file.")
@click.option("--study-name", help="Trials of one name belong together; else named after algorithm and environment.")
@click.option("--storage", help="Database server's address, or file of sqlite; else LOGS/optimize/studies.db.")
@click.option("--n-trials", default=20, show_default=True, help="Trials of this process.")
@click.option("--max-total-trials", type=int, help="Trials of the whole study, of all processes together.")
@click.option("--sampler", type=click.Choice(["tpe", "random"]), default="tpe", show_default=True)
@click.option("--pruner", type=click.Choice(["median", "halving", "none"]), default="median", show_default=True)
@click.option("--n-startup-trials", default=10, show_default=True, help="At first: drawn at random, pruned by none.")
@click.option("--n-evaluations", default=4, show_default=True, help="Of a trial on dev; it can end after each.")
@click.option("--eval-episodes", default=100, show_default=True, help="Episodes of dev to evaluate on.")
@click.option("--seed", default=0, show_default=True, help="Of what is drawn, and of every trial's training.")
@log_folder_option
@click.option("--vec-env", type=click.Choice(VEC_ENVS), default="batched", show_default=True, help="Kind of VecEnv.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps; of the policy.")
def command(
    env_id: str,
    algo: str,
    agent: str,
    text_model: str | None,
    space: Path | None,
    conf_file: Path | None,
    hyperparams: tuple[str, ...],
    env_kwargs: tuple[str, ...],
    n_timesteps: int | None,
    study_name: str | None,
    storage: str | None,
    n_trials: int,
    max_total_trials: int | None,
    sampler: str,
    pruner: str,
    n_startup_trials: int,
    n_evaluations: int,
    eval_episodes: int,
    seed: int,
    log_folder: Path,
    vec_env: str,
    device: str,
) -> None:
    """Search for hyperparameters: train briefly with many sets of them, and judge each by its mIoU on dev.

    Given again, or on another machine with the same storage, the command takes part in the same study. The best set is
    written as a YAML file that train takes by --conf-file.

    \b
    sb3-alignsam optimize --env SamSegShapes-v0 --algo maskable_ppo -n 4000 --n-trials 30
    sb3-alignsam optimize --env SamSegShapes-v0 --storage postgresql://user:password@host/database --study-name clicks
    """
    if find_spec("optuna") is None:
        raise InputError("optimize needs Optuna, which is not installed: pip install 'sb3-alignsam[sweeps]'")
    from sb3_alignsam.training.sweep import Sweep, run_sweep

    for name, value, least in (
        ("--n-trials", n_trials, 1),
        ("--n-startup-trials", n_startup_trials, 0),
        ("--n-evaluations", n_evaluations, 1),
        ("--eval-episodes", eval_episodes, 1),
        ("--seed", seed, 0),
        ("--max-total-trials", 1 if max_total_trials is None else max_total_trials, 1),
    ):
        check_at_least(name, value, least)
    if seed >= 2**32:
        raise InputError(f"--seed needs a whole number below 2**32, got {seed}")
    study = study_name or f"{algo}_{agent}_{env_id}"
    if not re.fullmatch(r"\w[\w.-]{0,99}", study):
        raise InputError(f"--study-name needs letters, digits, '_', '-' and '.', got '{study[:100]}'")
    overrides = read_pairs(hyperparams, "-params")
    if n_timesteps is not None:
        overrides["n_timesteps"] = n_timesteps
    shipped = shipped_config(algo, agent)  # An unknown algorithm or agent is named even beside a file of one's own.
    base = read_hyperparams(conf_file or shipped, env_id, algo, overrides)
    kwargs = agent_env_kwargs(agent, env_id, {**base.env_kwargs, **read_env_kwargs(env_kwargs)}, text_model)
    settings = RunSettings(
        algo, env_id, kwargs, seed, log_folder, vec_env, device, eval_episodes=eval_episodes, save_freq=0
    )
    sweep = Sweep(
        settings,
        base,
        read_space(space or shipped_space(), env_id, base.raw, algo),
        study,
        storage or str(log_folder / "optimize" / "studies.db"),
        sampler,
        pruner,
        n_startup_trials,
        n_evaluations,
    )
    files = run_sweep(sweep, n_trials, max_total_trials, click.echo)
    click.echo(f"trials: {files.table}\nfigures: {files.figures}")
    if files.best.is_file():
        click.echo(f"best:   sb3-alignsam train --env {env_id} --algo {algo} --seed {seed} --conf-file {files.best}")
