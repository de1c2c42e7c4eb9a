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
from sb3_alignsam.benchmark.environments import benchmark_env
from sb3_alignsam.benchmark.inference import POLICIES, benchmark_infer
from sb3_alignsam.benchmark.perception import benchmark_perception
from sb3_alignsam.benchmark.timing import cores
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
    sb3-alignsam benchmark infer --segmenter repvit_sam
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
    num_threads = _threads(num_threads)
    _check_checkpoint(segmenter, checkpoint)
    _tell(
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


@command.command("infer")
@_segmenter
@_checkpoint
@click.option("--agent", type=click.Choice(tuple(POLICIES)), default="implicit", show_default=True)
@click.option("--repeats", default=50, show_default=True, help="Photographs, after one to warm up.")
@click.option("--threads", "num_threads", type=int, help="Threads of torch and onnxruntime; else all cores.")
@_json
def infer(
    segmenter: str, checkpoint: str | None, agent: str, repeats: int, num_threads: int | None, json_file: Path | None
) -> None:
    """A photograph's time from pixels to mask, by torch and by onnxruntime.

    \b
    sb3-alignsam benchmark infer --agent explicit
    sb3-alignsam benchmark infer --segmenter repvit_sam --repeats 20 --json figures.json
    """
    check_at_least("--repeats", repeats, 1)
    num_threads = _threads(num_threads)
    _check_checkpoint(segmenter, checkpoint)
    with tqdm(total=repeats + 1, disable=not sys.stdout.isatty(), leave=False) as bar:
        _tell(
            lambda: benchmark_infer(
                segmenter, agent, repeats=repeats, num_threads=num_threads, checkpoint=checkpoint, step=bar.update
            ),
            tables.print_infer,
            json_file,
        )


def _threads(asked: int | None) -> int:
    """Threads to use: all cores where none were asked for."""
    most = cores()
    if asked is not None and not 1 <= asked <= most:
        raise InputError(f"--threads needs a whole number from 1 to {most}, the cores of this machine; got {asked}")
    return asked or most


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
