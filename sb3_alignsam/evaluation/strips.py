"""Strips: an episode in one row of pictures, the mask and the clicks after each step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sb3_alignsam.envs.episode import ClickEpisode, click_together
from sb3_alignsam.envs.rendering import (
    ANSWER_TINT,
    BACKGROUND,
    DIM_TEXT,
    GAP,
    TEXT,
    TRUTH_TINT,
    draw_clicks,
    fit,
    overlay,
)
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.evaluation.protocol import state_of
from sb3_alignsam.perception.clicks import Click
from sb3_alignsam.policies.clickers import AgentClicker

PANEL = 160
"""Side of each picture in pixels."""
MOST_STEPS = 8
"""Steps that are shown of a longer episode: its first."""
_SIZE = 13
_HEAD = 2 * (_SIZE + 4)


def draw_strips(env: SamSegEnv, agent: AgentClicker, indices: Sequence[int]) -> np.ndarray:
    """Let an agent play fixed episodes and draw a row for each: ground truth, then the latest mask after each step.

    :param env: its running episode is not touched. :param indices: at least one.
    :return: (height, width, 3) uint8 RGB; the same shape for the same number of episodes.
    """
    steps = min(env.max_steps, MOST_STEPS)
    episodes = [env.fixed_episode(index) for index in indices]
    rows = [[_truth(episode)] for episode in episodes]
    running = list(range(len(episodes)))
    rng = np.random.default_rng(0)  # The agent is greedy and draws nothing.
    for step in range(steps):
        states = [state_of(env, episodes[row], step, rng) for row in running]
        answers = dict(zip(running, agent.next_clicks(states) if states else [], strict=True))
        clicks = {row: answer for row, answer in answers.items() if answer is None or isinstance(answer, Click)}
        click_together([episodes[row] for row in clicks], list(clicks.values()), env.segmenter)
        running = list(clicks)
        for row, episode in enumerate(episodes):
            rows[row].append(_answer(episode, step, answers.get(row), row in answers))
    return np.concatenate([np.concatenate(panels, axis=1) for panels in rows])


def _truth(episode: ClickEpisode) -> np.ndarray:
    image = episode.sample.image
    gt = episode.gt(np.zeros(image.shape[:2], bool))
    return _titled(fit(overlay(image, gt, TRUTH_TINT), PANEL), episode.sample.category, "ground truth")


def _answer(episode: ClickEpisode, step: int, answer: object, asked: bool) -> np.ndarray:
    image, mask = episode.sample.image, episode.last.mask
    picture = draw_clicks(fit(overlay(image, mask, ANSWER_TINT), PANEL), episode.clicks, image.shape[:2])
    if isinstance(answer, Click):
        title = f"{step + 1}: {'positive' if answer.positive else 'negative'}"
    else:
        title = f"{step + 1}: no click" if asked and answer is None else f"{step + 1}: stopped"
    return _titled(picture, title, f"IoU {episode.last.scores.iou:.2f}")


def _titled(picture: np.ndarray, title: str, figures: str) -> np.ndarray:
    canvas = Image.new("RGB", (PANEL + GAP, PANEL + _HEAD + GAP), BACKGROUND)
    canvas.paste(Image.fromarray(picture), (GAP // 2, _HEAD))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(_SIZE)
    pen.text((GAP // 2, 2), title, TEXT, font)
    pen.text((GAP // 2, _SIZE + 4), figures, DIM_TEXT, font)
    return np.asarray(canvas)
