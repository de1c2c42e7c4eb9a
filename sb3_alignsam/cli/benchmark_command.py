"""`sb3-alignsam benchmark`: a group, one sub-command for each part that is timed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from tqdm import tqdm

from sb3_alignsam.benchmark import tables
from sb3_alignsam.benchmark.data import SPLIT, benchmark_data
from sb3_alignsam.benchmark.environments import benchmark_env
from sb3_alignsam.benchmark.made_up_coco import ANNOTATIONS, IMAGES
from sb3_alignsam.benchmark.perception import benchmark_perception
from sb3_alignsam.benchmark.timing import cores
from sb3_alignsam.benchmark.tracking import benchmark_tracking
from sb3_alignsam.benchmark.training import benchmark_train
from sb3_alignsam.cli.options import PairsCommand, check_at_least, read_env_kwargs, read_pairs, table_console
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.report import check_writable, write_json
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
    """


_checkpoint = click.option(
    "--checkpoint", type=click.Path(), help="Weights of repvit_sam; else random ones, which cost the same."
)
_json = click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures here.")
_segmenter = click.option("--segmenter", type=click.Choice(SEGMENTERS), default="tiny", show_default=True)
_root = click.option("--root", type=click.Path(), help="Folder of COCO data; else drawn Shapes.")
_env_kwargs = click.option("--env-kwargs", multiple=True, metavar="KEY:VALUE ...", help="Keywords of the environment.")


@command.command("perception")
@click.option("--segmenter", type=click.Choice(SEGMENTERS), help="Which one; else all of them.")
@_checkpoint
@click.option("--clip", is_flag=True, help="Also CLIP Surgery of ViT-B/16's size, random weights, 512 pixels.")
@click.option("--repeats", default=10, show_default=True, help="Of every call, after one to warm up.")
@click.option("--threads", "num_threads", type=int, help="Threads of torch; else all cores.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda or mps.")
@_json
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
    most = cores()
    if num_threads is not None and not 1 <= num_threads <= most:
        raise InputError(
            f"--threads needs a whole number from 1 to {most}, the cores of this machine; got {num_threads}"
        )
    _check_checkpoint(segmenter, checkpoint)
    _tell(
        lambda: benchmark_perception(
            SEGMENTERS if segmenter is None else (segmenter,),
            repeats=repeats,
            num_threads=num_threads or most,
            device=device,
            checkpoint=checkpoint,
            clip=clip,
            progress=sys.stdout.isatty(),
        ),
        tables.print_perception,
        json_file,
    )


@command.command("env", cls=PairsCommand)
@_segmenter
@_checkpoint
@_root
@click.option("--num-envs", default="1,8,16", show_default=True, help="Environments, with commas between.")
@click.option("--steps", default=50, show_default=True, help="Of every environment, in each turn.")
@click.option("--repeats", default=3, show_default=True, help="Turns of each kind of VecEnv.")
@_env_kwargs
@_json
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
    _check_checkpoint(segmenter, checkpoint)
    counts = _counts(num_envs)
    with tqdm(total=len(counts) * repeats * len(VEC_ENVS), disable=not sys.stdout.isatty(), leave=False) as bar:
        _tell(
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
@_segmenter
@_checkpoint
@_root
@click.option("--algo", type=click.Choice(tuple(ALGORITHMS)), default="maskable_ppo", show_default=True)
@click.option("--agent", type=click.Choice(("implicit", "explicit")), default="implicit", show_default=True)
@click.option("--vec-env", type=click.Choice(VEC_ENVS), default="batched", show_default=True)
@click.option("--iterations", default=5, show_default=True, help="Rollouts with updates, after one to warm up.")
@click.option("--hyperparams", "-params", multiple=True, metavar="KEY:VALUE ...", help="Replace hyperparameters.")
@_env_kwargs
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda or mps; of the policy.")
@_json
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
    _check_checkpoint(segmenter, checkpoint)
    with tqdm(total=1 if root is None else 3, disable=not sys.stdout.isatty(), leave=False) as bar:
        _tell(
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


@command.command("data")
@click.option("--images", default=IMAGES, show_default=True, help="Of the annotation file that is made up.")
@click.option("--annotations", default=ANNOTATIONS, show_default=True, help="Of that file.")
@click.option("--workers", default=4, show_default=True, help="Processes that share the dataset.")
@click.option("--samples", default=100, show_default=True, help="Samples that are timed.")
@click.option("--root", type=click.Path(), help="Folder of COCO data to take them from; else made-up pictures.")
@click.option("--split", default=SPLIT, show_default=True, help="Of that folder.")
@_json
def data(
    images: int, annotations: int, workers: int, samples: int, root: str | None, split: str, json_file: Path | None
) -> None:
    """Opening annotations of COCO's full size; decoding, resizing and masks of a sample.

    It makes half a gigabyte of annotations in a temporary folder.

    \b
    sb3-alignsam benchmark data
    sb3-alignsam benchmark data --root coco --split val2017 --samples 500
    """
    for name, value in (("images", images), ("annotations", annotations), ("workers", workers), ("samples", samples)):
        check_at_least(f"--{name}", value, 1)
    with tqdm(total=5, disable=not sys.stdout.isatty(), leave=False) as bar:
        _tell(
            lambda: benchmark_data(
                images=images,
                annotations=annotations,
                workers=workers,
                samples=samples,
                root=root,
                split=split,
                step=bar.update,
            ),
            tables.print_data,
            json_file,
        )


@command.command("tracking")
@click.option("--algo", type=click.Choice(tuple(ALGORITHMS)), default="maskable_ppo", show_default=True)
@click.option("--blocks", default=3, show_default=True, help="Of training with tracking, and as many without.")
@click.option("--seconds", default=120.0, show_default=True, help="Of each block.")
@click.option("--freq", default=5000, show_default=True, help="Steps between two checkpoints, films, evaluations.")
@_json
def tracking(algo: str, blocks: int, seconds: float, freq: int, json_file: Path | None) -> None:
    """Steps a second with MLflow, films and checkpoints, beside those without.

    \b
    sb3-alignsam benchmark tracking
    sb3-alignsam benchmark tracking --blocks 2 --seconds 40 --freq 1000
    """
    for name, value in (("--blocks", blocks), ("--freq", freq)):
        check_at_least(name, value, 1)
    if not 0 < seconds < 10**6:
        raise InputError(f"--seconds needs a number above 0, got {seconds:g}")
    _tell(
        lambda: benchmark_tracking(algo=algo, blocks=blocks, seconds=seconds, freq=freq),
        tables.print_tracking,
        json_file,
    )


def _check_checkpoint(segmenter: str | None, checkpoint: str | None) -> None:
    if checkpoint is not None and segmenter == "tiny":
        raise InputError("--checkpoint is for repvit_sam: leave it out, or --segmenter tiny")
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise InputError(f"--checkpoint {checkpoint} does not exist")


def _counts(text: str) -> list[int]:
    counts = [int(each) for each in text.split(",") if each.isdecimal()]
    if len(counts) != len(text.split(",")) or not all(1 <= each <= MOST_ENVS for each in counts):
        raise InputError(f"--num-envs needs whole numbers from 1 to {MOST_ENVS} with commas between, got '{text}'")
    return counts


def _tell(
    measure: Callable[[], dict[str, Any]],
    show: Callable[[dict[str, Any], Console], None],
    json_file: Path | None,
) -> None:
    """Measure and show; find out before that takes its time whether the file can be written."""
    if json_file is not None:
        check_writable(json_file)
    figures = measure()
    show(figures, table_console())
    if json_file is not None:
        write_json(figures, json_file)
        click.echo(f"figures: {json_file}")
