"""Environments side by side, as SB3 takes them."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_alignsam.datasets.ahead import default_workers
from sb3_alignsam.envs.episode_features import EpisodeFeatures, SharingSamSegEnv
from sb3_alignsam.envs.episodes_ahead import can_be_copied
from sb3_alignsam.envs.making import make_env
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.envs.sam_seg_vec_env import SamSegVecEnv
from sb3_alignsam.envs.worker_processes import TellingSubprocVecEnv
from sb3_alignsam.training.distributed import ALONE, Ranks
from sb3_alignsam.training.monitors import ResumableMonitor, ResumableVecMonitor

VEC_ENVS = ("batched", "subproc", "dummy")


def make_vec_env(
    env_id: str,
    env_kwargs: dict[str, Any],
    n_envs: int,
    seed: int,
    kind: str,
    monitor_folder: Path | None,
    env: SamSegEnv | None = None,
    ranks: Ranks = ALONE,
) -> VecEnv:
    """Make monitored environments; environment i is seeded with ``seed + i`` and has its own share of images.

    :param n_envs: of all ranks together, which divide them evenly: ``i // (n_envs / ranks)`` is the rank of i.

    :param kind: ``batched``: a `SamSegVecEnv`; ``subproc``: each in a process with one thread; ``dummy``: one after the
        other in this process. The last two under `EpisodeFeatures`.
    :param monitor_folder: where ``<i>.monitor.csv`` goes, of ``batched`` one file for all of a rank, with the first
        one's number, behind rows that are there already; None: nothing is written.
    :param env: an environment of this id and keywords, if there is one already; ``batched`` uses it up.
    """
    vec_env: VecEnv
    own = ranks.part(n_envs)
    env = env or make_env(env_id, env_kwargs)
    if kind != "dummy" and (kind == "subproc" or can_be_copied(env.features)):
        # All workers are forks of one process that has imported the networks' libraries once: they start sooner and
        # share that memory. Where this process has started workers before, it is too late and changes nothing.
        multiprocessing.set_forkserver_preload(["__main__", "sb3_alignsam.envs.episode_features"])
    if kind == "batched":
        filename = None if monitor_folder is None else str(monitor_folder / str(own.start))
        vec_env = SamSegVecEnv(env, len(own), default_workers(ranks.local_size))
        vec_env = ResumableVecMonitor(vec_env, filename)
    else:
        files = [None if monitor_folder is None else str(monitor_folder / str(index)) for index in own]
        on_gpu = kind == "subproc" and any(network.device.type == "cuda" for network in env.features.networks)
        gpu = th.cuda.current_device() if on_gpu else None
        maker = partial(_make_one, env_id, env_kwargs, kind == "subproc", gpu)
        makers: list[Callable[[], gym.Env]] = [partial(maker, file) for file in files]
        vec_env = EpisodeFeatures((DummyVecEnv if kind == "dummy" else TellingSubprocVecEnv)(makers))
    for row, index in enumerate(own):
        vec_env.env_method("take_share", index, n_envs, indices=row)
    vec_env.seed(seed + own.start)
    return vec_env


@contextmanager
def spared_cores(vec_env: VecEnv) -> Iterator[None]:
    """Leave a core to each worker that runs networks.

    Threads that share a core with a busy process are waited for at every product of two matrices: with all cores a
    click took twice as long as with those that are free.
    """
    before = th.get_num_threads()
    th.set_num_threads(max(before - getattr(vec_env.unwrapped, "computing_workers", 0), 1))
    try:
        yield
    finally:
        th.set_num_threads(before)


def _make_one(
    env_id: str, env_kwargs: dict[str, Any], own_process: bool, gpu: int | None, monitor_file: str | None
) -> gym.Env:
    """:param gpu: which ``cuda`` means in a process of its own, as in its parent; None: no network is on one."""
    if own_process:
        # Several processes that each use every core are slower than one; set before the first torch call.
        th.set_num_threads(1)
        # Ctrl-C reaches every process of a terminal; the parent decides what ends.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if gpu is not None:
        th.cuda.set_device(gpu)
    return ResumableMonitor(make_env(env_id, env_kwargs, SharingSamSegEnv), monitor_file)
