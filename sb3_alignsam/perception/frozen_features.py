"""What the frozen networks make of an image before the first click, computed once an image where there is a cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch as th

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.cache import MIN_LIMIT_GB, FeatureCache, image_key, text_key
from sb3_alignsam.perception.cache_home import cache_home
from sb3_alignsam.perception.clip_prompts import PROMPT_TEMPLATES
from sb3_alignsam.perception.clip_surgery import ClipSurgery
from sb3_alignsam.perception.segmenter import Segmenter
from sb3_alignsam.perception.similarity import SimilarityMaps, image_tokens


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
        self.maps = None
        if text_model is not None:
            texts = [self._text(text_model, name) for name in categories]
            self.maps = SimilarityMaps(text_model, categories, th.from_numpy(np.stack(texts)))

    def embedding(self, image: np.ndarray) -> np.ndarray:
        """SAM's embedding of an image, (C, h, w) float16. :param image: (H, W, 3) uint8 RGB."""

        def compute() -> np.ndarray:
            return self.segmenter.encode([image])[0].to(th.float16).cpu().numpy()

        if self.cache is None:
            return compute()
        return self.cache.get_or_compute(image_key("sam", self.segmenter.fingerprint, image), compute)

    def tokens(self, image: np.ndarray) -> np.ndarray | None:
        """CLIP Surgery's tokens of an image, (1+N, D) float16, see `image_tokens`; None without a text model."""
        text_model = self.text_model
        if text_model is None:
            return None
        if self.cache is None:
            return image_tokens(text_model, image)
        key = image_key("clip", f"{text_model.fingerprint} {text_model.map_size}", image)
        return self.cache.get_or_compute(key, lambda: image_tokens(text_model, image))

    def _text(self, text_model: ClipSurgery, name: str) -> np.ndarray:
        """Features of a category's name over the prompt ensemble, (D,) float32."""

        def compute() -> np.ndarray:
            return text_model.prompt_features([name])[0].cpu().numpy()

        if self.cache is None:
            return compute()
        key = text_key("text", text_model.fingerprint, name, PROMPT_TEMPLATES)
        return self.cache.get_or_compute(key, compute)


def open_cache(where: str | Path | bool | None, limit_gb: float, in_files: bool) -> FeatureCache | None:
    """The cache that an environment keyword asks for.

    :param where: a folder; False: none; None or True: the user's own cache folder, and with None only for images that
        lie in files, since drawn ones are endless.
    :param limit_gb: size in GB that it may grow to. :param in_files: whether the images lie in files.
    :raises InputError: the folder cannot be used.
    """
    if where is False or (where is None and not in_files):
        return None
    if isinstance(limit_gb, bool) or not isinstance(limit_gb, int | float) or not MIN_LIMIT_GB <= limit_gb < 1e9:
        raise InputError(f"cache_gb needs a number of gigabytes >= {MIN_LIMIT_GB}, got {limit_gb!r}")
    return FeatureCache(cache_home() / "features" if where in (None, True) else Path(str(where)), float(limit_gb))
