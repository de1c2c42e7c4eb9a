"""Features of the latest photographs."""

from __future__ import annotations

import numpy as np
import torch as th

from sb3_alignsam.inference import kept_features
from sb3_alignsam.inference.kept_features import KeptFeatures
from sb3_alignsam.perception.frozen_features import ImageFeatures


class _Network:
    """Computes the mean of a photograph, and counts."""

    def __init__(self):
        self.computed = 0

    def __call__(self, image):
        self.computed += 1
        th.from_numpy(image)  # fails for a view that runs backwards
        return ImageFeatures(np.array([image.mean()], np.float16), None)


def test_one_pixel_makes_another_photograph():
    kept, network = KeptFeatures(2), _Network()
    image = np.zeros((100, 120, 3), np.uint8)
    for y, x in ((0, 0), (99, 119), (51, 37)):  # the last of these is none of those that are looked at first
        kept.of(image, network)
        other = image.copy()
        other[y, x] = 255
        assert kept.of(other, network).embedding > kept.of(image, network).embedding
    assert kept.of(image[:, ::-1], network).embedding == 0
    assert kept.of(other[::-1, :, ::-1], network).embedding > 0


def test_photographs_that_look_alike_at_first_are_kept_side_by_side():
    kept, network = KeptFeatures(2), _Network()
    images = [np.zeros((100, 120, 3), np.uint8) for _ in range(2)]
    images[1][51, 37] = 255
    for _ in range(2):
        assert [kept.of(image, network).embedding > 0 for image in images] == [False, True]
    assert network.computed == 2


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
