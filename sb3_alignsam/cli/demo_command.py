"""`sb3-alignsam demo`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sb3_alignsam.cli.options import check_at_least, log_folder_option, table_console
from sb3_alignsam.evaluation.agents import load_agent
from sb3_alignsam.evaluation.films import record_films
from sb3_alignsam.evaluation.protocol import spread
from sb3_alignsam.evaluation.run import evaluate_run
from sb3_alignsam.training.config import agent_env_kwargs, read_hyperparams, shipped_config
from sb3_alignsam.training.run import train
from sb3_alignsam.training.settings import RunSettings

ALGO, ENV_ID = "maskable_ppo", "SamSegShapes-v0"
DEFAULT_STEPS = 14_000
FILMS = 4


@click.command("demo")
@click.option("--n-timesteps", "-n", default=DEFAULT_STEPS, show_default=True, help="Environment steps to train for.")
@click.option("--episodes", default=200, show_default=True, help="Episodes of the val split to evaluate on.")
@click.option("--agent", default="implicit", show_default=True, help="implicit or explicit: which features it reads.")
@click.option("--text-model", help="For similarity maps; else tiny for --agent explicit.")
@click.option("--seed", default=0, show_default=True)
@log_folder_option
def command(n_timesteps: int, episodes: int, agent: str, text_model: str | None, seed: int, log_folder: Path) -> None:
    """Watch an agent learn to click: train on drawn scenes, evaluate against baselines, film it.

    Needs no network, no files and no accelerator; some minutes on two cores.

    \b
    sb3-alignsam demo
    sb3-alignsam demo --agent explicit
    """
    check_at_least("--n-timesteps", n_timesteps, 1)
    check_at_least("--episodes", episodes, 1)
    progress = sys.stdout.isatty()
    hyperparams = read_hyperparams(shipped_config(ALGO, agent), ENV_ID, ALGO, {"n_timesteps": n_timesteps})
    kwargs = agent_env_kwargs(agent, ENV_ID, {}, text_model)
    settings = RunSettings(
        ALGO, ENV_ID, kwargs, seed, log_folder, eval_freq=4000, eval_episodes=64, progress=progress, track="mlflow"
    )
    click.echo("1 of 3  train on Shapes scenes")
    folder = train(settings, hyperparams, sys.argv, click.echo)
    click.echo("2 of 3  evaluate on the val split, which training never saw")
    evaluate_run(
        folder,
        load_best=True,
        episodes=episodes,
        baselines=None,
        console=table_console(),
        progress=progress,
    )
    click.echo("3 of 3  film some episodes")
    loaded = load_agent(folder, load_best=True, env_kwargs={"render_mode": "rgb_array"})
    films = record_films(loaded, spread(len(loaded.env.dataset), FILMS), folder / "videos")
    click.echo(f"\nLook at:\n  curves  {folder / 'report' / 'eval_val.png'}\n  films   {films[0].parent}")
    click.echo(f"  sheet   {folder / 'report' / 'eval_val_episodes.png'}")
    click.echo(f"  figures {folder / 'report' / 'eval_val.json'}\n  training curves: tensorboard --logdir {folder}")
    click.echo(f"  MLflow  make mlflow LOGS={log_folder}")
