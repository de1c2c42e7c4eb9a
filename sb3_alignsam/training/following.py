"""What every rank of a run but the first does: it plays and learns, and leaves all the rest to the leader."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import Logger

from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.training.boundary import BoundaryCallback
from sb3_alignsam.training.checkpoint import Checkpoint
from sb3_alignsam.training.config import Hyperparams
from sb3_alignsam.training.distributed import Ranks
from sb3_alignsam.training.learning import learn, make_model, own_part
from sb3_alignsam.training.logs import monitor_sizes
from sb3_alignsam.training.settings import RunSettings
from sb3_alignsam.training.state import rank_state
from sb3_alignsam.training.stopping import stops, told_in_one_line
from sb3_alignsam.training.update import CountAllRanks
from sb3_alignsam.training.vec_envs import make_vec_env


def follow(settings: RunSettings, hyperparams: Hyperparams, probe: SamSegEnv, device: str, ranks: Ranks) -> Path:
    """Train in the leader's run folder, which is returned; only the monitor files there are this rank's.

    :param probe: an environment to train on, which is used up.
    :raises InputError: a file of the dataset cannot be used.
    :raises RunError: a worker process or another rank died. :raises RunStopped: SIGTERM or Ctrl-C.
    """
    shared: tuple[Path, Checkpoint | None] = ranks.broadcast(None)
    folder, checkpoint = shared[0], own_part(shared[1], hyperparams, ranks)
    folder.mkdir(parents=True, exist_ok=True)  # a machine of its own need not have it
    with stops() as stop, told_in_one_line(stop, folder, ranks):
        kwargs = {**settings.env_kwargs, "subset": "fit"}
        vec_env = make_vec_env(
            settings.env_id, kwargs, hyperparams.n_envs, settings.seed, settings.vec_env, folder, probe, ranks
        )
        with closing(vec_env):
            model = make_model(settings, hyperparams, vec_env, device, ranks)
            model.set_logger(Logger(None, []))

            def hand_in() -> io.BytesIO:
                sizes = monitor_sizes(folder, ranks.part(hyperparams.n_envs))
                ranks.gather(rank_state(model, vec_env, sizes))
                return io.BytesIO()

            state: dict[str, Any] | None = None if checkpoint is None else checkpoint.state
            callbacks = [CountAllRanks(ranks), BoundaryCallback(hand_in, stop, state)]
            learn(model, vec_env, hyperparams.n_timesteps, callbacks, checkpoint, ranks)
    return folder
