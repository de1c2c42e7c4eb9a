"""`sb3-alignsam cache`."""

from __future__ import annotations

import sys

import click
from tqdm import tqdm

from sb3_alignsam.cli.options import PairsCommand, read_env_kwargs
from sb3_alignsam.envs.caching import fill_cache, plan_cache
from sb3_alignsam.envs.making import make_env


@click.command("cache", cls=PairsCommand)
@click.option("--env", "env_id", required=True, help="Environment id, such as SamSegCoco-v0.")
@click.option("--split", help="Dataset split; else the one that training reads.")
@click.option("--text-model", help="Also keep its image tokens: tiny, a folder or openai/clip-vit-base-patch16.")
@click.option("--env-kwargs", multiple=True, metavar="KEY:VALUE ...", help="Keywords of the environment, as in train.")
def command(env_id: str, split: str | None, text_model: str | None, env_kwargs: tuple[str, ...]) -> None:
    """Compute what the frozen networks make of a dataset's images, ahead of training, and keep it.

    Stopped at any time, the same command goes on. Training and evaluation with the same segmenter and text model then
    read it; other networks have entries of their own.

    \b
    sb3-alignsam cache --env SamSegCoco-v0 --split val2017 --env-kwargs root:coco segmenter:repvit_sam
    """
    given = {"split": split, "text_model": text_model}
    kwargs = read_env_kwargs(env_kwargs) | {key: value for key, value in given.items() if value is not None}
    env = make_env(env_id, kwargs)
    plan = plan_cache(env)
    cache = env.features.cache
    assert cache is not None
    click.echo(
        f"{len(plan.indices)} images, {plan.bytes_per_image / 1e6:.2f} MB each, {plan.bytes / 1e9:.2f} GB in all, "
        f"into {cache.folder} (limit {cache.limit_gb:g} GB)"
    )
    bar = tqdm(fill_cache(env, plan), total=len(plan.indices), disable=not sys.stdout.isatty(), unit="image")
    computed = sum(bar)
    there = len(plan.indices) - computed
    click.echo(f"computed {computed}, {there} were there already; the cache holds {cache.size_bytes / 1e9:.2f} GB")
