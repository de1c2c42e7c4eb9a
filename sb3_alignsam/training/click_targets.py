"""What a clicker who knows the ground truth would do next: the targets of imitation. Training only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sb3_alignsam.envs.click_grid import ClickGrid
from sb3_alignsam.envs.episode import ClickEpisode, click_together
from sb3_alignsam.perception.clicks import error_depths, oracle_click
from sb3_alignsam.perception.segmenter import Segmenter

SHARPNESS = 4.0
"""Power of the depth by which a patch is preferred. RITM's rule is the limit of high powers: it names one patch, and
so says nothing of the hundreds of others, most of which are hopeless and some almost as good."""
LEAST_GAIN = 0.01
"""Rise of the answer's score from which a click is worth placing."""


def click_targets(episode: ClickEpisode, grid: ClickGrid, action_mask: np.ndarray) -> np.ndarray:
    """How a clicker who knows the ground truth would spread its next click over the grid; stopping not considered.

    RITM's rule (`oracle_click`) made soft: each patch's centre is as likely as its depth in the missed region
    (positive) or in the surplus one (negative), to the power `SHARPNESS`. Where no centre lies in a wrong region, the
    one nearest to RITM's click has it all.

    :param action_mask: which actions do something, (num_actions,) bool. :return: (2·G·G,) float32, sums to 1.
    """
    mask = episode.last.mask
    gt = episode.gt(mask)
    height, width = episode.image_size
    columns, rows = grid.centres(height, width)
    at = np.ix_(rows.clip(max=height - 1), columns.clip(max=width - 1))
    depths = np.stack([depth[at] for depth in error_depths(gt, mask, episode.ignore)], axis=2).ravel()
    depths = np.sqrt(depths.astype(np.float64)) * action_mask[: depths.size]
    if not depths.any():
        depths[_nearest(episode, grid, action_mask, columns, rows)] = 1
    preferences = (depths / depths.max()) ** SHARPNESS
    return (preferences / preferences.sum()).astype(np.float32)


def _nearest(
    episode: ClickEpisode, grid: ClickGrid, action_mask: np.ndarray, columns: np.ndarray, rows: np.ndarray
) -> int:
    """The action whose click is nearest to RITM's, of those that do something."""
    mask = episode.last.mask
    click = oracle_click(episode.gt(mask), mask, episode.ignore, episode.clicks)
    distances = (rows[:, None] - click.y) ** 2 + (columns[None, :] - click.x) ** 2
    free = action_mask[: 2 * grid.num_patches**2 : 2].reshape(distances.shape)
    row, column = np.unravel_index(int(np.where(free, distances, np.inf).argmin()), distances.shape)
    return grid.action(int(row), int(column), click.positive)


def worth_clicking(
    episodes: Sequence[ClickEpisode], actions: Sequence[int], grid: ClickGrid, segmenter: Segmenter
) -> np.ndarray:
    """Whether the answer's score would rise by `LEAST_GAIN` or more, tried on copies of the episodes, (B,) bool.

    An answer that is worth nothing can only win: there a click always is worth it, and none is tried.

    :param actions: a click for each episode.
    """
    worth = np.array([episode.answer.score == 0 for episode in episodes])
    open_rows = np.flatnonzero(~worth).tolist()
    if open_rows:
        tried = [replace(episodes[row], clicks=list(episodes[row].clicks)) for row in open_rows]
        clicks = [grid.click(actions[row], *each.image_size) for row, each in zip(open_rows, tried, strict=True)]
        click_together(tried, clicks, segmenter)
        worth[open_rows] = [
            _gain(episodes[row], after) >= LEAST_GAIN for row, after in zip(open_rows, tried, strict=True)
        ]
    return worth


def _gain(before: ClickEpisode, after: ClickEpisode) -> float:
    """By how much the answer would rise. The copy knows the latest mask only, so the answer's rule is applied here."""
    taken = before.answer_rule == "last" or after.last.predicted_iou >= before.answer.predicted_iou
    return after.last.score - before.answer.score if taken else 0.0
