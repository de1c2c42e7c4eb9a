"""Films of an agent at work, by SB3's `VecVideoRecorder`."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image
from stable_baselines3.common.vec_env import DummyVecEnv, VecVideoRecorder

from sb3_alignsam.evaluation.agents import LoadedAgent
from sb3_alignsam.evaluation.protocol import state_of

SECONDS_A_FRAME = 1.0


class Unending(gym.Wrapper):
    """Hides the end of an episode: a VecEnv resets at once when one ends, and the last click would not be filmed."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, _, _, info = self.env.step(action)
        return observation, reward, False, False, info


def record_films(agent: LoadedAgent, indices: Sequence[int], folder: Path) -> list[Path]:
    """Record one film an episode, ``episode_<index>-step-0-to-step-<clicks>.mp4``: a frame before the first click and
    one after each.

    :param agent: its environment has ``render_mode="rgb_array"``. :param indices: fixed episodes of its split.
    :return: the films' paths.
    """
    return [_record(agent, index, folder) for index in indices]


def _record(agent: LoadedAgent, index: int, folder: Path) -> Path:
    clicks = agent.env.max_steps
    base = DummyVecEnv([lambda: Unending(agent.env)])
    recorder = VecVideoRecorder(base, str(folder), lambda step: step == 0, clicks, f"episode_{index}")
    base.set_options({"index": index})
    # moviepy and the recorder print to the terminal as they go.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        recorder.reset()
        actions = None
        for step in range(clicks):
            actions = _actions(agent, step, actions)
            recorder.step(actions)
    return Path(recorder.video_path)


def _actions(agent: LoadedAgent, step: int, last: np.ndarray | None) -> np.ndarray:
    """The agent's next action, (1,); once it has stopped, *stop* again, which changes nothing."""
    env = agent.env
    if last is not None and last[0] == env.grid.stop_action:
        return last
    return agent.clicker.next_actions([state_of(env, env.episode, step, env.np_random)])


def _frame(agent: LoadedAgent) -> np.ndarray:
    frame = agent.env.render()
    if frame is None:
        raise ValueError('the agent\'s environment needs render_mode="rgb_array"')
    return frame


def write_animation(agent: LoadedAgent, indices: Sequence[int], path: Path) -> None:
    """Write one animated GIF of several episodes, a frame a click, for pages that show no films."""
    frames = []
    for index in indices:
        agent.env.reset(options={"index": index})
        frames.append(_frame(agent))
        actions = None
        for step in range(agent.env.max_steps):
            actions = _actions(agent, step, actions)
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
