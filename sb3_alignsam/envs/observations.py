"""The Dict observation: its keys, their spaces, and how an episode becomes arrays. No ground truth enters here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from gymnasium import spaces
from torch.nn import functional as F

from sb3_alignsam.envs.bounded import Bounded
from sb3_alignsam.envs.click_grid import ClickGrid
from sb3_alignsam.envs.episode import ClickEpisode
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.geometry import letterbox, resized_shape
from sb3_alignsam.perception.similarity import SimilarityMaps

ALL_KEYS = (
    "sam_image_embeddings",
    "clip_similarity",
    "clip_tokens",
    "clip_text",
    "target_category",
    "image",
    "sam_pred_mask_prob",
    "click_map",
    "excluded_mask",
    "num_steps",
)
CONSTANT_KEYS = (
    "sam_image_embeddings",
    "clip_similarity",
    "clip_tokens",
    "clip_text",
    "target_category",
    "image",
    "excluded_mask",
)
"""Keys that do not change within an episode."""
_EPISODES_OWN = ("sam_image_embeddings", "clip_similarity")
"""Keys whose arrays an episode holds."""
TEXT_KEYS = ("clip_similarity", "clip_tokens", "clip_text")
"""Keys that need a text model."""
DEFAULT_KEYS = tuple(key for key in ALL_KEYS if key not in ("image", "clip_tokens", "clip_text"))
"""`observation_keys` where none are given, the same in every environment; less `TEXT_KEYS` without a text model."""
FLOAT16_MAX = float(np.finfo(np.float16).max)


class Observations:
    """Builds the observation of one environment's episodes.

    :param embedding_shape: (C, h, w) of SAM's image embedding.
    :param image_size: side of SAM's padded square in pixels.
    :param grid: the click grid.
    :param categories: the whole vocabulary of the dataset.
    :param max_steps: click budget; `num_steps` saturates there.
    :param keys: which keys to send, in any order; None: `DEFAULT_KEYS`, as far as there is a text model for them.
    :param maps: similarity maps, for `TEXT_KEYS`.
    :raises InputError: a key is unknown, or needs a text model and there is none.
    """

    def __init__(
        self,
        embedding_shape: tuple[int, int, int],
        image_size: int,
        grid: ClickGrid,
        categories: Sequence[str],
        max_steps: int,
        keys: Sequence[str] | None = None,
        maps: SimilarityMaps | None = None,
    ) -> None:
        if keys is None:
            keys = [key for key in DEFAULT_KEYS if maps is not None or key not in TEXT_KEYS]
        for key in keys:
            if key not in ALL_KEYS:
                raise InputError(f"observation key '{key}' is not known; known: {', '.join(ALL_KEYS)}")
            if key in TEXT_KEYS and maps is None:
                raise InputError(f"observation key '{key}' needs a text model: text_model:tiny, or another")
        if not keys:
            raise InputError(f"observation_keys is empty; known: {', '.join(ALL_KEYS)}")
        self.embedding_shape = embedding_shape
        self.image_size = image_size
        self.grid = grid
        self.category_index = {name: index for index, name in enumerate(categories)}
        self.max_steps = max_steps
        self.maps = maps
        self.keys = tuple(keys)

    def space(self) -> spaces.Dict:
        """Observation space of the chosen keys."""
        _, height, width = self.embedding_shape
        side = self.grid.num_patches
        every: dict[str, spaces.Space[Any]] = {
            "sam_image_embeddings": Bounded(-FLOAT16_MAX, FLOAT16_MAX, self.embedding_shape, np.float16),
            "clip_similarity": Bounded(0, 1, (2, height, width), np.float16),
            "clip_tokens": Bounded(-1, 1, self._tokens_shape(), np.float16),
            "clip_text": Bounded(-1, 1, self._tokens_shape()[:1], np.float32),
            "target_category": spaces.Discrete(len(self.category_index)),
            "image": Bounded(0, 255, (self.image_size, self.image_size, 3), np.uint8),
            "sam_pred_mask_prob": Bounded(0, 1, (1, height, width), np.float32),
            "click_map": Bounded(0, 1, (2, side, side), np.uint8),
            "excluded_mask": Bounded(0, 1, (1, height, width), np.float32),
            "num_steps": spaces.Discrete(self.max_steps + 1),
        }
        return spaces.Dict({key: every[key] for key in self.keys})

    def _tokens_shape(self) -> tuple[int, ...]:
        return (1,) if self.maps is None else self.maps.tokens_shape

    def of(self, episode: ClickEpisode, steps: int) -> dict[str, Any]:
        """The observation of an episode after `steps` actions; every array is new."""
        every = {key: getattr(self, f"_{key}")(episode, steps) for key in self.keys}
        # Users keep what they are handed, and gymnasium checks that no two observations share memory.
        return {key: value.copy() if key in _EPISODES_OWN else value for key, value in every.items()}

    def constants(self, episode: ClickEpisode) -> dict[str, Any]:
        """The part of the observation that is the same until the episode ends, made once and not to be changed."""
        if episode.constants is None or episode.constants[0] is not self:
            made = {key: getattr(self, f"_{key}")(episode, 0) for key in self.keys if key in CONSTANT_KEYS}
            episode.constants = self, made
        return episode.constants[1]

    def changing(self, episode: ClickEpisode, steps: int) -> dict[str, Any]:
        """The rest of it after `steps` actions; every array is new."""
        return {key: getattr(self, f"_{key}")(episode, steps) for key in self.keys if key not in CONSTANT_KEYS}

    def _sam_image_embeddings(self, episode: ClickEpisode, steps: int) -> np.ndarray:
        return episode.embedding

    def _clip_similarity(self, episode: ClickEpisode, steps: int) -> np.ndarray:
        assert episode.similarity is not None
        return episode.similarity

    def _clip_tokens(self, episode: ClickEpisode, steps: int) -> np.ndarray:
        assert self.maps is not None
        assert episode.tokens is not None
        return self.maps.token_map(episode.tokens, episode.image_size)

    def _clip_text(self, episode: ClickEpisode, steps: int) -> np.ndarray:
        assert self.maps is not None
        return self.maps.text_features(episode.sample.category).numpy()

    def _target_category(self, episode: ClickEpisode, steps: int) -> np.int64:
        return np.int64(self.category_index[episode.sample.category])

    def _image(self, episode: ClickEpisode, steps: int) -> np.ndarray:
        return letterbox(episode.sample.image, self.image_size)

    def _sam_pred_mask_prob(self, episode: ClickEpisode, steps: int) -> np.ndarray:
        """Probabilities of the latest mask averaged onto the embedding grid, (1, h, w) float32; 0.5 at first."""
        if episode.low_res is None:
            return np.full((1, *self.embedding_shape[1:]), 0.5, np.float32)
        pooled = F.avg_pool2d(episode.low_res.sigmoid(), episode.low_res.shape[-1] // self.embedding_shape[-1])
        return pooled.clamp(0, 1).cpu().numpy()

    def _click_map(self, episode: ClickEpisode, steps: int) -> np.ndarray:
        """Patches that hold a positive (first channel) or a negative click, (2, G, G) uint8."""
        side = self.grid.num_patches
        marks = np.zeros((2, side, side), np.uint8)
        for click in episode.clicks:
            row, column = self.grid.patch(click, *episode.image_size)
            marks[0 if click.positive else 1, row, column] = 1
        return marks

    def _excluded_mask(self, episode: ClickEpisode, steps: int) -> np.ndarray:
        """Share of each embedding cell that belongs to objects already found, (1, h, w) float32."""
        shape = self.embedding_shape[1:]
        if not episode.excluded.any():
            return np.zeros((1, *shape), np.float32)
        square = np.zeros((self.image_size, self.image_size), np.float32)
        height, width = resized_shape(*episode.image_size, self.image_size)
        mask = cv2.resize(episode.excluded.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        square[:height, :width] = mask
        return cv2.resize(square, shape[::-1], interpolation=cv2.INTER_AREA)[None].clip(0, 1)

    def _num_steps(self, episode: ClickEpisode, steps: int) -> np.int64:
        return np.int64(min(steps, self.max_steps))
