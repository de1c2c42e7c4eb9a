"""Imitation's first part: the first click alone, on every category of each image."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sb3_alignsam.datasets.sampling import samples_of_draw
from sb3_alignsam.envs.episode import ClickEpisode
from sb3_alignsam.envs.episodes_ahead import EpisodesAhead
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.training.click_targets import click_targets

POOL = 512
"""Labelled states from which minibatches are drawn: enough that those of one image seldom meet in one."""
AHEAD = 16
"""Images that are prepared ahead."""


@dataclass(frozen=True)
class LabelledStates:
    """States with the teacher's targets, stacked.

    :param observations: by key, (B, …). :param targets: (B, num_actions) float32, each sums to 1.
    :param masks: which actions do something, (B, num_actions) bool.
    """

    observations: dict[str, np.ndarray]
    targets: np.ndarray
    masks: np.ndarray


class FirstClicks:
    """States before the first click with the teacher's targets, in minibatches.

    Of an episode's states the first is the cheapest to label: it needs no mask, so SAM's decoder never runs, and every
    category of an image can be asked for at the price of one look at it. And it is the one that decides most: which
    objects are meant.

    Images are drawn as `SamSegEnv` draws them, from a generator of its own.

    :param env: an environment of the kind to learn on; it is not stepped.
    :param num_workers: processes that prepare images. :param seed: of all that is drawn.
    """

    def __init__(self, env: SamSegEnv, num_workers: int, seed: int) -> None:
        self._env, self._sampler = env, env.sampler.fresh()
        self._ahead = EpisodesAhead(env, num_workers, samples_of_draw)
        self._rng = np.random.default_rng(seed)
        self._waiting: deque[Callable[[], list[ClickEpisode]]] = deque()

    def minibatches(self, count: int, batch_size: int, n_epochs: int) -> Iterator[tuple[int, LabelledStates]]:
        """Minibatches of `count` states, up to whole images, each of which comes `n_epochs` times. Beside each: how
        many states were seen for the first time since the last one."""
        pool: list[tuple[LabelledStates, int]] = []
        new = 0
        while count > 0 or pool:
            if count > 0:
                states = [self._labelled(episode) for episode in self._next_image()]
                pool += [(state, n_epochs) for state in states]
                new, count = new + len(states), count - len(states)
            while len(pool) >= (max(POOL, batch_size) if count > 0 else 1):
                size = min(batch_size, len(pool))
                chosen = set(self._rng.choice(len(pool), size, replace=False).tolist())
                yield new, _stacked([pool[place][0] for place in sorted(chosen)])
                new = 0
                kept = [(state, left - (place in chosen)) for place, (state, left) in enumerate(pool)]
                pool = [(state, left) for state, left in kept if left]

    def close(self) -> None:
        """End the worker processes."""
        self._ahead.close()

    def _next_image(self) -> list[ClickEpisode]:
        while len(self._waiting) < AHEAD:
            self._waiting.append(self._ahead.ask(self._sampler.draw(self._rng)))
        return self._waiting.popleft()()

    def _labelled(self, episode: ClickEpisode) -> LabelledStates:
        env, mask = self._env, self._env.action_masks_of(episode)
        targets = np.zeros(env.grid.num_actions, np.float32)
        if env.grid.allow_stop and episode.answer.score > 0:  # the empty mask is right: the category is absent
            targets[env.grid.stop_action] = 1
        else:
            clicks = click_targets(episode, env.grid, mask)
            targets[: len(clicks)] = clicks
        observation: dict[str, Any] = env.observations.constants(episode) | env.observations.changing(episode, 0)
        return LabelledStates(observation, targets, mask)


def _stacked(states: list[LabelledStates]) -> LabelledStates:
    keys = states[0].observations
    return LabelledStates(
        {key: np.stack([state.observations[key] for state in states]) for key in keys},
        np.stack([state.targets for state in states]),
        np.stack([state.masks for state in states]),
    )
