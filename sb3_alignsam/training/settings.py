"""`RunSettings`: everything that decides a run but its hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides a run but its hyperparameters.

    :param algo: ``ppo`` or ``maskable_ppo``. :param env_id: registered id. :param env_kwargs: its keywords.
    :param seed: of policy, sampling and environments. :param logs: root of the run folders.
    :param vec_env: ``batched``, ``subproc`` or ``dummy``, see `make_vec_env`.
    :param device: ``auto``, ``cpu``, ``cuda`` or ``mps``; of the policy.
    :param eval_freq: steps between two evaluations on dev; 0: none. :param eval_episodes: how many of dev's episodes.
    :param save_freq: steps between two ``rl_model_*_steps.zip``; 0: none. :param progress: show a progress bar.
    :param imitate: states that `Imitation` learns from before PPO begins, not counted among PPO's steps; 0: none.
    :param save_minutes: minutes between two of them; 0: none. :param keep_checkpoints: how many are kept; 0: all.
    :param track: ``mlflow`` or ``none``. :param tracking_uri: of MLflow's store; None: sqlite in `logs`.
    :param video_freq: steps between two films of dev episodes; 0: none.
    """

    algo: str
    env_id: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    logs: Path = Path("logs")
    vec_env: str = "batched"
    device: str = "auto"
    eval_freq: int = 5000
    eval_episodes: int = 100
    save_freq: int = 0
    progress: bool = False
    imitate: int = 0
    save_minutes: float = 10.0
    keep_checkpoints: int = 3
    track: Literal["mlflow", "none"] = "none"
    tracking_uri: str | None = None
    video_freq: int = 0
