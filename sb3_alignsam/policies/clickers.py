"""What evaluation asks of an agent or a baseline: given running episodes, the next click of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space

from sb3_alignsam.envs.click_grid import ClickGrid
from sb3_alignsam.envs.episode import ClickEpisode
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.clicks import Click
from sb3_alignsam.perception.frozen_features import FrozenFeatures
from sb3_alignsam.perception.similarity import SimilarityMaps
from sb3_alignsam.policies.click_policy import ClickPolicy, MaskableClickPolicy


@dataclass(frozen=True)
class State:
    """One running episode as a clicker sees it.

    :param episode: the episode; a clicker without ground truth reads its image and its clicks alone.
    :param observation: what an environment would send now.
    :param action_mask: which actions do something, (num_actions,) bool.
    :param step: clicks made so far.
    :param rng: random numbers of this episode and clicker, the same in every evaluation.
    """

    episode: ClickEpisode
    observation: dict[str, Any]
    action_mask: np.ndarray
    step: int
    rng: np.random.Generator


class Stop:
    """What a clicker answers that is done with an episode."""


STOP = Stop()


@dataclass(frozen=True)
class Proposal:
    """A mask that a clicker brings itself, taken in place of the segmenter's answer to its clicks.

    :param clicks: noted as placed; may be none.
    :param low_res: logits on SAM's low-resolution padded square, (1, 4h, 4w) float32, fed back with the next click.
    :param predicted_iou: by which the episode's answer is chosen.
    """

    clicks: tuple[Click, ...]
    low_res: th.Tensor
    predicted_iou: float


NextClick = Click | tuple[Click, ...] | Proposal | Stop | None
"""A click, or several placed at once; a mask of the clicker's own; `STOP`: the episode's answer stays as it is; None:
this step changes nothing (an invalid action)."""


class Clicker(Protocol):
    """An agent or a baseline.

    :param name: what tables call it. :param uses_ground_truth: whether it could not be used on a new picture.
    """

    name: str
    uses_ground_truth: bool

    def next_clicks(self, states: Sequence[State]) -> list[NextClick]:
        """The next click of each episode; it is not asked again about an episode that it stopped."""


def maps_of(features: FrozenFeatures, name: str) -> SimilarityMaps:
    """The similarity maps that a baseline needs. :param name: of the baseline.

    :raises InputError: there is no text model.
    """
    if features.maps is None:
        raise InputError(f"baseline '{name}' needs a text model: --env-kwargs text_model:tiny, or another")
    return features.maps


class AgentClicker:
    """A trained policy, acting greedily on the observation alone.

    :param policy: of SB3 or sb3-contrib. :param grid: the click grid that it was trained with.
    :param maskable: whether it takes action masks. :param name: what tables call it.
    """

    uses_ground_truth = False

    def __init__(self, policy: BasePolicy, grid: ClickGrid, maskable: bool, name: str = "agent") -> None:
        self.policy, self.grid, self.maskable, self.name = policy, grid, maskable, name
        self._plain = _is_plain(policy)

    def next_actions(self, states: Sequence[State]) -> np.ndarray:
        """Greedy actions, (B,) int64."""
        observation = {key: np.array([s.observation[key] for s in states]) for key in states[0].observation}
        masks: dict[str, Any] = {"action_masks": np.array([s.action_mask for s in states])} if self.maskable else {}
        with th.inference_mode():
            if not self._plain:
                return self.policy.predict(observation, deterministic=True, **masks)[0]
            # What `predict` does beside this takes a fifth of its time: it transposes images, looks for single
            # observations, and puts every module into evaluation mode, whether or not it is.
            if self.policy.training:
                self.policy.set_training_mode(False)
            tensors = {key: th.from_numpy(value).to(self.policy.device) for key, value in observation.items()}
            return self.policy._predict(tensors, deterministic=True, **masks).cpu().numpy()

    def next_clicks(self, states: Sequence[State]) -> list[NextClick]:
        """See `Clicker`."""
        return self.clicks_of(self.next_actions(states), states)

    def clicks_of(self, actions: np.ndarray, states: Sequence[State]) -> list[NextClick]:
        """What the environment would do with these actions."""
        return [self._click_of(int(action), state) for action, state in zip(actions, states, strict=True)]

    def _click_of(self, action: int, state: State) -> NextClick:
        if action == self.grid.stop_action:
            return STOP
        return self.grid.click(action, *state.episode.image_size) if state.action_mask[action] else None


def _is_plain(policy: BasePolicy) -> bool:
    """Whether a policy is of this package and nothing that it observes is transposed for it, as SB3 does to images."""
    if not isinstance(policy, ClickPolicy | MaskableClickPolicy):
        return False
    if type(policy).predict not in (BasePolicy.predict, MaskableActorCriticPolicy.predict):
        return False
    assert isinstance(policy.observation_space, spaces.Dict)
    return not any(is_image_space(space) for space in policy.observation_space.values())
