"""Rollout buffers that keep what is constant in an episode once, for PPO and MaskablePPO."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer

from sb3_alignsam.envs.observations import CONSTANT_KEYS
from sb3_alignsam.policies.features import EPISODE_ROWS

EMBEDDING = "sam_image_embeddings"


class EpisodeDictRolloutBuffer(DictRolloutBuffer):
    """A `DictRolloutBuffer` that keeps an episode's constants once; its minibatches are SB3's, number for number.

    With RepViT-SAM a step takes 2 MB in SB3's buffer, and an episode of five steps 10; here it is 2. They lie on the
    training device, in the type they came in, and minibatches are gathered there.

    :param constant_keys: keys of the observation that never change within an episode; those that are no `Box` are
        small and kept with every step all the same. All other parameters are SB3's.
    """

    constant_keys: tuple[str, ...]
    episodes: list[dict[str, th.Tensor]]
    """Constants of each episode that has a step in the buffer, in the order they were first seen."""
    episode_of_step: np.ndarray
    """Place in `episodes` of each step's, (n_steps, n_envs) int64."""

    def __init__(self, *args: Any, constant_keys: Iterable[str] = CONSTANT_KEYS, **kwargs: Any) -> None:
        self._asked = frozenset(constant_keys)
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        """Forget everything."""
        boxes = [key for key, space in self.observation_space.spaces.items() if isinstance(space, spaces.Box)]
        self.constant_keys = tuple(key for key in boxes if key in self._asked)
        # SB3 allocates an array for each of these.
        self.obs_shape = {key: shape for key, shape in self.obs_shape.items() if key not in self.constant_keys}
        self.episodes = []
        self.episode_of_step = np.zeros((self.buffer_size, self.n_envs), np.int64)
        self._latest = np.zeros(self.n_envs, np.int64)
        super().reset()

    def add(self, *args: Any, **kwargs: Any) -> None:
        """As SB3's `add`; constants are read on the first call after `reset` and where an episode starts."""
        given = {**dict(zip(("obs", "action", "reward", "episode_start"), args, strict=False)), **kwargs}
        obs = given["obs"]
        for row, starts in enumerate(given["episode_start"]):
            if starts or self.pos == 0:
                self._latest[row] = len(self.episodes)
                # A copy on a processor too: a row is not to keep the whole of its array alive.
                kept = {key: th.tensor(obs[key][row], device=self.device) for key in self.constant_keys}
                self.episodes.append(kept)
        self.episode_of_step[self.pos] = self._latest
        super().add(*args, **kwargs)

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> Any:
        samples = super()._get_samples(batch_inds, env)
        # Steps are numbered as SB3's `swap_and_flatten` leaves them: one environment after the other.
        constants = self._constants(self.episode_of_step.T.ravel()[batch_inds])
        return samples._replace(observations={**samples.observations, **constants})

    def _constants(self, episodes: np.ndarray) -> dict[str, th.Tensor]:
        """The constants of each step of a minibatch, whose episodes are given, (B,) int64."""
        return {key: self._stacked(key, episodes) for key in self.constant_keys}

    def _stacked(self, key: str, episodes: np.ndarray) -> th.Tensor:
        return th.stack([self.episodes[index][key] for index in episodes])


class DistinctEpisodeDictRolloutBuffer(EpisodeDictRolloutBuffer):
    """An `EpisodeDictRolloutBuffer` for `ClickPolicy`: a minibatch has the embedding of each of its episodes once, and
    under `EPISODE_ROWS` which of them is whose. What follows from an embedding alone is then computed once an episode.
    """

    def _constants(self, episodes: np.ndarray) -> dict[str, th.Tensor]:
        constants = {key: self._stacked(key, episodes) for key in self.constant_keys if key != EMBEDDING}
        if EMBEDDING in self.constant_keys:
            distinct, rows = np.unique(episodes, return_inverse=True)
            constants[EMBEDDING] = self._stacked(EMBEDDING, distinct)
            constants[EPISODE_ROWS] = th.as_tensor(rows, device=self.device)
        return constants


class MaskableEpisodeDictRolloutBuffer(EpisodeDictRolloutBuffer, MaskableDictRolloutBuffer):
    """`EpisodeDictRolloutBuffer` for MaskablePPO: action masks are kept with every step, as in sb3-contrib."""


class MaskableDistinctEpisodeDictRolloutBuffer(DistinctEpisodeDictRolloutBuffer, MaskableDictRolloutBuffer):
    """`DistinctEpisodeDictRolloutBuffer` for MaskablePPO."""
