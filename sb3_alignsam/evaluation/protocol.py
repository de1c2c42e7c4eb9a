"""How clickers are compared: the same fixed episodes, the same number of clicks, nothing stopped early."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from sb3_alignsam.envs.episode import ClickEpisode, click_together
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.perception.clicks import Click
from sb3_alignsam.policies.baselines import Majority
from sb3_alignsam.policies.clickers import AgentClicker, Clicker, NextClick, State, Stop

BATCH = 16
"""Episodes that run side by side."""
RNG_SEED = 20240617
"""Seed of the baselines' random numbers, joined with the episode's index and the clicker's name."""


@dataclass(frozen=True)
class EpisodeId:
    """Which episode it was: index in the split, the dataset's image id, category."""

    index: int
    image_id: int
    category: str


@dataclass
class Record:
    """What one clicker did.

    :param name: of the clicker. :param uses_ground_truth: as it says itself.
    :param answer_iou: IoU of the answer after each click, (episodes, clicks) float64.
    :param last_iou: IoU of the latest mask after each click, (episodes, clicks) float64.
    :param predicted_iou: the segmenter's own estimate for the answer, (episodes, clicks) float64.
    :param clicks_placed: clicks made in all, (episodes,) int64; more than steps where several are made in one.
    """

    name: str
    uses_ground_truth: bool
    answer_iou: np.ndarray
    last_iou: np.ndarray
    predicted_iou: np.ndarray
    clicks_placed: np.ndarray


@dataclass
class _Rows:
    answer: list[np.ndarray] = field(default_factory=list)
    last: list[np.ndarray] = field(default_factory=list)
    predicted: list[np.ndarray] = field(default_factory=list)
    placed: list[int] = field(default_factory=list)


def evaluate(
    env: SamSegEnv,
    clickers: Sequence[Clicker],
    indices: Sequence[int],
    clicks: int,
    progress: Callable[[int], object] | None = None,
) -> tuple[list[EpisodeId], list[Record]]:
    """Let every clicker play every episode of `indices` for `clicks` steps.

    Pictures are encoded once for all clickers. The last click may lie beyond the budget that an agent was trained
    with: the step count that it observes saturates.

    :param env: gives dataset, segmenter, grid and observations; its own running episode is not touched.
    :param progress: called with the number of episodes done since the last call.
    :raises IndexError: an index is outside the dataset.
    """
    ids: list[EpisodeId] = []
    rows = {clicker.name: _Rows() for clicker in clickers}
    for part, fresh in _batches(env, indices):
        ids += [
            EpisodeId(i, e.sample.image_id, e.sample.category) for i, e in zip(part, fresh, strict=True)
        ]  # fmt: skip
        for clicker in clickers:
            episodes = [episode.fresh() for episode in fresh]
            played = play(env, clicker, episodes, part, clicks)
            rows[clicker.name].placed += [len(episode.clicks) for episode in episodes]
            rows[clicker.name].answer.append(played[0])
            rows[clicker.name].last.append(played[1])
            rows[clicker.name].predicted.append(played[2])
        if progress is not None:
            progress(len(part))
    records = [
        Record(
            each.name,
            each.uses_ground_truth,
            np.concatenate(rows[each.name].answer),
            np.concatenate(rows[each.name].last),
            np.concatenate(rows[each.name].predicted),
            np.array(rows[each.name].placed),
        )
        for each in clickers
    ]
    return ids, records


def play(
    env: SamSegEnv, clicker: Clicker, episodes: Sequence[ClickEpisode], indices: Sequence[int], clicks: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run fresh episodes to their end; answer, latest and predicted IoU after each click, each (B, clicks)."""
    figures = np.zeros((3, len(episodes), clicks))
    rngs = [np.random.default_rng((RNG_SEED, index, *clicker.name.encode())) for index in indices]
    running = list(range(len(episodes)))
    for step in range(clicks):
        if running:
            states = [state_of(env, episodes[row], step, rngs[row]) for row in running]
            running = _advance(env, episodes, running, clicker.next_clicks(states))
        for row, episode in enumerate(episodes):
            answer = episode.answer
            figures[:, row, step] = (
                answer.scores.iou,
                episode.last.scores.iou,
                answer.predicted_iou,
            )
    return figures[0], figures[1], figures[2]


def state_of(env: SamSegEnv, episode: ClickEpisode, step: int, rng: np.random.Generator) -> State:
    """What a clicker sees of an episode after `step` steps."""
    mask = env.action_masks_of(episode)
    return State(episode, env.observations.of(episode, step), mask, step, rng)


def fit_majority(env: SamSegEnv, agent: AgentClicker, indices: Sequence[int], clicks: int) -> Majority:
    """Count the agent's actions at each step over some episodes, which must not be those reported."""
    counts = np.zeros((clicks, env.grid.num_actions), np.int64)
    rng = np.random.default_rng(0)
    for _, episodes in _batches(env, indices):
        running = list(range(len(episodes)))
        for step in range(clicks):
            states = [state_of(env, episodes[row], step, rng) for row in running]
            actions = agent.next_actions(states) if states else np.zeros(0, np.int64)
            np.add.at(counts[step], actions, 1)
            running = _advance(env, episodes, running, agent.clicks_of(actions, states))
    return Majority(env.grid, counts)


def _advance(
    env: SamSegEnv, episodes: Sequence[ClickEpisode], running: Sequence[int], answers: Sequence[NextClick]
) -> list[int]:
    """Play one answer in each running episode; return those that were not stopped."""
    going = [(row, answer) for row, answer in zip(running, answers, strict=True) if not isinstance(answer, Stop)]
    clicks: list[Click | tuple[Click, ...] | None] = [answer for _, answer in going]
    click_together([episodes[row] for row, _ in going], clicks, env.segmenter)
    return [row for row, _ in going]


def _batches(env: SamSegEnv, indices: Sequence[int]) -> Iterator[tuple[Sequence[int], list[ClickEpisode]]]:
    for start in range(0, len(indices), BATCH):
        part = indices[start : start + BATCH]
        yield part, [env.fixed_episode(index) for index in part]


def spread(total: int, count: int) -> list[int]:
    """`count` indices spread evenly over ``range(total)``; all of them where `count` is larger."""
    if count >= total:
        return list(range(total))
    return [int(index) for index in np.linspace(0, total - 1, count).round()]
