"""Similarity maps of a photograph on SAM's own geometry, so that they lie on SAM's image embedding cell for cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch as th
from torch.nn import functional as F

from sb3_alignsam.perception.clip_surgery import ClipSurgery, stretch
from sb3_alignsam.perception.geometry import cells_inside, resize_longest_side, resized_shape

CLIP_MEAN = (122.7709383, 116.7460125, 104.09373615)
"""RGB mean in 0..255 of CLIP's training pictures (OpenAI's `clip.py`, `_transform`)."""
CLIP_STD = (68.5005327, 66.6321579, 70.32316305)


def clip_pixels(images: th.Tensor) -> th.Tensor:
    """Normalise as CLIP asks.

    :param images: RGB in 0..255, (B, H, W, 3), any type. :return: (B, 3, H, W) float32.
    """
    mean, std = (th.tensor(values, device=images.device)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return (images.permute(0, 3, 1, 2).float() - mean) / std


def token_grid(clip: ClipSurgery, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of patches of a (height, width) photograph, the last ones perhaps cut by its edge."""
    rows, columns = (-(-side // clip.patch_size) for side in resized_shape(height, width, clip.map_size))
    return rows, columns


def image_tokens(clip: ClipSurgery, image: np.ndarray) -> np.ndarray:
    """Tokens of a photograph whose longest side is scaled to `clip.map_size`, aspect kept as SAM keeps it.

    :param image: (H, W, 3) uint8 RGB. :return: CLS first, then the patches of `token_grid`, (1+N, D) float16.
    """
    resized = resize_longest_side(image, clip.map_size)
    rows, columns = token_grid(clip, *image.shape[:2])
    pixels = clip_pixels(th.tensor(resized)[None])
    below, right = rows * clip.patch_size - resized.shape[0], columns * clip.patch_size - resized.shape[1]
    # Only up to the end of the last patch, and not to SAM's square: the rest of it would be cropped away again.
    tokens = clip.image_tokens(F.pad(pixels, (0, right, 0, below)))
    return tokens[0].to(th.float16).cpu().numpy()


class SimilarityMaps:
    """Where a photograph looks like a category, for one vocabulary.

    The texts that a map is made against are always the whole vocabulary and the asked name, because feature surgery
    subtracts what all texts share: so a map does not shift with what else was asked.

    :param clip: the frozen CLIP. :param categories: the vocabulary.
    :param texts: features of the vocabulary, (T, D); None: computed here.
    """

    def __init__(self, clip: ClipSurgery, categories: Sequence[str], texts: th.Tensor | None = None) -> None:
        self.clip = clip
        self.categories = tuple(categories)
        self._texts = clip.prompt_features(self.categories) if texts is None else texts.to(clip.device)

    def scores(self, tokens: np.ndarray, category: str) -> th.Tensor:
        """Surgery scores of each patch, (N, T) float32 on the CPU; the asked category's come first.

        :param tokens: of `image_tokens`, (1+N, D). :param category: of the vocabulary, or any other name.
        """
        texts = self._against(category)
        image = th.from_numpy(tokens).to(self.clip.device).float()[None]
        # One text alone has nothing to be compared with; then it is what every text shares that is subtracted.
        redundant = self.clip.prompt_features([""]) if len(texts) == 1 else None
        return ClipSurgery.surgery(image, texts, redundant)[0, 1:].cpu()

    def maps(self, tokens: np.ndarray, image_size: tuple[int, int], category: str, side: int) -> np.ndarray:
        """The target's map and the strongest other category's on SAM's padded square, (2, side, side) float16 in 0..1.

        The target's map is stretched to 0..1 as CLIP Surgery does. The other is, cell by cell, the highest score of any
        other category, stretched by the target's own range, so that the two can be compared. Padding is 0.

        :param tokens: of `image_tokens`. :param image_size: H, W of the photograph in pixels.
        :param side: of the grid, that of SAM's embedding.
        """
        scores = self.scores(tokens, category)
        target = scores[:, :1]
        other = scores[:, 1:].amax(dim=1, keepdim=True) if scores.shape[1] > 1 else target.amin().expand_as(target)
        low, spread = target.amin(), target.amax() - target.amin()
        rival = ((other - low) / spread).clamp(0, 1) if spread > 0 else th.zeros_like(other)
        both = th.cat([stretch(target[None])[0], rival], dim=1).T
        return self._on_square(both, image_size, side)

    @property
    def tokens_shape(self) -> tuple[int, int, int]:
        """Shape of `token_map`: channels and patches a side of the square."""
        side = self.clip.map_size // self.clip.patch_size
        return self._texts.shape[1], side, side

    def token_map(self, tokens: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
        """The patch tokens themselves on SAM's padded square, (D, s, s) float16, s patches a side; padding is 0."""
        square = np.zeros(self.tokens_shape, np.float16)
        rows, columns = token_grid(self.clip, *image_size)
        square[:, :rows, :columns] = tokens[1:].T.reshape(-1, rows, columns)
        return square

    def _on_square(self, values: th.Tensor, image_size: tuple[int, int], side: int) -> np.ndarray:
        """:param values: of patches, (C, N). :return: (C, side, side) float16, 0 where a cell's centre is padding."""
        grid_shape = token_grid(self.clip, *image_size)
        patches = self.clip.map_size // self.clip.patch_size
        grid = values.reshape(1, -1, *grid_shape)
        # The edge goes on into the padding, so that enlarging does not darken the photograph's own border.
        below, right = (patches - cells for cells in grid_shape)
        square = F.pad(grid, (0, right, 0, below), mode="replicate")
        enlarged = F.interpolate(square, (side, side), mode="bilinear", align_corners=False)[0]
        inside = th.from_numpy(cells_inside(*image_size, self.clip.map_size, side))
        return (enlarged * inside).to(th.float16).numpy()

    def text_features(self, category: str) -> th.Tensor:
        """Features of a category's name, of the vocabulary or any other, of unit length; (D,) float32 on the CPU."""
        return self._against(category)[0].float().cpu()

    def _against(self, category: str) -> th.Tensor:
        """Text features with the asked category's first, (T, D)."""
        if category in self.categories:
            index = self.categories.index(category)
            order = [index, *(other for other in range(len(self.categories)) if other != index)]
            return self._texts[order]
        return th.cat([self.clip.prompt_features([category]), self._texts])
