"""The next episodes of a batch of environments, prepared while the present ones are played."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial

import torch as th

from sb3_alignsam.datasets.ahead import Ahead
from sb3_alignsam.datasets.base import Dataset, Sample
from sb3_alignsam.datasets.sampling import Read
from sb3_alignsam.envs.episode import ClickEpisode
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.perception.frozen_features import FrozenFeatures, ImageFeatures

SMALL_BYTES = 32_000_000
"""Networks below this size are copied to worker processes, which then compute features too."""
Found = tuple[list[Sample], ImageFeatures | None]


class EpisodesAhead:
    """Samples from worker processes, and features of their images as far as they can be had ahead.

    Where the networks are small and run on a processor, workers have them too: one thread each keeps the cores busier
    than one network after the other over all cores. Large ones, and those on an accelerator, are there once, in this
    process: then features are looked up in the cache by a thread, and what is missing is computed when an episode is
    taken.

    :param env: what the episodes are for. :param num_workers: see `Ahead`; with 0 there is no thread either.
    :param read: gives one or more samples of the same image for an index; can be pickled. None: as `env` reads them.
    """

    def __init__(self, env: SamSegEnv, num_workers: int, read: Read | None = None) -> None:
        self._env, read = env, read or env.read
        self._threads: ThreadPoolExecutor | None = None
        if num_workers and can_be_copied(env.features):
            self._found: Ahead[Found] | None = Ahead(SamplesAndFeatures(env.dataset, env.features, read), num_workers)
            return
        self._found = None
        # The dataset alone, so that workers need not import any network.
        self._samples: Ahead[list[Sample]] = Ahead(partial(read, env.dataset), num_workers)
        if num_workers and env.features.cache is not None:
            env.features.take_fingerprints()
            self._threads = ThreadPoolExecutor(1, "sb3-alignsam-cache")

    def ask(self, index: int) -> Callable[[], list[ClickEpisode]]:
        """Begin to prepare the fresh episodes that `read` gives for `index`; what is returned waits for them.

        :raises InputError: when asked for or when taken: a file of the dataset cannot be used.
        :raises RunError: likewise: a worker was killed.
        """
        if self._found is not None:
            return partial(self._finish, index, self._found.ask(index))
        samples = self._samples.ask(index)
        if self._threads is None:
            return partial(self._finish, index, lambda: (samples(), None))
        return partial(self._finish, index, self._threads.submit(self._look_up, samples).result)

    def close(self) -> None:
        """End thread and workers."""
        (self._samples if self._found is None else self._found).close()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def _look_up(self, load: Callable[[], list[Sample]]) -> Found:
        samples = load()
        return samples, self._env.features.kept(samples[0].image)

    def _finish(self, index: int, find: Callable[[], Found]) -> list[ClickEpisode]:
        samples, found = find()
        features = found or self._env.features.of(samples[0].image)
        return [self._env.new_episode(sample, features, index) for sample in samples]


def can_be_copied(features: FrozenFeatures) -> bool:
    """Whether worker processes may have these networks too."""
    on_processor = all(network.device.type == "cpu" for network in features.networks)
    return on_processor and sum(network.size_bytes for network in features.networks) < SMALL_BYTES


class SamplesAndFeatures:
    """What a worker process gives for an index, on one thread.

    :param dataset: of the samples. :param features: copied to the worker. :param read: see `EpisodesAhead`.
    """

    def __init__(self, dataset: Dataset, features: FrozenFeatures, read: Read) -> None:
        self._dataset, self._read = dataset, read
        # As bytes: multiprocessing would hand over each tensor as an open file, and there are hundreds.
        self._pickled = pickle.dumps(features)

    @cached_property
    def _features(self) -> FrozenFeatures:
        th.set_num_threads(1)
        features: FrozenFeatures = pickle.loads(self._pickled)
        return features

    def __call__(self, index: int) -> Found:
        samples = self._read(self._dataset, index)
        return samples, self._features.of(samples[0].image)
