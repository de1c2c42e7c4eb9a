"""One step of an episode in two halves, between which its click gets a mask."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sb3_alignsam.envs.click_grid import ClickGrid
from sb3_alignsam.envs.episode import ClickEpisode
from sb3_alignsam.envs.rewards import GainAgainst, RewardWeights, gain_term, hit_term, label_term
from sb3_alignsam.perception.clicks import Click


@dataclass
class Turn:
    """A step between the choice of its click and its mask.

    :param terms: of the reward, unweighted, as far as they are known. :param last: score of the answer before.
    :param best: highest score before. :param stopped: whether the action was *stop*.
    :param click: that is placed; None: the action places none.
    """

    terms: dict[str, float]
    last: float
    best: float
    stopped: bool
    click: Click | None

    @classmethod
    def of(cls, episode: ClickEpisode, grid: ClickGrid, action: int, valid: bool) -> Turn:
        """What an action does. :param valid: whether it does something, unless it is *stop*."""
        terms = {field.name: 0.0 for field in fields(RewardWeights)}
        stopped = action == grid.stop_action
        terms["step_cost"] = float(not stopped)
        click = None
        if not stopped and valid:
            click = grid.click(action, *episode.image_size)
            here = (click.y, click.x)
            wanted, ignored = bool(episode.wanted()[here]), bool(episode.ignore[here])
            terms["label"] = label_term(click.positive, wanted, ignored)
            terms["hit"] = hit_term(click.positive, wanted, bool(episode.last.mask[here]), ignored)
        elif not stopped:
            terms["repeat"] = 1.0
        return cls(terms, episode.answer.score, episode.best_score, stopped, click)

    def settle(self, score: float, terminated: bool, against: GainAgainst) -> dict[str, float]:
        """All terms of the reward. :param score: of the answer now. :param terminated: whether the episode is over."""
        if self.click is not None:
            self.terms["gain"] = gain_term(score, self.last, self.best, against)
        if terminated:
            self.terms["final"] = score
        return self.terms
