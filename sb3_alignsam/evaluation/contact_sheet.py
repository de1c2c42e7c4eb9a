"""A contact sheet: the agent's best, median and worst episodes in one picture, for people to judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sb3_alignsam.envs.rendering import BACKGROUND, GAP, TEXT, render_episode
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.evaluation.records import EpisodeId, Record
from sb3_alignsam.evaluation.report import replaced
from sb3_alignsam.evaluation.run_lengths import decode_mask
from sb3_alignsam.perception.clicks import Click

ROWS = 5
"""Episodes of each kind."""
PANEL = 220
"""Side in pixels of each of an episode's three pictures."""
HEAD = 40


def chosen_episodes(final_iou: np.ndarray, rows: int = ROWS) -> dict[str, list[int]]:
    """Which episodes to show: the best, those around the median and the worst; none twice.

    :param final_iou: (episodes,). :return: rows of `final_iou` by kind, the best of each kind first.
    """
    order = np.argsort(-final_iou, kind="stable")
    count = min(rows, max(len(order) // 3, 1))
    kinds = {"best": order[:count]}
    left = order[count:]
    kinds["worst"] = left[len(left) - min(count, len(left)) :]
    left = left[: len(left) - len(kinds["worst"])]
    start = max((len(left) - count) // 2, 0)
    kinds["median"] = left[start : start + count]
    return {kind: kinds[kind].tolist() for kind in ("best", "median", "worst") if len(kinds[kind])}


def write_contact_sheet(env: SamSegEnv, ids: Sequence[EpisodeId], record: Record, path: Path) -> None:
    """Write the sheet as a PNG: a column for each kind, an episode's picture, ground truth, answer and clicks in a row.

    :param env: the environment that was evaluated. :param record: of the agent.
    """
    columns = []
    for kind, rows in chosen_episodes(record.answer_iou[:, -1]).items():
        frames = [_frame(env, ids[row], record, row) for row in rows]
        head = np.full((HEAD, frames[0].shape[1], 3), BACKGROUND, np.uint8)
        columns.append(np.concatenate([_titled(head, kind), *frames]))
    height = max(len(column) for column in columns)
    padded = [_padded(column, height) for column in columns]
    with replaced(path) as temporary:
        Image.fromarray(np.concatenate(padded, axis=1)).save(temporary, "PNG")


def _frame(env: SamSegEnv, episode_id: EpisodeId, record: Record, row: int) -> np.ndarray:
    episode = env.fixed_episode(episode_id.index)
    answer = decode_mask(record.answers[row])
    clicks = [Click(x, y, bool(label)) for x, y, label in record.clicks[row]]
    headline = f"{episode_id.category}   IoU {record.answer_iou[row, -1]:.2f}"
    figures = (
        f"predicted {record.predicted_iou[row, -1]:.2f}   clicks {len(clicks)}   "
        f"episode {episode_id.index}, image {episode_id.image_id}"
    )
    return render_episode(episode.sample.image, episode.gt(answer), answer, clicks, headline, figures, PANEL)


def _titled(head: np.ndarray, title: str) -> np.ndarray:
    canvas = Image.fromarray(head)
    ImageDraw.Draw(canvas).text((GAP, GAP), title, TEXT, ImageFont.load_default(22))
    return np.asarray(canvas)


def _padded(column: np.ndarray, height: int) -> np.ndarray:
    """:return: the column with background below it, and a gap to the next one."""
    tall = np.full((height, column.shape[1] + 2 * GAP, 3), BACKGROUND, np.uint8)
    tall[: len(column), : column.shape[1]] = column
    return tall
