"""What an episode cannot do without, by itself: a sample, its embedding, and the segmenter's calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch as th

from sb3_alignsam.benchmark.timing import waiting
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.perception.clicks import Clicks

REPEATS = 5
SEED = 0


@dataclass(frozen=True)
class Limit:
    """Medians of bare calls, in seconds, every core free for each.

    :param draw: the dataset's `get`. :param encode: one image.
    :param segment: a click in one environment, of one call for all of them, mean over the clicks of an episode.
    """

    draw: float
    encode: float
    segment: float

    def step_seconds(self, clicks: int, *, drawn: bool, encoded: bool) -> float:
        """Least time of a step in episodes of `clicks` clicks, where samples are drawn and images encoded, or not."""
        return self.segment + (drawn * self.draw + encoded * self.encode) / clicks

    def figures(self) -> dict[str, Any]:
        """In plain values, for JSON."""
        return asdict(self)


def measure_limit(env: SamSegEnv, num_envs: int) -> Limit:
    """Time the bare calls of an environment's dataset and segmenter.

    :param num_envs: images in one call of `Segmenter.segment`.
    """
    rng = np.random.default_rng(SEED)
    finish = waiting(str(env.segmenter.device))
    draw, encode, segment = [], [], []
    for repeat in range(REPEATS + 1):
        start = time.perf_counter()
        samples = [env.dataset.get(env.dataset.draw(rng)) for _ in range(num_envs)]
        draw.append((time.perf_counter() - start) / num_envs)
        start = time.perf_counter()
        embedding = env.segmenter.encode([samples[0].image])
        finish()
        encode.append(time.perf_counter() - start)
        if repeat == 0:
            # Of float16 and one array each, as episodes hold them.
            embeddings = [embedding[0].half().clone() for _ in range(num_envs)]
        segment.append(_segment_seconds(env, embeddings, [each.image.shape[:2] for each in samples], rng, finish))
    return Limit(*(float(np.median(each[1:])) for each in (draw, encode, segment)))


def _segment_seconds(
    env: SamSegEnv,
    embeddings: Sequence[th.Tensor],
    sizes: Sequence[tuple[int, int]],
    rng: np.random.Generator,
    finish: Callable[[], object],
) -> float:
    """Seconds of a click in one environment, over an episode's clicks."""
    previous = None
    start = time.perf_counter()
    for count in range(1, env.max_steps + 1):
        clicks = [
            Clicks(rng.uniform(0, (width, height), (count, 2)), rng.integers(0, 2, count)) for height, width in sizes
        ]
        masks = env.segmenter.segment(embeddings, clicks, sizes, previous)
        previous = [each[:1] for each in masks.low_res]
    finish()
    return (time.perf_counter() - start) / (env.max_steps * len(embeddings))
