"""What the frozen networks made of the latest photographs, for the questions about them that follow."""

from __future__ import annotations

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
        self._kept: list[tuple[_Key, np.ndarray, ImageFeatures]] = []
        """The latest are last."""

    def of(self, image: np.ndarray, compute: Callable[[np.ndarray], ImageFeatures]) -> ImageFeatures:
        """Features of an image, kept or computed. :param image: (H, W, 3) uint8, of any layout."""
        rows, columns = (-(-side // _SAMPLES) for side in image.shape[:2])
        key = image.shape, image[::rows, ::columns].tobytes()
        for place, (other, pixels, _) in enumerate(self._kept):
            if other == key and np.array_equal(pixels, image):
                self._kept.append(self._kept.pop(place))
                break
        else:
            pixels = image.copy()  # Contiguous, as torch needs it.
            self._kept.append((key, pixels, compute(pixels)))
        while len(self._kept) > self._most or (len(self._kept) > 1 and self._bytes() > MOST_BYTES):
            del self._kept[0]
        return self._kept[-1][2]

    def _bytes(self) -> int:
        return sum(pixels.nbytes for _, pixels, _ in self._kept)
