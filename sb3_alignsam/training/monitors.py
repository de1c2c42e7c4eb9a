"""SB3's monitors, whose files and running episodes go on in a resumed run."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import Monitor, ResultsWriter
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

INFO_KEYWORDS = ("iou", "predicted_iou", "image_id", "category")
"""Taken from the last info of an episode into its monitor row."""


class ResumableMonitor(Monitor):
    """A `Monitor` of a `SamSegEnv` that restores its running episode's rewards together with the episode.

    :param filename: where rows go, without ``.monitor.csv``; rows that are there already stay. None: nowhere.
    """

    def __init__(self, env: gym.Env, filename: str | None) -> None:
        super().__init__(env, None, info_keywords=INFO_KEYWORDS)
        if filename is not None:
            self.t_start, self.results_writer = _open(filename)

    def state_dict(self) -> dict[str, Any]:
        """The environment's `SamSegEnv.state_dict` and the rewards of its episode so far."""
        return {**self.env.get_wrapper_attr("state_dict")(), "rewards": list(self.rewards)}

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """As SB3's; with options ``{"state": …}`` it goes on where `state_dict` gave that."""
        result = super().reset(**kwargs)
        state = (kwargs.get("options") or {}).get("state")
        if state is not None:
            self.rewards = list(state["rewards"])
        return result


class ResumableVecMonitor(VecMonitor):
    """A `VecMonitor` whose sums over the running episodes can be restored.

    :param filename: see `ResumableMonitor`.
    """

    def __init__(self, venv: VecEnv, filename: str | None) -> None:
        super().__init__(venv, None, INFO_KEYWORDS)
        if filename is not None:
            self.t_start, self.results_writer = _open(filename)

    def state_dict(self) -> dict[str, Any]:
        """Sums over the running episodes."""
        return {"returns": self.episode_returns, "lengths": self.episode_lengths, "count": self.episode_count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; after `reset`, which clears it."""
        self.episode_returns = np.array(state["returns"], np.float32)
        self.episode_lengths = np.array(state["lengths"], np.int32)
        self.episode_count = int(state["count"])


def _open(filename: str) -> tuple[float, ResultsWriter]:
    """Since when the file's times are counted, and what appends to it; a file that is not there is begun."""
    start = time.time()
    path = Path(f"{filename}.{Monitor.EXT}")
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            # Times are told from the start of the run's first process: `load_results` sorts rows by them.
            start = float(json.loads(file.readline()[1:])["t_start"])
        return start, ResultsWriter(filename, extra_keys=INFO_KEYWORDS, override_existing=False)
    return start, ResultsWriter(filename, {"t_start": start, "env_id": "None"}, INFO_KEYWORDS)
