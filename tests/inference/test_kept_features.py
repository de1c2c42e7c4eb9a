"""Features of the latest photographs."""

from __future__ import annotations

import numpy as np

from sb3_alignsam.inference import kept_features
from sb3_alignsam.inference.kept_features import KeptFeatures
from sb3_alignsam.perception.frozen_features import ImageFeatures


class _Network:
    """Computes the mean of a photograph, and counts."""

    def __init__(self):
        self.computed = 0

    def __call__(self, image):
        self.computed += 1
        return ImageFeatures(np.array([image.mean()], np.float16), None)


def test_one_pixel_makes_another_photograph():
    kept, network = KeptFeatures(2), _Network()
    image = np.zeros((100, 120, 3), np.uint8)
    for y, x in ((0, 0), (99, 119), (51, 37)):  # the last of these is none of those that are looked at first
        kept.of(image, network)
        other = image.copy()
        other[y, x] = 255
        assert kept.of(other, network).embedding > kept.of(image, network).embedding
    assert kept.of(image[:, ::-1], network).embedding == 0  # not contiguous


def test_a_photograph_that_is_overwritten_is_another():
    kept, network = KeptFeatures(1), _Network()
    image = np.zeros((40, 40, 3), np.uint8)
    kept.of(image, network)
    image[:] = 9
    assert kept.of(image, network).embedding == 9
    assert kept.of(image.copy(), network).embedding == 9
    assert network.computed == 2


def test_the_oldest_goes_first_and_large_ones_sooner(monkeypatch):
    images = [np.full((30, 30 + number, 3), number, np.uint8) for number in range(4)]
    kept, network = KeptFeatures(3), _Network()
    for number in (0, 1, 2, 0, 3, 0, 2):
        kept.of(images[number], network)
    assert network.computed == 4
    kept.of(images[1], network)
    assert network.computed == 5
    monkeypatch.setattr(kept_features, "MOST_BYTES", 2 * images[3].nbytes)
    kept, network = KeptFeatures(3), _Network()
    for number in (0, 1, 2, 1, 2):
        kept.of(images[number], network)
    assert network.computed == 3
    kept.of(images[0], network)
    assert network.computed == 4
    monkeypatch.setattr(kept_features, "MOST_BYTES", 1)
    for _ in range(2):
        kept.of(images[1], network)
    assert network.computed == 5
