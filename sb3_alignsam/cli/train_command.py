"""`sb3-alignsam train`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sb3_alignsam.cli.options import PairsCommand, check_at_least, read_env_kwargs, read_pairs
from sb3_alignsam.errors import InputError
from sb3_alignsam.training.config import ALGORITHMS, agent_env_kwargs, read_hyperparams, shipped_config
from sb3_alignsam.training.run import RunSettings, train
from sb3_alignsam.training.vec_envs import VEC_ENVS


@click.command("train", cls=PairsCommand)
@click.option("--env", "env_id", required=True, help="Environment id, such as SamSegShapes-v0.")
@click.option("--algo", default="ppo", show_default=True, help=f"One of {', '.join(ALGORITHMS)}.")
@click.option("--agent", default="implicit", show_default=True, help="implicit or explicit: which features it reads.")
@click.option("--text-model", help="tiny (explicit on Shapes: the default), a folder or openai/clip-vit-base-patch16.")
@click.option(
    "--conf-file", "-conf", type=click.Path(path_type=Path), help="YAML of hyperparameters; else the shipped one."
)
@click.option("--n-timesteps", "-n", type=int, help="Environment steps; else n_timesteps of the YAML file.")
@click.option("--seed", default=0, show_default=True, help="Seed of policy, sampling and environments.")
@click.option(
    "--log-folder",
    "-f",
    default="logs",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Root of run folders.",
)
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
    metavar="STEPS",
    help="Steps of imitating a clicker who knows the ground truth, before PPO; -n counts PPO's own.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps; of the policy.")
def command(
    env_id: str,
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
    device: str,
) -> None:
    """Train an agent.

    \b
    sb3-alignsam train --env SamSegShapes-v0 --algo maskable_ppo -n 50000
    sb3-alignsam train --env SamSegShapes-v0 --agent explicit --text-model tiny
    sb3-alignsam train --env SamSegCoco-v0 --env-kwargs root:coco split:train2017 -params n_envs:4
    """
    numbers = {"--eval-freq": eval_freq, "--save-freq": save_freq, "--seed": seed, "--imitate": imitate}
    for name, value in numbers.items():
        check_at_least(name, value, 0)
    check_at_least("--eval-episodes", eval_episodes, 1)
    if seed >= 2**32:
        raise InputError(f"--seed needs a whole number below 2**32, got {seed}")
    overrides = read_pairs(hyperparams, "-params")
    if n_timesteps is not None:
        overrides["n_timesteps"] = n_timesteps
    path = shipped_config(algo, agent) if conf_file is None else conf_file
    shipped_config(algo, agent)  # An unknown algorithm or agent is named even beside a file of the user's own.
    settings = RunSettings(
        algo,
        env_id,
        agent_env_kwargs(agent, env_id, read_env_kwargs(env_kwargs), text_model),
        seed,
        log_folder,
        vec_env,
        device,
        eval_freq,
        eval_episodes,
        save_freq,
        progress=sys.stdout.isatty(),
        imitate=imitate,
    )
    folder = train(settings, read_hyperparams(path, env_id, algo, overrides), sys.argv, click.echo)
    click.echo(f"done; evaluate it with: sb3-alignsam eval {folder}")
