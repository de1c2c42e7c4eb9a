"""What the frozen networks make of an image before the first click, computed once an image where there is a cache."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch as th

from sb3_alignsam.cache_home import cache_home
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.cache import MIN_LIMIT_GB, FeatureCache, image_key, text_key
from sb3_alignsam.perception.clip_prompts import PROMPT_TEMPLATES
from sb3_alignsam.perception.clip_surgery import ClipSurgery
from sb3_alignsam.perception.segmenter import Segmenter
from sb3_alignsam.perception.similarity import SimilarityMaps, image_tokens

FORMAT = 1
"""Part of every key in the cache: to be raised when the same weights make other features of an image."""


@dataclass(frozen=True)
class ImageFeatures:
    """What the frozen networks make of one image.

    :param embedding: SAM's image embedding, (C, h, w) float16.
    :param tokens: CLIP Surgery's tokens, (1+N, D) float16, see `image_tokens`; None without a text model.
    """

    embedding: np.ndarray
    tokens: np.ndarray | None


class FrozenFeatures:
    """Image embeddings and CLIP tokens, rounded to float16 whether they were cached or not.

    :param segmenter: embeds images. :param text_model: makes tokens; None: there are none.
    :param categories: the vocabulary of the similarity maps.
    :param cache: where features are kept; None: nowhere.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        text_model: ClipSurgery | None = None,
        categories: Sequence[str] = (),
        cache: FeatureCache | None = None,
    ) -> None:
        self.segmenter, self.text_model, self.cache = segmenter, text_model, cache
        self.computed = 0
        """How often a network ran because features were not kept."""
        self.maps = None
        if text_model is not None:
            texts = [self._text(text_model, name) for name in categories]
            self.maps = SimilarityMaps(text_model, categories, th.from_numpy(np.stack(texts)))

    @property
    def networks(self) -> tuple[Segmenter | ClipSurgery, ...]:
        """Segmenter and, where there is one, text model."""
        return (self.segmenter,) if self.text_model is None else (self.segmenter, self.text_model)

    def of(self, image: np.ndarray) -> ImageFeatures:
        """Features of an image, kept or computed and then kept. :param image: (H, W, 3) uint8 RGB."""
        embedding = self._kept(lambda: self._embedding_key(image), lambda: self._embed(image))
        text_model = self.text_model
        if text_model is None:
            return ImageFeatures(embedding, None)
        tokens = self._kept(lambda: self._tokens_key(image), lambda: image_tokens(text_model, image))
        return ImageFeatures(embedding, tokens)

    def fresh(self, image: np.ndarray) -> ImageFeatures:
        """Features of an image, computed whether or not they are kept, and not kept either."""
        tokens = None if self.text_model is None else image_tokens(self.text_model, image)
        return ImageFeatures(self._embed(image), tokens)

    def kept(self, image: np.ndarray) -> ImageFeatures | None:
        """Features of an image if the cache has all of them, else None; no network runs."""
        if self.cache is None:
            return None
        embedding = self.cache.get(self._embedding_key(image))
        tokens = None if self.text_model is None else self.cache.get(self._tokens_key(image))
        if embedding is None or (tokens is None and self.text_model is not None):
            return None
        return ImageFeatures(embedding, tokens)

    def take_fingerprints(self) -> None:
        """Do what `kept` needs of torch once, so that it is free of torch from then on.

        A second thread that runs one of torch's parallel loops has OpenMP count more threads than there are cores, and
        from then on every loop of every thread begins by waking its helpers up: all networks take 1.5 times as long.
        """
        for network in self.networks:
            _ = network.fingerprint

    def _embed(self, image: np.ndarray) -> np.ndarray:
        return self.segmenter.encode([image])[0].to(th.float16).cpu().numpy()

    def _embedding_key(self, image: np.ndarray) -> bytes:
        return image_key(f"sam {FORMAT} {self.segmenter.device.type}", self.segmenter.fingerprint, image)

    def _tokens_key(self, image: np.ndarray) -> bytes:
        assert self.text_model is not None
        kind = f"clip {FORMAT} {self.text_model.map_size} {self.text_model.device.type}"
        return image_key(kind, self.text_model.fingerprint, image)

    def _text(self, text_model: ClipSurgery, name: str) -> np.ndarray:
        """Features of a category's name over the prompt ensemble, (D,) float32."""
        kind = f"text {FORMAT} {text_model.device.type}"
        return self._kept(
            lambda: text_key(kind, text_model.fingerprint, name, PROMPT_TEMPLATES),
            lambda: text_model.prompt_features([name])[0].cpu().numpy(),
        )

    def _kept(self, key: Callable[[], bytes], compute: Callable[[], np.ndarray]) -> np.ndarray:
        """What is kept under a key, or else computed. Without a cache no fingerprint is taken, which costs time."""

        def count() -> np.ndarray:
            self.computed += 1
            return compute()

        return count() if self.cache is None else self.cache.get_or_compute(key(), count)


def open_cache(where: str | Path | bool | None, limit_gb: float, in_files: bool) -> FeatureCache | None:
    """The cache that an environment keyword asks for.

    :param where: a folder; False: none; None or True: the user's own cache folder, and with None only for images that
        lie in files, since drawn ones are endless.
    :param limit_gb: size in GB that it may grow to. :param in_files: whether the images lie in files.
    :raises InputError: the folder cannot be used.
    """
    if where is False or (where is None and not in_files):
        return None
    if where == "":
        raise InputError("cache needs a folder, true or false, got ''")
    if isinstance(limit_gb, bool) or not isinstance(limit_gb, int | float) or not MIN_LIMIT_GB <= limit_gb < 1e9:
        raise InputError(f"cache_gb needs a number of gigabytes >= {MIN_LIMIT_GB}, got {limit_gb!r}")
    if where not in (None, True):
        return FeatureCache(Path(str(where)).expanduser(), float(limit_gb))
    try:
        return FeatureCache(cache_home() / "features", float(limit_gb))
    except InputError as error:
        if where:
            raise
        # Nobody asked for it, so nothing ends without it; it only takes longer.
        warnings.warn(f"features of images are not kept: {error}", stacklevel=2)
        return None
