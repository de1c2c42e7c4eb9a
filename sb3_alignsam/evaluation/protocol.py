"""How clickers are compared: the same fixed episodes, the same number of clicks, nothing stopped early."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch as th

from sb3_alignsam.datasets.base import Sample
from sb3_alignsam.envs.episode import Answer, ClickEpisode, click_together
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.evaluation.boundary import boundary_iou
from sb3_alignsam.evaluation.parts import Batch, Parts
from sb3_alignsam.evaluation.records import EpisodeId, Record, join_records
from sb3_alignsam.evaluation.run_lengths import encode_mask
from sb3_alignsam.policies.baselines import Majority
from sb3_alignsam.policies.clickers import AgentClicker, Clicker, NextClick, Proposal, State, Stop

BATCH = 16
"""Episodes that run side by side."""
RNG_SEED = 20240617
"""Seed of the baselines' random numbers, joined with the episode's index and the clicker's name."""


def evaluate(
    env: SamSegEnv,
    clickers: Sequence[Clicker],
    indices: Sequence[int],
    clicks: int,
    progress: Callable[[int], object] | None = None,
    parts: Parts | None = None,
) -> tuple[list[EpisodeId], list[Record]]:
    """Let every clicker play every episode of `indices` for `clicks` steps.

    Pictures are encoded once for all clickers. The last click may lie beyond the budget that an agent was trained
    with: the step count that it observes saturates.

    :param env: gives dataset, segmenter, grid and observations; its own running episode is not touched.
    :param indices: at least one. :param progress: called with the number of episodes done since the last call.
    :param parts: batches that were played before are read from here, others kept; None: all are played.
    :raises IndexError: an index is outside the dataset.
    """
    ids: list[EpisodeId] = []
    records: list[list[Record]] = []
    for number, start in enumerate(range(0, len(indices), BATCH)):
        part = indices[start : start + BATCH]
        kept = None if parts is None else parts.read(number)
        if kept is None:
            kept = _play_batch(env, clickers, part, clicks)
            if parts is not None:
                parts.write(number, *kept)
        ids += kept[0]
        records.append(kept[1])
        if progress is not None:
            progress(len(part))
    return ids, [join_records(of_one) for of_one in zip(*records, strict=True)]


def _play_batch(env: SamSegEnv, clickers: Sequence[Clicker], indices: Sequence[int], clicks: int) -> Batch:
    fresh = [env.fixed_episode(index) for index in indices]
    records = [play(env, clicker, [episode.fresh() for episode in fresh], indices, clicks) for clicker in clickers]
    return [_identify(index, episode.sample) for index, episode in zip(indices, fresh, strict=True)], records


def _identify(index: int, sample: Sample) -> EpisodeId:
    return EpisodeId(
        index,
        sample.image_id,
        sample.category,
        sample.category_id,
        sample.instance_ids,
        int(np.count_nonzero(sample.union)),
        tuple(encode_mask(each) for each in sample.instances),
        encode_mask(sample.ignore),
    )


def play(
    env: SamSegEnv, clicker: Clicker, episodes: Sequence[ClickEpisode], indices: Sequence[int], clicks: int
) -> Record:
    """Run fresh episodes to their end and write down what was seen after each step."""
    scores = np.zeros((5, len(episodes), clicks))
    clicks_at = np.zeros((len(episodes), clicks), np.int64)
    stopped_at = np.full(len(episodes), -1)
    rngs = [np.random.default_rng((RNG_SEED, index, *clicker.name.encode())) for index in indices]
    judges = [_Judge(episode) for episode in episodes]
    running = list(range(len(episodes)))
    for step in range(clicks):
        if running:
            states = [state_of(env, episodes[row], step, rngs[row]) for row in running]
            going = _advance(env, episodes, running, clicker.next_clicks(states))
            stopped_at[[row for row in running if row not in going]] = step
            running = going
        for row, judge in enumerate(judges):
            scores[:, row, step] = judge.scores()
            clicks_at[row, step] = len(episodes[row].clicks)
    placed = [[(click.x, click.y, int(click.positive)) for click in episode.clicks] for episode in episodes]
    answers = [encode_mask(episode.answer.mask) for episode in episodes]
    answer, last, predicted, dice, edge = scores
    return Record(
        clicker.name,
        clicker.uses_ground_truth,
        answer,
        last,
        predicted,
        dice,
        edge,
        clicks_at,
        stopped_at,
        placed,
        answers,
    )


class _Judge:
    """Scores one episode's answer after each step; the boundary, which costs most, only where the answer changed."""

    def __init__(self, episode: ClickEpisode) -> None:
        self.episode = episode
        self._judged: Answer | None = None
        self._boundary_iou = 0.0

    def scores(self) -> tuple[float, float, float, float, float]:
        """IoU of the answer and of the latest mask, predicted IoU, Dice and boundary IoU of the answer."""
        episode, answer = self.episode, self.episode.answer
        if answer is not self._judged:
            self._judged = answer
            self._boundary_iou = boundary_iou(answer.mask, episode.gt(answer.mask), episode.ignore)
        figures = (answer.scores.iou, episode.last.scores.iou, answer.predicted_iou, answer.scores.dice)
        return (*figures, self._boundary_iou)


def state_of(env: SamSegEnv, episode: ClickEpisode, step: int, rng: np.random.Generator) -> State:
    """What a clicker sees of an episode after `step` steps."""
    mask = env.action_masks_of(episode)
    # Clickers stack what they read, so an episode's own arrays need not be copied here.
    observation = env.observations.constants(episode) | env.observations.changing(episode, step)
    return State(episode, observation, mask, step, rng)


def fit_majority(env: SamSegEnv, agent: AgentClicker, indices: Sequence[int], clicks: int) -> Majority:
    """Count the agent's actions at each step over some episodes, which must not be those reported."""
    counts = np.zeros((clicks, env.grid.num_actions), np.int64)
    rng = np.random.default_rng(0)
    for start in range(0, len(indices), BATCH):
        episodes = [env.fixed_episode(index) for index in indices[start : start + BATCH]]
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
    clicked = [(row, answer) for row, answer in going if not isinstance(answer, Proposal)]
    click_together([episodes[row] for row, _ in clicked], [answer for _, answer in clicked], env.segmenter)
    for row, answer in going:
        if isinstance(answer, Proposal):
            _take(episodes[row], answer, env.segmenter.image_size)
    return [row for row, _ in going]


def _take(episode: ClickEpisode, proposal: Proposal, image_size: int) -> None:
    """Place a proposal's clicks and take its mask as the segmenter's answer to them."""
    for click in proposal.clicks:
        episode.place(click)
    episode.receive(proposal.low_res, th.tensor([proposal.predicted_iou]), image_size)


def spread(total: int, count: int) -> list[int]:
    """`count` indices spread evenly over ``range(total)``; all of them where `count` is larger."""
    if count >= total:
        return list(range(total))
    return [int(index) for index in np.linspace(0, total - 1, count).round()]
