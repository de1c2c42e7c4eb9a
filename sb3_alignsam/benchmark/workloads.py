"""What is played in a benchmark, and the process of its own that it is played in."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file

from sb3_alignsam.benchmark.cases import MISTAKE
from sb3_alignsam.benchmark.memory import Peak, peak_of
from sb3_alignsam.benchmark.perception import SEED, random_repvit_sam
from sb3_alignsam.errors import InputError, RunError


@dataclass(frozen=True)
class Workload:
    """An environment to play in.

    :param env_id: registered id. :param env_kwargs: its keywords, plain values; images in files have a ``cache`` of
        their own, empty at first. :param weights: what a reader is told of the segmenter's weights.
    :param folder: for what is made on the way; it is removed afterwards.
    """

    env_id: str
    env_kwargs: dict[str, Any]
    weights: str
    folder: Path


@contextmanager
def workload(
    segmenter: str, checkpoint: str | None, root: str | None, env_kwargs: Mapping[str, Any]
) -> Iterator[Workload]:
    """The Shapes scenes, or with `root` a folder of COCO, seen by a segmenter.

    :param segmenter: ``tiny`` or ``repvit_sam``. :param checkpoint: weights of ``repvit_sam``; None: random ones, which
        take the same time.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        kwargs: dict[str, Any] = {"segmenter": segmenter}
        if root is not None:
            kwargs |= {"root": root, "cache": str(folder / "features")}
        weights = "shipped weights" if segmenter == "tiny" else "weights of --checkpoint"
        if segmenter != "tiny" and checkpoint is None:
            checkpoint, weights = str(folder / "random.safetensors"), f"random weights of seed {SEED}"
            save_file(random_repvit_sam(SEED), checkpoint)
        if checkpoint is not None:
            kwargs["checkpoint"] = checkpoint
        yield Workload(
            "SamSegShapes-v0" if root is None else "SamSegCoco-v0", kwargs | dict(env_kwargs), weights, folder
        )


def run_case(module: str, case: Mapping[str, Any], work: Workload) -> tuple[dict[str, Any], Peak]:
    """Run a module of this package in a process of its own, so that its memory is its own too.

    :param module: what it runs is `answer`. :param case: plain values.
    :raises InputError: a keyword or a value cannot be used. :raises RunError: it failed.
    """
    environment, command = _environment(work), _command(module)
    with (
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
        ) as process,
        peak_of(process.pid) as peak,
    ):
        out, err = process.communicate(json.dumps(case))
    if process.returncode:
        raise _failure(process.returncode, err)
    return json.loads(out.splitlines()[-1]), peak


def run_ranks(module: str, case: Mapping[str, Any], work: Workload, size: int) -> dict[str, Any]:
    """Run a module of this package on several ranks of this machine, one thread each; the leader's figures.

    What else there is to say is as of `run_case`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    question = work.folder / "case.json"
    question.write_text(json.dumps(case), encoding="utf-8")
    processes = []
    for rank in range(size):
        variables = {**group, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": 1}
        environment = _environment(work) | {name: str(value) for name, value in variables.items()}
        files = [work.folder / f"{rank}.{kind}" for kind in ("out", "err")]
        with question.open() as stdin, files[0].open("w") as stdout, files[1].open("w") as stderr:
            processes.append(
                subprocess.Popen(_command(module), stdin=stdin, stdout=stdout, stderr=stderr, env=environment)
            )
    try:
        # One that fails leaves the others waiting for it.
        while None in (codes := [each.poll() for each in processes]) and not any(codes):
            time.sleep(0.1)
    finally:
        for each in processes:
            if each.poll() is None:
                each.kill()
            each.wait()
    for rank, code in enumerate(codes):
        if code:
            raise _failure(code, (work.folder / f"{rank}.err").read_text(encoding="utf-8", errors="replace"))
    figures: dict[str, Any] = json.loads((work.folder / "0.out").read_text(encoding="utf-8").splitlines()[-1])
    return figures


def _environment(work: Workload) -> dict[str, str]:
    # What is kept of random weights goes with them.
    return os.environ | ({"SB3_ALIGNSAM_HOME": str(work.folder)} if work.weights.startswith("random") else {})


def _command(module: str) -> list[str]:
    return [sys.executable, "-m", f"sb3_alignsam.benchmark.{module}"]


def _failure(code: int, err: str) -> Exception:
    if code == MISTAKE:
        return InputError(" ".join(err.split()))
    return RunError(f"the benchmark's process failed: {(err.strip().splitlines() or ['it said nothing'])[-1]}")
