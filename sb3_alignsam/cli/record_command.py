"""`sb3-alignsam record`."""

from __future__ import annotations

from pathlib import Path

import click

from sb3_alignsam.cli.options import PairsCommand, check_at_least, read_env_kwargs, trust_options
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.agents import load_agent
from sb3_alignsam.evaluation.films import record_films, write_animation
from sb3_alignsam.evaluation.protocol import spread
from sb3_alignsam.evaluation.report import check_writable
from sb3_alignsam.policies.foreign import Trust

MAX_TILES = 16
"""A film of more is larger than players show."""


@click.command("record", cls=PairsCommand)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--episodes", "-n", default=4, show_default=True, help="How many, spread over the split.")
@click.option("--tiles", default=1, show_default=True, help="Episodes that one film shows side by side.")
@click.option("--load-best", is_flag=True, help="The best model on dev, not the last one.")
@click.option("--split", help="Dataset split; else val (ADE20K: validation), of COCO the run's own.")
@click.option("--env-kwargs", multiple=True, metavar="KEY:VALUE ...", help="Replace keywords of the environment.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the films; else RUN/videos.")
@click.option("--gif", type=click.Path(dir_okay=False, path_type=Path), help="Also write one animated picture of all.")
@trust_options
def command(
    run: Path,
    episodes: int,
    tiles: int,
    load_best: bool,
    split: str | None,
    env_kwargs: tuple[str, ...],
    out: Path | None,
    gif: Path | None,
    trust: bool,
    env_id: str | None,
) -> None:
    """Film an agent, RUN folder or zip, one mp4 an episode. Earlier films are kept.

    \b
    sb3-alignsam record logs/ppo/SamSegShapes-v0_1 -n 4
    sb3-alignsam record logs/ppo/SamSegShapes-v0_1 -n 8 --tiles 4
    """
    check_at_least("--episodes", episodes, 1)
    check_at_least("--tiles", tiles, 1)
    if tiles > MAX_TILES:
        raise InputError(f"--tiles needs a whole number <= {MAX_TILES}, got {tiles}")
    kwargs = {**read_env_kwargs(env_kwargs), "render_mode": "rgb_array"}
    agent = load_agent(run, split, load_best, kwargs, Trust(trust, env_id))
    indices = spread(len(agent.env.dataset), episodes)
    folder = out or agent.zip_path.parent / "videos"
    for place in (folder / "film.mp4", *([] if gif is None else [gif])):
        check_writable(place)
    for path in record_films(agent, indices, folder, tiles):
        click.echo(path)
    if gif is not None:
        write_animation(agent, indices, gif)
        click.echo(gif)
