"""`sb3-alignsam cache`."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta

import click
from tqdm import tqdm

from sb3_alignsam.cli.options import PairsCommand, read_env_kwargs
from sb3_alignsam.envs.caching import CachePlan, fill_cache, plan_cache
from sb3_alignsam.envs.making import make_env
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.perception.cache import FeatureCache
from sb3_alignsam.training.distributed import Ranks, joined

PATIENCE = timedelta(days=7)
"""How long a rank that is done waits for the others."""


@click.command("cache", cls=PairsCommand)
@click.option("--env", "env_id", required=True, help="Environment id, such as SamSegCoco-v0.")
@click.option("--split", help="Dataset split; else the one that training reads.")
@click.option("--text-model", help="Also keep its image tokens: tiny, a folder or openai/clip-vit-base-patch16.")
@click.option("--env-kwargs", multiple=True, metavar="KEY:VALUE ...", help="Keywords of the environment, as in train.")
def command(env_id: str, split: str | None, text_model: str | None, env_kwargs: tuple[str, ...]) -> None:
    """Compute what the frozen networks make of a dataset's images, ahead of training, and keep it.

    Stopped at any time, the same command goes on. Training and evaluation with the same segmenter and text model then
    read it; other networks have entries of their own. Under torchrun the processes of a machine divide the images.

    \b
    sb3-alignsam cache --env SamSegCoco-v0 --split val2017 --env-kwargs root:coco segmenter:repvit_sam
    """
    given = {"split": split, "text_model": text_model}
    kwargs = read_env_kwargs(env_kwargs) | {key: value for key, value in given.items() if value is not None}
    with joined(PATIENCE) as ranks:
        # Not before: ``cuda`` means a GPU of one's own from here on.
        env = make_env(env_id, kwargs)
        plan = plan_cache(env)
        cache = env.features.cache
        assert cache is not None
        _fill(env, plan, cache, ranks)


def _fill(env: SamSegEnv, plan: CachePlan, cache: FeatureCache, ranks: Ranks) -> None:
    """Fill the cache of this machine together with its other ranks; the leader tells of all."""
    tell = click.echo if ranks.leader else lambda line: None
    tell(
        f"{len(plan.indices)} images, {plan.bytes_per_image / 1e6:.2f} MB each, {plan.bytes / 1e9:.2f} GB in all, "
        f"into {cache.folder} (limit {cache.limit_gb:g} GB)"
    )
    # A store that several machines share would not be safe, so that each has one, and all features in it.
    own = replace(plan, indices=plan.indices[ranks.local_rank :: ranks.local_size])
    shown = sys.stdout.isatty() and ranks.leader
    computed = sum(tqdm(fill_cache(env, own), total=len(own.indices), disable=not shown, unit="image"))
    counts = ranks.gather((computed, len(own.indices) - computed))
    computed, there = (sum(each) for each in zip(*counts, strict=True)) if ranks.leader else (0, 0)
    tell(f"computed {computed}, {there} were there already; the cache holds {cache.size_bytes / 1e9:.2f} GB")
