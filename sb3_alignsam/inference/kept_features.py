"""What the frozen networks made of the latest photographs, for the questions about them that follow."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from sb3_alignsam.perception.frozen_features import ImageFeatures

MOST_BYTES = 2**28
"""Of all pixels kept: 20 photographs of four megapixels, or the latest alone where it is larger than this."""
_SAMPLES = 16
"""Pixels a side by which photographs are told apart at first."""
_Key = tuple[tuple[int, ...], bytes]


class KeptFeatures:
    """Features by pixels. The pixels themselves are kept, and not a digest, which takes ten times as long as to compare
    them; nor the caller's array, which may be overwritten.

    :param most: photographs kept, at least 1; fewer where their pixels have more than `MOST_BYTES`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[_Key, tuple[np.ndarray, ImageFeatures]] = OrderedDict()

    def of(self, image: np.ndarray, compute: Callable[[np.ndarray], ImageFeatures]) -> ImageFeatures:
        """Features of an image, kept or computed. :param image: (H, W, 3) uint8."""
        rows, columns = (-(-side // _SAMPLES) for side in image.shape[:2])
        key = image.shape, image[::rows, ::columns].tobytes()
        kept = self._kept.pop(key, None)
        if kept is None or not np.array_equal(kept[0], image):
            kept = image.copy(), compute(image)
        self._kept[key] = kept
        while len(self._kept) > self._most or (len(self._kept) > 1 and self._bytes() > MOST_BYTES):
            self._kept.popitem(last=False)
        return kept[1]

    def _bytes(self) -> int:
        return sum(pixels.nbytes for pixels, _ in self._kept.values())
