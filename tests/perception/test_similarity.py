from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch as th
from transformers import CLIPConfig, CLIPModel

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.perception.clip_surgery import ClipSurgery
from sb3_alignsam.perception.similarity import SimilarityMaps, image_tokens, token_grid
from sb3_alignsam.perception.text_models import load_text_model


@pytest.fixture(scope="module")
def clip():
    return load_text_model("tiny")


class _BrightnessClip:
    """Stands for a CLIP whose first category is brightness and whose second is darkness, so that a map is known."""

    device = th.device("cpu")

    def __init__(self, patch_size=16, map_size=256):
        self.patch_size, self.map_size = patch_size, map_size

    def prompt_features(self, names):
        signs = {"bright": 1.0, "dark": -1.0}
        return th.tensor([[signs.get(name, 0.0), float(name not in signs)] for name in names])

    def image_tokens(self, pixels):
        grey = th.nn.functional.avg_pool2d(pixels.mean(dim=1), self.patch_size).flatten(1)
        patches = th.stack([grey, th.ones_like(grey)], dim=2)
        return th.cat([th.tensor([[[0.0, 1.0]]]).expand(len(pixels), 1, 2), patches], dim=1)


@pytest.mark.parametrize("patch", [8, 16])
@pytest.mark.parametrize("size", [(480, 640), (640, 480), (300, 300), (333, 500)])
@pytest.mark.parametrize("corner", ["top left", "top right", "bottom left", "bottom right"])
def test_a_marked_corner_lies_where_it_lies_on_sams_embedding(size, corner, patch):
    height, width = size
    image = np.full((height, width, 3), 20, np.uint8)
    rows = slice(0, height // 4) if "top" in corner else slice(height - height // 4, height)
    columns = slice(0, width // 4) if "left" in corner else slice(width - width // 4, width)
    image[rows, columns] = 250
    maps = SimilarityMaps(_BrightnessClip(patch), ["bright", "dark"])
    target = maps.maps(image_tokens(maps.clip, image), size, "bright", 32)[0].astype(float)
    # What SAM's 32x32 embedding sees of the mark: how much of each of its cells on the padded square.
    share = _cell_shares(image[..., 0] > 100, 32)
    assert (target[share > 0.99] > 0.5).mean() > 0.9
    assert (target[share < 0.01] < 0.5).mean() > 0.97
    ys, xs = np.nonzero(target > 0.5)
    expected_ys, expected_xs = np.nonzero(share > 0.5)
    assert ys.mean() == pytest.approx(expected_ys.mean(), abs=0.6 * patch / 16)
    assert xs.mean() == pytest.approx(expected_xs.mean(), abs=0.6 * patch / 16)


def _cell_shares(mask, side):
    """Part of each cell of the padded square that a mask covers, (side, side)."""
    longest = max(mask.shape)
    square = np.zeros((longest, longest), np.float32)
    square[: mask.shape[0], : mask.shape[1]] = mask
    return cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)


def test_padding_is_zero_and_the_photographs_own_border_is_not_darkened():
    image = np.full((128, 256, 3), 20, np.uint8)
    image[64:] = 250
    maps = SimilarityMaps(_BrightnessClip(), ["bright", "dark"])
    target = maps.maps(image_tokens(maps.clip, image), (128, 256), "bright", 32)[0]
    assert not target[16:].any()
    assert (target[9:16] == 1).all()


def test_tokens_are_of_the_photograph_and_not_of_padding(clip):
    assert token_grid(clip, 480, 640) == (15, 20)
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    tokens = image_tokens(clip, image)
    assert tokens.shape == (1 + 15 * 20, 64)
    assert tokens.dtype == np.float16


def test_a_map_does_not_shift_with_what_else_was_asked(clip):
    sample = ShapesDataset("dev").get(3)
    tokens = image_tokens(clip, sample.image)
    one = SimilarityMaps(clip, ShapesDataset("dev").categories)
    before = one.maps(tokens, (256, 256), sample.category, 32)
    one.maps(tokens, (256, 256), "traffic light", 32)
    assert np.array_equal(before, one.maps(tokens, (256, 256), sample.category, 32))
    assert not np.array_equal(before, one.maps(tokens, (256, 256), "traffic light", 32))


def test_a_name_outside_the_vocabulary_is_compared_with_all_of_it(clip):
    sample = ShapesDataset("dev").get(3)
    tokens = image_tokens(clip, sample.image)
    rest = [name for name in ShapesDataset("dev").categories if name != "star"]
    outside = SimilarityMaps(clip, rest).scores(tokens, "star")
    inside = SimilarityMaps(clip, [*rest, "star"]).scores(tokens, "star")
    assert th.allclose(outside[:, 0], inside[:, 0], atol=1e-5)
    assert outside.shape == inside.shape


def test_a_vocabulary_of_one_still_gives_a_map(clip):
    sample = ShapesDataset("dev").get(3)
    both = SimilarityMaps(clip, [sample.category]).maps(
        image_tokens(clip, sample.image), (256, 256), sample.category, 32
    )
    assert both[0].max() > 0.9
    assert not both[1].any()


def test_the_other_map_is_the_strongest_other_category_on_the_targets_scale():
    image = np.full((256, 256, 3), 20, np.uint8)
    image[:128] = 250
    maps = SimilarityMaps(_BrightnessClip(), ["bright", "dark"])
    both = maps.maps(image_tokens(maps.clip, image), (256, 256), "bright", 32)
    assert (both[0, :15] == 1).all()
    assert (both[1, 17:] > 0.5).all()
    assert (both[1, :15] < 0.5).all()


def test_the_tokens_themselves_lie_on_the_square_too(clip):
    image = np.random.default_rng(0).integers(0, 255, (128, 256, 3), dtype=np.uint8)
    maps = SimilarityMaps(clip, ["a", "b"])
    tokens = image_tokens(clip, image)
    square = maps.token_map(tokens, (128, 256))
    assert square.shape == maps.tokens_shape == (64, 20, 20)
    assert np.array_equal(square[:, 9, 19], tokens[-1])
    assert not square[:, 10:].any()


def test_points_of_a_rectangular_grid_lie_in_the_picture():
    scores = th.zeros(12 * 16)
    scores[5 * 16 + 9] = 1.0
    points, labels = ClipSurgery.points(scores, (480, 640), 0.8, grid=(12, 16))
    assert points[0].tolist() == [int(4.5 * 80), int(2.5 * 80)]
    assert labels.tolist() == [1, 0]


def test_patches_that_do_not_divide_the_size_still_lie_right():
    """ViT-L/14 at 512 pixels has no whole number of patches: the size is rounded."""
    config = CLIPConfig(
        vision_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1,
                       "image_size": 28, "patch_size": 14},
        text_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1},
        projection_dim=8,
    )  # fmt: skip
    clip = ClipSurgery(CLIPModel(config))
    assert (clip.map_size, clip.patch_size) == (518, 14)
    image = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    assert image_tokens(clip, image).shape == (1 + 37 * 37, 8)


@pytest.mark.parametrize("size", [(1, 300), (300, 1)])
def test_a_very_thin_picture_has_a_map_where_it_can_be_clicked(size):
    image = np.linspace(0, 255, 300).astype(np.uint8).reshape(*size, 1).repeat(3, axis=2)
    maps = SimilarityMaps(_BrightnessClip(), ["bright", "dark"])
    assert maps.maps(image_tokens(maps.clip, image), size, "bright", 32)[0].max() > 0.9
