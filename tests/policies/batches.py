"""Observations for extractors, without an environment."""

from __future__ import annotations

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import preprocess_obs


def random_batch(space: spaces.Dict, size: int, seed: int = 0) -> dict[str, th.Tensor]:
    """Samples of a space as SB3 hands them to an extractor."""
    space.seed(seed)
    raw = [space.sample() for _ in range(size)]
    stacked = {}
    for key in space.spaces:
        values = np.stack([each[key] for each in raw])
        if key == "sam_image_embeddings":  # its space reaches float16's limits, which no embedding does
            values = np.random.default_rng(seed).normal(size=values.shape)
        stacked[key] = th.from_numpy(np.asarray(values, np.float32 if values.dtype != np.int64 else np.int64))
    return preprocess_obs(stacked, space)
