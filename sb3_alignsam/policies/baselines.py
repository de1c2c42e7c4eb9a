"""Rules that an agent is compared with. Each says whether it uses ground truth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from sb3_alignsam.envs.click_grid import ClickGrid
from sb3_alignsam.keywords import unknown_name
from sb3_alignsam.perception.clicks import Click, oracle_click
from sb3_alignsam.perception.frozen_features import FrozenFeatures
from sb3_alignsam.policies.clickers import STOP, Clicker, NextClick, State
from sb3_alignsam.policies.clip_baselines import ClipBest, ClipPoints
from sb3_alignsam.policies.everything import Everything
from sb3_alignsam.policies.oracle_candidates import OracleBestOfThree
from sb3_alignsam.policies.trivial import Empty, WholeImage
from sb3_alignsam.policies.uncertainty import Uncertainty

__all__ = ["BASELINES", "Majority", "make_baseline", "oracle_click"]


class _PerEpisode(ABC):
    """A rule that looks at one episode at a time."""

    name: str
    uses_ground_truth = False

    def __init__(self, grid: ClickGrid) -> None:
        self.grid = grid

    def next_clicks(self, states: Sequence[State]) -> list[NextClick]:
        """See `Clicker`."""
        return [self.next_click(state) for state in states]

    @abstractmethod
    def next_click(self, state: State) -> Click | None:
        """The next click of one episode."""

    def _of_actions(self, state: State, allowed: np.ndarray) -> Click | None:
        """A click drawn uniformly from the allowed actions, (num_actions,) bool."""
        actions = np.flatnonzero(allowed[: 2 * self.grid.num_patches**2])
        if not len(actions):
            return None
        return self.grid.click(int(state.rng.choice(actions)), *state.episode.image_size)


class Random(_PerEpisode):
    """A valid patch and a label, both at random."""

    name = "random"

    def next_click(self, state: State) -> Click | None:
        return self._of_actions(state, state.action_mask)


class RandomPositive(_PerEpisode):
    """A positive click on a valid patch at random."""

    name = "random_positive"

    def next_click(self, state: State) -> Click | None:
        positive = state.action_mask.copy()
        positive[1::2] = False
        return self._of_actions(state, positive)


class Centre(Random):
    """A positive click in the middle of the picture, then at random."""

    name = "centre"

    def next_click(self, state: State) -> Click | None:
        if state.step:
            return super().next_click(state)
        height, width = state.episode.image_size
        return Click(width // 2, height // 2, True)


class Oracle(_PerEpisode):
    """RITM's rule on ground truth, any pixel (`oracle_click`)."""

    name = "oracle"
    uses_ground_truth = True

    def next_click(self, state: State) -> Click | None:
        episode = state.episode
        mask = episode.last.mask
        return oracle_click(episode.gt(mask), mask, episode.ignore, episode.clicks)


class OracleGrid(Oracle):
    """The oracle's click moved to the nearest valid patch's centre: what a perfect policy on the grid could do."""

    name = "oracle_grid"

    def next_click(self, state: State) -> Click | None:
        click = super().next_click(state)
        assert click is not None
        shape = state.episode.image_size
        free = np.flatnonzero(state.action_mask[: 2 * self.grid.num_patches**2 : 2])
        if not len(free):
            return None
        centres = [self.grid.click(2 * int(patch), *shape) for patch in free]
        distances = [(c.x - click.x) ** 2 + (c.y - click.y) ** 2 for c in centres]
        nearest = centres[int(np.argmin(distances))]
        return Click(nearest.x, nearest.y, click.positive)


class Majority:
    """At each step the action that the trained agent takes most often there, blind to the picture.

    :param grid: the click grid. :param counts: how often each action was taken, (steps, num_actions); later steps
        use the last row.
    """

    name = "majority"
    uses_ground_truth = False

    def __init__(self, grid: ClickGrid, counts: np.ndarray) -> None:
        self.grid, self.counts = grid, counts

    def next_clicks(self, states: Sequence[State]) -> list[NextClick]:
        """See `Clicker`; of the possible actions, the commonest."""
        return [self._next_click(state) for state in states]

    def _next_click(self, state: State) -> NextClick:
        counts = np.where(state.action_mask, self.counts[min(state.step, len(self.counts) - 1)], -1)
        action = int(counts.argmax())
        return STOP if action == self.grid.stop_action else self.grid.click(action, *state.episode.image_size)


Maker = Callable[[ClickGrid, FrozenFeatures], Clicker]


def _on_grid(rule: Callable[[ClickGrid], Clicker]) -> Maker:
    return lambda grid, features: rule(grid)


def _on_features(rule: Callable[[FrozenFeatures], Clicker]) -> Maker:
    return lambda grid, features: rule(features)


BASELINES: dict[str, Maker] = {
    **{rule.name: _on_grid(rule) for rule in (Random, RandomPositive, Centre, Uncertainty, OracleGrid, Oracle)},
    Empty.name: lambda grid, features: Empty(),
    WholeImage.name: lambda grid, features: WholeImage(features.segmenter),
    OracleBestOfThree.name: lambda grid, features: OracleBestOfThree(features.segmenter),
    **{rule.name: _on_features(rule) for rule in (ClipPoints, ClipBest, Everything)},
}
"""How each is made; `majority` is not here, since it is made from a trained agent."""
TEXT_BASELINES = (ClipPoints.name, ClipBest.name, Everything.name)
"""Those that need a text model."""


def make_baseline(name: str, grid: ClickGrid, features: FrozenFeatures) -> Clicker:
    """A baseline by name.

    :param grid: the environment's click grid. :param features: the environment's.
    :raises InputError: the name is unknown, or needs a text model and there is none.
    """
    if name not in BASELINES:
        raise unknown_name(name, [*BASELINES, "majority"], "baseline")
    return BASELINES[name](grid, features)
