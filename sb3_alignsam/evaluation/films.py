"""Films of an agent at work, by SB3's `VecVideoRecorder`."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from PIL import Image
from stable_baselines3.common.vec_env import DummyVecEnv, VecVideoRecorder

from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.evaluation.protocol import state_of
from sb3_alignsam.policies.clickers import AgentClicker

SECONDS_A_FRAME = 1.0
MAX_FRAME_BYTES = 256 * 2**20
"""Frames that a film may hold: the recorder keeps them in memory until the film is written."""


class Player(Protocol):
    """An agent and the environment that it plays in, as a `LoadedAgent` has them."""

    @property
    def env(self) -> SamSegEnv:
        """The environment."""

    @property
    def clicker(self) -> AgentClicker:
        """The agent."""


class Unending(gym.Wrapper):
    """Hides the end of an episode: a VecEnv resets at once when one ends, and the last click would not be filmed."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, _, _, info = self.env.step(action)
        return observation, reward, False, False, info


def record_films(agent: Player, indices: Sequence[int], folder: Path, tiles: int = 1) -> list[Path]:
    """Record films, a frame before the first click and one after each. An earlier film is never overwritten.

    A film is named ``episode_<index>-step-0-to-step-<clicks>.mp4``, ``episodes_<first>_to_<last>-...`` where it shows
    several, with ``-2`` and so on where there is one of that name. Of an episode so long that its frames would not fit
    into `MAX_FRAME_BYTES` there are several films, one after the other.

    :param agent: its environment has ``render_mode="rgb_array"``. :param indices: fixed episodes of its split.
    :param tiles: how many episodes one film shows side by side, 1 or more.
    :return: the films' paths.
    """
    groups = [indices[start : start + tiles] for start in range(0, len(indices), tiles)]
    return [path for group in groups for path in _record(agent, group, folder)]


def _record(agent: Player, indices: Sequence[int], folder: Path) -> list[Path]:
    clicks = agent.env.max_steps
    envs = [agent.env.twin() for _ in indices]
    base = DummyVecEnv([partial(Unending, env) for env in envs])
    base.set_options([{"index": index} for index in indices])
    base.reset()
    frame = base.render()
    if frame is None:
        raise ValueError('the agent\'s environment needs render_mode="rgb_array"')
    length = min(clicks, max(MAX_FRAME_BYTES // frame.nbytes - 1, 1))
    name = f"episode_{indices[0]}" if len(indices) == 1 else f"episodes_{indices[0]}_to_{indices[-1]}"
    folder.mkdir(parents=True, exist_ok=True)
    # A film is written where nobody looks and moved when it is whole.
    with tempfile.TemporaryDirectory(prefix=".films_", dir=folder) as unfinished:
        recorder = VecVideoRecorder(base, unfinished, lambda step: step % (length + 1) == 0, length, name)
        base.set_options([{"index": index} for index in indices])
        # moviepy and the recorder print to the terminal as they go.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            recorder.reset()
            actions = None
            for step in range(clicks):
                actions = _actions(agent, envs, step, actions)
                recorder.step(actions)
            recorder.close()
        written = sorted(Path(unfinished).glob("*.mp4"), key=lambda path: path.stat().st_mtime_ns)
        return [_moved(path, folder) for path in written]


def _moved(film: Path, folder: Path) -> Path:
    """The film under its own name, or under the next free one."""
    number = 1
    while True:
        path = folder / (film.name if number == 1 else f"{film.stem}-{number}.mp4")
        try:
            path.touch(exist_ok=False)  # takes the name, whoever else records now
        except FileExistsError:
            number += 1
            continue
        os.replace(film, path)
        return path


def _actions(agent: Player, envs: Sequence[SamSegEnv], step: int, last: np.ndarray | None) -> np.ndarray:
    """The agent's next actions, (B,); where it has stopped, *stop* again, which changes nothing."""
    actions = agent.clicker.next_actions([state_of(env, env.episode, step, env.np_random) for env in envs])
    return actions if last is None else np.where(last == agent.env.grid.stop_action, last, actions)


def _frame(agent: Player) -> np.ndarray:
    frame = agent.env.render()
    if frame is None:
        raise ValueError('the agent\'s environment needs render_mode="rgb_array"')
    return frame


def write_animation(agent: Player, indices: Sequence[int], path: Path) -> None:
    """Write one animated GIF of several episodes, a frame a click, for pages that show no films."""
    frames = []
    for index in indices:
        agent.env.reset(options={"index": index})
        frames.append(_frame(agent))
        actions = None
        for step in range(agent.env.max_steps):
            actions = _actions(agent, [agent.env], step, actions)
            agent.env.step(actions[0])
            frames.append(_frame(agent))
    pictures = [Image.fromarray(frame).quantize(128) for frame in frames]
    duration = int(1000 * SECONDS_A_FRAME)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    pictures[0].save(
        temporary, "GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0, optimize=True
    )
    os.replace(temporary, path)
