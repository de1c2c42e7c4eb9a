"""`sb3-alignsam benchmark`: a group, one sub-command for each part that is timed."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from tqdm import tqdm

from sb3_alignsam.benchmark import tables
from sb3_alignsam.benchmark.environments import benchmark_env
from sb3_alignsam.benchmark.perception import benchmark_perception
from sb3_alignsam.benchmark.training import benchmark_train
from sb3_alignsam.cli.benchmark_data_command import data
from sb3_alignsam.cli.benchmark_distributed_command import distributed
from sb3_alignsam.cli.benchmark_infer_command import infer
from sb3_alignsam.cli.benchmark_options import (
    check_checkpoint,
    checkpoint_option,
    env_kwargs_option,
    json_option,
    root_option,
    segmenter_option,
    tell,
    threads_asked,
)
from sb3_alignsam.cli.benchmark_tracking_command import tracking
from sb3_alignsam.cli.options import PairsCommand, check_at_least, read_env_kwargs, read_pairs
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception import SEGMENTERS
from sb3_alignsam.training.config import ALGORITHMS
from sb3_alignsam.training.vec_envs import VEC_ENVS

MOST_ENVS = 1024


@click.group("benchmark")
def command() -> None:
    """Time parts of the package beside what they replace.

    \b
    sb3-alignsam benchmark perception --threads 2 --json figures.json
    sb3-alignsam benchmark env --num-envs 1,8,16
    sb3-alignsam benchmark train --segmenter repvit_sam --root coco_folder
    sb3-alignsam benchmark data
    sb3-alignsam benchmark tracking
    sb3-alignsam benchmark distributed
    sb3-alignsam benchmark infer --segmenter repvit_sam
    """


for _each in (data, distributed, infer, tracking):
    command.add_command(_each)


@command.command("perception")
@click.option("--segmenter", type=click.Choice(SEGMENTERS), help="Which one; else all of them.")
@checkpoint_option
@click.option("--clip", is_flag=True, help="Also CLIP Surgery of ViT-B/16's size, random weights, 512 pixels.")
@click.option("--repeats", default=10, show_default=True, help="Of every call, after one to warm up.")
@click.option("--threads", "num_threads", type=int, help="Threads of torch; else all cores.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda or mps.")
@json_option
def perception(
    segmenter: str | None,
    checkpoint: str | None,
    clip: bool,
    repeats: int,
    num_threads: int | None,
    device: str,
    json_file: Path | None,
) -> None:
    """Time the frozen networks: encoding an image, segmenting clicks; memory too.

    \b
    sb3-alignsam benchmark perception --threads 2 --json figures.json
    sb3-alignsam benchmark perception --segmenter repvit_sam --checkpoint repvit_sam.pt --clip
    """
    check_at_least("--repeats", repeats, 1)
    num_threads = threads_asked(num_threads)
    check_checkpoint(segmenter, checkpoint)
    tell(
        lambda: benchmark_perception(
            SEGMENTERS if segmenter is None else (segmenter,),
            repeats=repeats,
            num_threads=num_threads,
            device=device,
            checkpoint=checkpoint,
            clip=clip,
            progress=sys.stdout.isatty(),
        ),
        tables.print_perception,
        json_file,
    )


@command.command("env", cls=PairsCommand)
@segmenter_option
@checkpoint_option
@root_option
@click.option("--num-envs", default="1,8,16", show_default=True, help="Environments, with commas between.")
@click.option("--steps", default=50, show_default=True, help="Of every environment, in each turn.")
@click.option("--repeats", default=3, show_default=True, help="Turns of each kind of VecEnv.")
@env_kwargs_option
@json_option
def env(
    segmenter: str,
    checkpoint: str | None,
    root: str | None,
    num_envs: str,
    steps: int,
    repeats: int,
    env_kwargs: tuple[str, ...],
    json_file: Path | None,
) -> None:
    """Steps a second of many environments: batched, subproc and dummy.

    \b
    sb3-alignsam benchmark env --num-envs 1,8,16
    sb3-alignsam benchmark env --segmenter repvit_sam --root coco_folder --num-envs 4
    """
    check_at_least("--steps", steps, 1)
    check_at_least("--repeats", repeats, 1)
    check_checkpoint(segmenter, checkpoint)
    counts = _counts(num_envs)
    with tqdm(total=len(counts) * repeats * len(VEC_ENVS), disable=not sys.stdout.isatty(), leave=False) as bar:
        tell(
            lambda: benchmark_env(
                segmenter,
                counts,
                steps=steps,
                repeats=repeats,
                checkpoint=checkpoint,
                root=root,
                env_kwargs=read_env_kwargs(env_kwargs),
                step=bar.update,
            ),
            tables.print_env,
            json_file,
        )


@command.command("train", cls=PairsCommand)
@segmenter_option
@checkpoint_option
@root_option
@click.option("--algo", type=click.Choice(tuple(ALGORITHMS)), default="maskable_ppo", show_default=True)
@click.option("--agent", type=click.Choice(("implicit", "explicit")), default="implicit", show_default=True)
@click.option("--vec-env", type=click.Choice(VEC_ENVS), default="batched", show_default=True)
@click.option("--iterations", default=5, show_default=True, help="Rollouts with updates, after one to warm up.")
@click.option("--hyperparams", "-params", multiple=True, metavar="KEY:VALUE ...", help="Replace hyperparameters.")
@env_kwargs_option
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda or mps; of the policy.")
@json_option
def train(
    segmenter: str,
    checkpoint: str | None,
    root: str | None,
    algo: str,
    agent: str,
    vec_env: str,
    iterations: int,
    hyperparams: tuple[str, ...],
    env_kwargs: tuple[str, ...],
    device: str,
    json_file: Path | None,
) -> None:
    """A training run: steps a second, memory, sizes, beside the least it could cost.

    \b
    sb3-alignsam benchmark train -params n_envs:16
    sb3-alignsam benchmark train --segmenter repvit_sam --root coco_folder \\
        -params n_envs:4 n_steps:10 batch_size:10
    """
    check_at_least("--iterations", iterations, 1)
    check_checkpoint(segmenter, checkpoint)
    with tqdm(total=1 if root is None else 3, disable=not sys.stdout.isatty(), leave=False) as bar:
        tell(
            lambda: benchmark_train(
                segmenter,
                algo=algo,
                agent=agent,
                vec_env=vec_env,
                iterations=iterations,
                hyperparams=read_pairs(hyperparams, "-params"),
                checkpoint=checkpoint,
                root=root,
                env_kwargs=read_env_kwargs(env_kwargs),
                device=device,
                step=bar.update,
            ),
            tables.print_train,
            json_file,
        )


def _counts(text: str) -> list[int]:
    counts = [int(each) for each in text.split(",") if each.isdecimal()]
    if len(counts) != len(text.split(",")) or not all(1 <= each <= MOST_ENVS for each in counts):
        raise InputError(f"--num-envs needs whole numbers from 1 to {MOST_ENVS} with commas between, got '{text}'")
    return counts
