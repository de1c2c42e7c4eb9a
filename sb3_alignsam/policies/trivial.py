"""Answers that need no picture at all: what a score is worth is what it is above these."""

from __future__ import annotations

from collections.abc import Sequence

import torch as th

from sb3_alignsam.perception.segmenter import Segmenter
from sb3_alignsam.policies.clickers import STOP, NextClick, Proposal, State

INSIDE = 10.0
"""Logit of a pixel that belongs to a mask for certain."""


class Empty:
    """No click: the answer stays the empty mask."""

    name = "empty"
    uses_ground_truth = False

    def next_clicks(self, states: Sequence[State]) -> list[NextClick]:
        """See `Clicker`."""
        return [STOP for _ in states]


class WholeImage:
    """The whole picture, without a click.

    :param segmenter: gives the size of a mask's logits; it is not called.
    """

    name = "whole_image"
    uses_ground_truth = False

    def __init__(self, segmenter: Segmenter) -> None:
        self.size = segmenter.low_res_size

    def next_clicks(self, states: Sequence[State]) -> list[NextClick]:
        """See `Clicker`."""
        return [STOP if state.step else Proposal((), self._mask(), 0.0) for state in states]

    def _mask(self) -> th.Tensor:
        return th.full((1, self.size, self.size), INSIDE)
