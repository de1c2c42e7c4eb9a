"""What CLIP Surgery's similarity map alone can do: its points go into SAM at once, and nothing is learnt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sb3_alignsam.envs.episode import ClickEpisode, click_together
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.clicks import Click
from sb3_alignsam.perception.clip_surgery import ClipSurgery
from sb3_alignsam.perception.frozen_features import FrozenFeatures
from sb3_alignsam.perception.geometry import resized_shape
from sb3_alignsam.perception.similarity import SimilarityMaps, token_grid
from sb3_alignsam.policies.clickers import STOP, NextClick, State, maps_of

THRESHOLD = 0.8
"""Of the stretched map, from which a cell is clicked (CLIP Surgery's own)."""
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Those that `clip_best` tries; at 1.0 one positive and one negative click are left."""


def map_clicks(maps: SimilarityMaps, episode: ClickEpisode, threshold: float) -> tuple[Click, ...]:
    """CLIP Surgery's points for an episode's target, in pixels of the image: as many positive as negative ones."""
    if episode.tokens is None:
        raise InputError("this episode has no CLIP tokens: give the environment a text model, text_model:tiny")
    height, width = episode.image_size
    resized = resized_shape(height, width, maps.clip.map_size)
    grid = token_grid(maps.clip, height, width)
    # The last patches reach over the photograph's edge, so the grid covers a little more than it.
    covered = [cells * maps.clip.patch_size * length / new for cells, length, new in zip(
        grid, (height, width), resized, strict=True
    )]  # fmt: skip
    scores = maps.scores(episode.tokens, episode.sample.category)[:, 0]
    points, labels = ClipSurgery.points(scores, (covered[0], covered[1]), threshold, grid)
    inside = np.minimum(points, (width - 1, height - 1))
    return tuple(Click(int(x), int(y), bool(label)) for (x, y), label in zip(inside, labels, strict=True))


class ClipPoints:
    """All points of the similarity map in one call of SAM (CLIP Surgery, Li et al. 2023, section 3.4).

    It spends more clicks than an agent has and makes them all in its first step; its answer then stays.

    :param features: of an environment with a text model.
    """

    name = "clip"
    uses_ground_truth = False

    def __init__(self, features: FrozenFeatures) -> None:
        self.features, self.maps = features, maps_of(features, self.name)

    def next_clicks(self, states: Sequence[State]) -> list[NextClick]:
        """See `Clicker`."""
        return [STOP if state.step else self._clicks(state.episode) or STOP for state in states]

    def _clicks(self, episode: ClickEpisode) -> tuple[Click, ...]:
        return map_clicks(self.maps, episode, THRESHOLD)


class ClipBest(ClipPoints):
    """Points at several thresholds; those whose mask SAM itself predicts to be best."""

    name = "clip_best"

    def _clicks(self, episode: ClickEpisode) -> tuple[Click, ...]:
        candidates = {map_clicks(self.maps, episode, threshold): None for threshold in THRESHOLDS}
        tried = [(clicks, episode.fresh()) for clicks in candidates if clicks]
        if not tried:
            return ()
        click_together([each for _, each in tried], [clicks for clicks, _ in tried], self.features.segmenter)
        return max(tried, key=lambda pair: pair[1].last.predicted_iou)[0]
