"""An episode's constants kept out of the pipe between a worker process and its parent.

`SharingSamSegEnv` leaves them in shared memory and tells its name; `EpisodeFeatures` joins them to the observations.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvStepReturn

from sb3_alignsam.envs.episode import ClickEpisode
from sb3_alignsam.envs.observations import CONSTANT_KEYS
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.envs.stacked_constants import StackedConstants

HANDLE = "episode_features"
"""Key of the reset info under which the name of the shared memory is told. It stays the same while the environment
lives: a new episode's constants take the place of the last one's, which have been read by then."""


class SharingSamSegEnv(SamSegEnv):
    """A `SamSegEnv` whose observations hold what changes; for a VecEnv that `EpisodeFeatures` is directly around.

    Keywords are those of `SamSegEnv`. Attribute ``full_observation_space``: with everything.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.full_observation_space = self.observations.space()
        changing = {key: space for key, space in self.full_observation_space.items() if key not in CONSTANT_KEYS}
        self.observation_space = spaces.Dict(changing)
        self._shared: SharedMemory | None = None

    def begin(self, episodes: Sequence[ClickEpisode]) -> None:
        """Make an episode the running one and leave its constants in shared memory."""
        super().begin(episodes)
        if self._shared is None:
            self._shared = SharedMemory(create=True, size=_size(self.full_observation_space))
            # A program that ends without `close` leaves nothing behind either.
            self._remove = weakref.finalize(self, _remove, self._shared)
        places = _places(self.full_observation_space, self._shared)
        for key, value in self.observations.constants(self.episode).items():
            places[key][...] = value

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """As `SamSegEnv.reset`; the info also tells where the constants lie."""
        observation, info = super().reset(seed=seed, options=options)
        assert self._shared is not None
        return observation, {**info, HANDLE: self._shared.name}

    def observe(self) -> dict[str, Any]:
        """What changes in the running episode; every array is new."""
        return self.observations.changing(self.episode, self.steps)

    def close(self) -> None:
        """Remove the shared memory."""
        if self._shared is not None:
            self._remove()
            self._shared = None


class EpisodeFeatures(VecEnvWrapper):
    """Joins an episode's constants to every observation of a `DummyVecEnv` or `SubprocVecEnv` of `SharingSamSegEnv`.

    They are read once, when the episode begins; at other steps nothing of theirs is sent or copied. Observations, also
    the terminal ones in infos, are those of the same VecEnv of plain `SamSegEnv`.

    :param venv: the VecEnv itself, no wrapper of one: those do not hand on what a reset tells.
    """

    def __init__(self, venv: VecEnv) -> None:
        self._space: spaces.Dict = venv.get_attr("full_observation_space", indices=[0])[0]
        super().__init__(venv, observation_space=self._space)
        self._constants = StackedConstants(venv.num_envs)
        self._shared: dict[str, SharedMemory] = {}

    def reset(self) -> dict[str, np.ndarray]:
        """Start every episode."""
        changing = self.venv.reset()
        assert isinstance(changing, dict)
        self._constants.renew({row: self._read(row) for row in range(self.num_envs)})
        return self._join(changing, self._constants.arrays)

    def step_wait(self) -> VecEnvStepReturn:
        """Acts on environments that are done only."""
        changing, rewards, dones, infos = self.venv.step_wait()
        assert isinstance(changing, dict)
        finished = np.flatnonzero(dones).tolist()
        for row in finished:
            info = infos[row]
            info["terminal_observation"] = self._join(info["terminal_observation"], self._constants.row(row))
        self._constants.renew({row: self._read(row) for row in finished})
        return self._join(changing, self._constants.arrays), rewards, dones, infos

    def close(self) -> None:
        """Let go of the shared memory, which the environments remove, and close them."""
        for shared in self._shared.values():
            shared.close()
        self._shared.clear()
        self.venv.close()

    def _read(self, row: int) -> dict[str, np.ndarray]:
        name = self.venv.reset_infos[row][HANDLE]
        if name not in self._shared:
            self._shared[name] = SharedMemory(name)
        return {key: place.copy() for key, place in _places(self._space, self._shared[name]).items()}

    def _join(self, changing: Mapping[str, Any], constants: Mapping[str, Any]) -> dict[str, Any]:
        return {key: constants[key] if key in constants else changing[key] for key in self._space.spaces}


def _layout(space: spaces.Dict) -> Iterator[tuple[str, np.dtype, tuple[int, ...], int, int]]:
    """Key, type, shape, first byte and number of bytes of each constant."""
    start = 0
    for key, each in space.spaces.items():
        if key in CONSTANT_KEYS:
            dtype, shape = np.dtype(each.dtype), each.shape or ()
            size = dtype.itemsize * math.prod(shape)
            yield key, dtype, shape, start, size
            start += -(-size // 64) * 64


def _size(space: spaces.Dict) -> int:
    return max((start + size for *_, start, size in _layout(space)), default=1)


def _places(space: spaces.Dict, shared: SharedMemory) -> dict[str, np.ndarray]:
    """Views of shared memory; they must not outlive it."""
    return {key: np.ndarray(shape, dtype, shared.buf, start) for key, dtype, shape, start, _ in _layout(space)}


def _remove(shared: SharedMemory) -> None:
    shared.close()
    shared.unlink()
