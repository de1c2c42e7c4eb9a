"""`SamSegVecEnv`: many episodes in one process, one batched call of the segmenter for all of their clicks."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from sb3_alignsam.datasets.ahead import default_workers
from sb3_alignsam.datasets.sampling import LAG
from sb3_alignsam.envs.episode import ClickEpisode, click_together
from sb3_alignsam.envs.episodes_ahead import EpisodesAhead, can_be_copied
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.envs.stacked_constants import StackedConstants
from sb3_alignsam.errors import InputError

AHEAD_BYTES = 64 * 2**20
"""About what the episodes that are loaded ahead may take together."""
MOST_AHEAD = LAG
"""Episodes of one environment that are loaded ahead: about as many as are played while the policy is updated, and no
more than `Sampler` lets be drawn ahead."""


class _Drawn(NamedTuple):
    """An episode that waits: the generator's state before it was drawn, and what gives it."""

    before: Mapping[str, Any]
    take: Callable[[], list[ClickEpisode]]


class SamSegVecEnv(VecEnv):
    """B episodes of one kind that share a dataset and one copy of the frozen networks.

    To SB3 it is what a `DummyVecEnv` of B `SamSegEnv` is: same seed, same episodes, and for the same actions the same
    rewards and observations, up to rounding of batched products. Its `envs` are plain `SamSegEnv`: for episode
    statistics wrap it in SB3's `VecMonitor`.

    As with SB3's `SubprocVecEnv`, a script that makes one needs ``if __name__ == "__main__":`` around what it runs, or
    ``num_workers=0``: worker processes import the script.

    No array of an observation is ever written again: those that are constant in an episode are built anew where an
    episode begins, and handed out as they are until then.

    :param env: an environment; the others are its twins.
    :param num_envs: B, 1 or more.
    :param num_workers: processes that load the next samples; None: `default_workers`; 0: none.
    :raises InputError: a number is too small.
    """

    def __init__(self, env: SamSegEnv, num_envs: int, num_workers: int | None = None) -> None:
        num_workers = default_workers() if num_workers is None else num_workers
        for name, value, least in (("num_envs", num_envs, 1), ("num_workers", num_workers, 0)):
            if value < least:
                raise InputError(f"{name} needs a whole number >= {least}, got {value}")
        self.envs = [env, *(env.twin() for _ in range(num_envs - 1))]
        self.num_workers = num_workers
        """Processes that load the next samples."""
        self._ahead = EpisodesAhead(env, num_workers)
        self._next: list[deque[_Drawn]] = [deque() for _ in range(num_envs)]
        self._depth = min(max(AHEAD_BYTES // (num_envs * _episode_bytes(env)), 1), MOST_AHEAD) if num_workers else 0
        self.computing_workers = num_workers if can_be_copied(env.features) and not env.every_category else 0
        """Worker processes that keep a core each busy: they run networks, and for one episode an image."""
        self._constants = StackedConstants(num_envs)
        self._actions = np.zeros(num_envs, np.int64)
        super().__init__(num_envs, env.observation_space, env.action_space)
        self.metadata = env.metadata

    def reset(self) -> dict[str, np.ndarray]:
        """Start every episode; seeds and options of `seed` and `set_options` are used up."""
        for row, seed in enumerate(self._seeds):
            if seed is not None:
                gym.Env.reset(self.envs[row], seed=seed)
                self.envs[row].sampler.restart()
                self._next[row].clear()
        restored = self._restored()
        self._fill()
        for row, (seed, options) in enumerate(zip(self._seeds, self._options, strict=True)):
            if row not in restored:
                self._begin(row, seed is not None, options)
                continue
            self.envs[row].restore(options["state"], restored[row]())
            self.reset_infos[row] = self.envs[row].info()
        self._reset_seeds()
        self._reset_options()
        self._constants.renew({row: self._constants_of(row) for row in range(self.num_envs)})
        return self._observe()

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        clicks = [env.choose(action) for env, action in zip(self.envs, self._actions, strict=True)]
        click_together([env.episode for env in self.envs], clicks, self.envs[0].segmenter)
        rewards, dones, infos = zip(*(env.settle() for env in self.envs), strict=True)
        finished = [row for row, done in enumerate(dones) if done]
        for row, info in enumerate(infos):
            info["TimeLimit.truncated"] = False
            if dones[row]:
                info["terminal_observation"] = self._ordered({**self._constants.row(row), **self._changing(row)})
        for row in finished:
            self._begin(row)
        self._fill()
        self._constants.renew({row: self._constants_of(row) for row in finished})
        return self._observe(), np.array(rewards, np.float32), np.array(dones), list(infos)

    def _fill(self) -> None:
        """Draw the episodes to come, first the next of every environment, then the second: so they are needed."""
        for count in range(1, self._depth + 1):
            for row, waiting in enumerate(self._next):
                if len(waiting) < count:
                    waiting.append(self._draw(row))

    def _draw(self, row: int) -> _Drawn:
        env = self.envs[row]
        before = env.np_random.bit_generator.state
        return _Drawn(before, self._ahead.ask(env.sampler.draw(env.np_random)))

    def state_dicts(self) -> list[dict[str, Any]]:
        """Each environment's `SamSegEnv.state_dict`, as if none of the episodes that wait had been drawn yet; `reset`
        goes on from them where they are given as options ``{"state": …}``."""
        states = [env.state_dict() for env in self.envs]
        return [{**state, "draws": waiting[0].before} if waiting else state
                for state, waiting in zip(states, self._next, strict=True)]  # fmt: skip

    def _restored(self) -> dict[int, Callable[[], list[ClickEpisode]]]:
        """Begin to load the episodes that options say to go on with, and take over the draws that follow them."""
        states = {row: options["state"] for row, options in enumerate(self._options) if "state" in options}
        for row, state in states.items():
            self.envs[row].restore_draws(state)
            self._next[row].clear()
        return {row: self._ahead.ask(state["episode"]["index"]) for row, state in states.items()}

    def _begin(self, row: int, seeded: bool = False, options: dict[str, Any] | None = None) -> None:
        """Start one episode as `SamSegEnv.reset` does."""
        env = self.envs[row]
        index = (options or {}).get("index")
        episodes = [] if seeded or options else env.following_episodes()
        if index is not None:
            episodes = self._ahead.ask(index)()[:1]
            env.sampler.begin(drawn=False)
        if not episodes:
            episodes = (self._next[row].popleft() if self._next[row] else self._draw(row)).take()
            env.sampler.begin(drawn=True)
        env.begin(episodes)
        self.reset_infos[row] = env.info()

    def _observe(self) -> dict[str, np.ndarray]:
        changing = [self._changing(row) for row in range(self.num_envs)]
        stacked = {key: np.stack([each[key] for each in changing]) for key in changing[0]}
        return self._ordered({**self._constants.arrays, **stacked})

    def _constants_of(self, row: int) -> dict[str, Any]:
        env = self.envs[row]
        return env.observations.constants(env.episode)

    def _changing(self, row: int) -> dict[str, Any]:
        env = self.envs[row]
        return env.observations.changing(env.episode, env.steps)

    def _ordered(self, observation: dict[str, Any]) -> dict[str, Any]:
        return {key: observation[key] for key in self.envs[0].observation_space.spaces}

    def close(self) -> None:
        """End the worker processes."""
        self._ahead.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        return [env.render() for env in self.envs]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return [env.get_wrapper_attr(attr_name) for env in self._targets(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        for env in self._targets(indices):
            setattr(env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        return [env.get_wrapper_attr(method_name)(*method_args, **method_kwargs) for env in self._targets(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return [is_wrapped(env, wrapper_class) for env in self._targets(indices)]

    def _targets(self, indices: VecEnvIndices) -> list[SamSegEnv]:
        return [self.envs[row] for row in self._get_indices(indices)]


def _episode_bytes(env: SamSegEnv) -> int:
    """About what an episode that waits takes: its embedding, a picture of SAM's size and three masks."""
    return 2 * math.prod(env.segmenter.embedding_shape) + 6 * env.segmenter.image_size**2
