"""Clicks where SAM is least sure of its own mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch as th
from torch.nn import functional as F

from sb3_alignsam.envs.click_grid import ClickGrid
from sb3_alignsam.perception.clicks import Click
from sb3_alignsam.policies.clickers import NextClick, State


class Uncertainty:
    """The free patch over which SAM's latest mask is least sure, with the label that SAM itself leans to.

    A pixel of probability p is unsure by 1 - |2p - 1|, a patch by its pixels' mean; it is clicked positive where its
    mean p is 0.5 or more. Before the first mask every patch is as unsure as any other, and the one nearest to the
    middle of the picture is clicked positive; so are ties broken.

    :param grid: the environment's click grid.
    """

    name = "uncertainty"
    uses_ground_truth = False

    def __init__(self, grid: ClickGrid) -> None:
        self.grid = grid

    def next_clicks(self, states: Sequence[State]) -> list[NextClick]:
        """See `Clicker`; None where no patch is free."""
        return [self._next_click(state) for state in states]

    def _next_click(self, state: State) -> Click | None:
        free = np.flatnonzero(state.action_mask[: 2 * self.grid.num_patches**2 : 2])
        if not len(free):
            return None
        height, width = state.episode.image_size
        clicks = [self.grid.click(2 * int(patch), height, width) for patch in free]
        off_centre = np.array([(c.x - width / 2) ** 2 + (c.y - height / 2) ** 2 for c in clicks])
        unsure, positive = self._of_patches(state)
        order = np.lexsort((off_centre, -unsure[free]))
        chosen = clicks[order[0]]
        return Click(chosen.x, chosen.y, bool(positive[free[order[0]]]))

    def _of_patches(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """How unsure SAM is of each patch, (G·G,) in 0..1, and whether it leans to the mask there, (G·G,) bool."""
        low_res = state.episode.low_res
        if low_res is None:
            return np.ones(self.grid.num_patches**2), np.ones(self.grid.num_patches**2, bool)
        probability = th.sigmoid(low_res.float()).cpu()
        both = th.cat([1 - (2 * probability - 1).abs(), probability])
        unsure, mean = F.adaptive_avg_pool2d(both, self.grid.num_patches).flatten(1).numpy()
        return unsure, mean >= 0.5
