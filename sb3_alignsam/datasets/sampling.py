"""`Sampler`: which episode comes next. Rules beside a dataset's own, disjoint shares, and episodes without a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from sb3_alignsam.datasets.base import Dataset, Sample
from sb3_alignsam.errors import InputError

Rule = Literal["uniform", "balanced", "inverse_frequency", "hard"]
LAG = 8
"""Episodes between the one whose score is noted and the first that it has a say in. As many may be drawn ahead of the
one that is played, so that a score changes the same draws however many are."""
EASIEST = 0.1
"""Weight of an episode with a perfect score beside one that has not been played yet, under ``hard``."""
SHARE_OF_LATEST = 0.5
"""Share of the latest score in an episode's recent score."""
_CHOICES = 2**16
Read = Callable[[Dataset, int], list[Sample]]
"""Gives one sample or more, all of the same image, for an index of a `Sampler`."""


class Sampler:
    """Draws the indices of one environment's episodes.

    ``uniform``: each image as likely, then each of its categories. ``balanced``: each category as likely, then each of
    its images. ``inverse_frequency``: as uniform, but each episode in proportion to 1 / (episodes of its category).
    ``hard``: as uniform, but each episode in proportion to 1 - its recent score, at least `EASIEST`; one that was not
    played yet counts as scored 0.

    Draws need no state but the generator's; those of ``hard`` need `state_dict` too. Scores are those of this
    environment's own episodes, so that nothing depends on how fast others are; with disjoint shares, see `take_share`,
    they are all that there are of its images.

    :param dataset: without ``pairs()``, as the endless train split of shapes, only its own `Dataset.draw` is there.
    :param rule: how episodes are drawn. :param absent_rate: share of episodes without their target, 0 to 1.
    :raises InputError: the dataset cannot do what is asked for.
    """

    def __init__(self, dataset: Dataset, rule: Rule = "uniform", absent_rate: float = 0.0) -> None:
        if rule not in get_args(Rule):
            raise InputError(f"sampling '{rule}' is not known; known: {', '.join(get_args(Rule))}")
        if not 0 <= absent_rate <= 1:
            raise InputError(f"absent_rate needs a number from 0 to 1, got {absent_rate}")
        if absent_rate and not hasattr(dataset, "get_absent"):
            raise InputError(f"dataset '{dataset.name}' has no get_absent, which absent_rate needs")
        find = getattr(dataset, "pairs", None)
        pairs = None if find is None else find()
        if pairs is None and rule != "uniform":
            raise InputError(
                f"sampling '{rule}' needs a dataset that lists its episodes; the {dataset.split} split of "
                f"'{dataset.name}' does not: leave sampling out, or use uniform"
            )
        self._dataset, self.rule, self.absent_rate = dataset, rule, absent_rate
        self._pairs: np.ndarray | None = pairs
        self._weights = None if pairs is None else _weights(pairs, rule)
        self._share = 0, 1
        self._rows = self._rows_of(*self._share)
        self.restart()

    def fresh(self) -> Sampler:
        """Another one of the same dataset, rule and rate, with all episodes, before its first draw."""
        return Sampler(self._dataset, self.rule, self.absent_rate)

    def take_share(self, part: int, parts: int, rank: int = 0, world_size: int = 1) -> None:
        """Draw from now on every n-th image only, so that no two samplers of any rank ever show the same one, and all
        together show everything. Where there are fewer images than samplers, some share one. Without effect where the
        dataset does not list its episodes: an endless one shows hardly anything twice.

        Weights stay those of the whole dataset. A share is always one of the whole dataset, not of an earlier share.

        :param part: this sampler's number among those of its rank, ``0 <= part < parts``. :param parts: how many those
            are, the same on every rank. :param rank: of this process, ``0 <= rank < world_size``.
        :param world_size: number of ranks. :raises ValueError: a number is out of its range.
        """
        if not (0 <= part < parts and 0 <= rank < world_size):
            raise ValueError(f"part {part} of rank {rank} is not one of {parts} parts of {world_size} ranks")
        if self._pairs is None:
            return
        self._share = rank * parts + part, world_size * parts
        self._rows = self._rows_of(*self._share)
        self.restart()

    def restart(self) -> None:
        """Forget all scores, and begin to count anew."""
        self._drawn = self._begun = 0
        self._current: int | None = None
        self._scores = np.zeros(len(self._rows))
        self._recent: list[tuple[int, int, float]] = []
        self._shares = None if self._weights is None else self._weights[self._rows]
        # Of weights that stay as they are, so that a draw among a million episodes costs next to nothing.
        self._sums = None if self._shares is None else np.cumsum(self._shares)

    def draw(self, rng: np.random.Generator) -> int:
        """The index of the next episode, for `read_sample`; it may be drawn up to `LAG` episodes ahead."""
        index = self._draw(rng)
        self._drawn += 1
        if self.absent_rate and rng.random() < self.absent_rate:
            return len(self._dataset) + index * _CHOICES + int(rng.integers(_CHOICES))
        return index

    def begin(self, drawn: bool) -> None:
        """An episode begins: the next of those drawn, or one that was asked for."""
        self._current = self._begun if drawn else None
        if not drawn:
            return
        self._begun += 1
        # What has a say in every draw to come; what has one in some of those made ahead only waits.
        while self._recent and self._recent[0][0] + LAG < self._begun - 1:
            self._scores = self._with(self._scores, *self._recent.pop(0)[1:])

    def note(self, index: int, score: float) -> None:
        """The running episode has ended with this score, 0 to 1. Only ``hard`` takes an interest."""
        if self.rule == "hard" and self._current is not None and index < len(self._dataset):
            self._recent.append((self._current, int(np.searchsorted(self._rows, index)), score))

    def state_dict(self) -> dict[str, Any]:
        """As if no episode that waits had been drawn yet; plain data and arrays."""
        seen = np.flatnonzero(self._scores)
        recent = [[number, row, score] for number, row, score in self._recent]
        return {
            "begun": self._begun,
            "current": self._current,
            "share": list(self._share),
            "rows": seen,
            "scores": self._scores[seen],
            "recent": recent,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the sampler that gave `state`. Where that had another share, scores of images that are not of this
        one are left out."""
        self.restart()
        self._drawn = self._begun = int(state["begun"])
        self._current = state["current"]
        # The row here of each row of that share; -1: it is not of this one. Earlier checkpoints name no share.
        here = _positions(self._rows_of(*state.get("share", self._share)), self._rows)
        rows = here[np.asarray(state["rows"], int)]
        self._scores[rows[rows >= 0]] = np.asarray(state["scores"])[rows >= 0]
        recent = [(int(number), int(here[int(row)]), float(score)) for number, row, score in state["recent"]]
        self._recent = [each for each in recent if each[1] >= 0]

    def _rows_of(self, part: int, parts: int) -> np.ndarray:
        """Places in the dataset's list of episodes of every `parts`-th image, ascending."""
        if self._pairs is None:
            return np.arange(0)
        _, positions = np.unique(self._pairs[:, 0], return_inverse=True)
        parts = min(parts, int(positions.max()) + 1)
        return np.flatnonzero(positions % parts == part % parts)

    def _draw(self, rng: np.random.Generator) -> int:
        if self._shares is None or self._sums is None:
            return self._dataset.draw(rng)
        sums = self._sums
        if self.rule == "hard":
            scores = self._scores
            for number, row, score in self._recent:
                if number + LAG < self._drawn:
                    scores = self._with(scores, row, score)
            sums = np.cumsum(self._shares * np.maximum(1 - scores, EASIEST))
        row = int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
        return int(self._rows[min(row, len(self._rows) - 1)])

    def _with(self, scores: np.ndarray, row: int, score: float) -> np.ndarray:
        """Recent scores once an episode was played again; the array that was given stays as it was."""
        changed = scores.copy()
        changed[row] += SHARE_OF_LATEST * (score - changed[row])
        return changed


def one_sample(dataset: Dataset, index: int) -> list[Sample]:
    """What an index of a `Sampler` stands for, alone."""
    return [read_sample(dataset, index)]


def read_sample(dataset: Dataset, index: int) -> Sample:
    """What an index of a `Sampler` stands for: an episode of the dataset, or one without its target."""
    if index < len(dataset):
        return dataset.get(index)
    # `Sampler` has made sure that there is such a method.
    sample: Sample = dataset.get_absent(*divmod(index - len(dataset), _CHOICES))  # type: ignore[attr-defined]
    return sample


def samples_of_draw(dataset: Dataset, index: int) -> list[Sample]:
    """What an index of a `Sampler` stands for, and besides the other target categories on its image; these are left out
    of an episode without its target, and where the dataset has neither ``get_all`` nor ``pairs``."""
    if index >= len(dataset):
        return [read_sample(dataset, index)]
    if hasattr(dataset, "get_all"):
        samples: list[Sample] = dataset.get_all(index)
        return samples
    find = getattr(dataset, "pairs", None)
    pairs = None if find is None else find()
    others = [] if pairs is None else np.flatnonzero(pairs[:, 0] == pairs[index, 0]).tolist()
    first = dataset.get(index)
    # One picture for all of them, in memory and on the way from a worker.
    return [first, *(replace(dataset.get(each), image=first.image) for each in others if each != index)]


def _positions(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Place of each value in ascending numbers, -1 where it is not one of them."""
    places = np.searchsorted(among, values)
    return np.where(np.isin(values, among), places, -1)


def _weights(pairs: np.ndarray, rule: Rule) -> np.ndarray:
    """Of each episode of a whole dataset, (N,) float64. :param pairs: image id and category id, (N, 2)."""
    _, category, episodes_of = np.unique(pairs[:, 1], return_inverse=True, return_counts=True)
    if rule == "balanced":
        return np.asarray(1 / episodes_of[category])
    _, image, on_image = np.unique(pairs[:, 0], return_inverse=True, return_counts=True)
    uniform = 1 / on_image[image]
    return np.asarray(uniform / episodes_of[category] if rule == "inverse_frequency" else uniform)
