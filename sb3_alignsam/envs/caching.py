"""Filling the feature cache ahead of training, so that no episode waits for an encoder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.errors import InputError, RunError
from sb3_alignsam.perception.cache import FeatureCache

FITTING = 0.85
"""Share of a cache's size limit that features can fill; the rest is what the store itself needs."""


@dataclass(frozen=True)
class CachePlan:
    """What filling a cache will take.

    :param indices: one episode of each image. :param bytes_per_image: about how much an image's features take.
    """

    indices: tuple[int, ...]
    bytes_per_image: int

    @property
    def bytes(self) -> int:
        """Size of all features together."""
        return len(self.indices) * self.bytes_per_image


def plan_cache(env: SamSegEnv) -> CachePlan:
    """Find out how many images a dataset has and how large their features are at most; nothing is computed.

    :raises InputError: the environment keeps no features, or they would not all fit.
    """
    find = getattr(env.dataset, "image_indices", None)
    cache = env.features.cache
    if find is None:
        raise InputError(f"the images of dataset '{env.dataset.name}' are drawn anew: there is nothing to keep ahead")
    if cache is None:
        raise InputError("there is no cache to fill: leave out cache:false, or name a folder with cache:FOLDER")
    indices = tuple(find())
    maps = env.features.maps
    channels, side, _ = (0, 0, 0) if maps is None else maps.tokens_shape
    each = math.prod(env.segmenter.embedding_shape) + channels * (1 + side * side)
    plan = CachePlan(indices, each * np.dtype(np.float16).itemsize)
    if plan.bytes > FITTING * cache.limit_gb * 1e9:
        need = np.ceil(plan.bytes / 1e9 / FITTING)
        raise InputError(
            f"features of {len(indices)} images take about {plan.bytes / 1e9:.2g} GB, too much for the limit of "
            f"{cache.limit_gb:g} GB; allow more with --env-kwargs cache_gb:{need:.0f}, there and in training"
        )
    return plan


def fill_cache(env: SamSegEnv, plan: CachePlan) -> Iterator[bool]:
    """Compute what is missing, image by image; yields for each whether it had to be computed.

    :raises RunError: what was computed is not there afterwards.
    """
    cache = env.features.cache
    assert isinstance(cache, FeatureCache)
    for index in plan.indices:
        image = env.dataset.get(index).image
        before = env.features.computed
        env.features.of(image)
        computed = env.features.computed
        if computed > before:
            env.features.of(image)
            if env.features.computed > computed:
                raise RunError(f"features cannot be kept in {cache.folder}: is the disk full, or read-only?")
        yield computed > before
