from __future__ import annotations

import numpy as np
import pytest
import torch as th
from torch.nn import functional as F

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.perception import Clicks, Segmenter, oracle_click
from sb3_alignsam.perception.decoder import ClickDecoder
from sb3_alignsam.perception.geometry import resize_longest_side, resized_shape
from sb3_alignsam.perception.segmenter import upsample_logits


@pytest.fixture(scope="module")
def samples():
    dataset = ShapesDataset("dev")
    return [dataset.get(index) for index in range(8)]


def _single(sample):
    click = oracle_click(sample.instances[0], np.zeros(sample.image.shape[:2], bool))
    return Clicks.of([click])


def test_one_click_gives_three_masks_and_more_give_one(segmenter, samples):
    embeddings = segmenter.encode([samples[0].image])
    assert embeddings.shape == (1, *segmenter.embedding_shape)
    one = segmenter.segment(embeddings, [Clicks(np.array([[40, 50]]), np.array([1]))], [(256, 256)])
    assert one.low_res.shape == (1, 3, 128, 128)
    assert one.iou.shape == (1, 3)
    assert one.upsample(0).shape == (3, 256, 256)
    two = segmenter.segment(embeddings, [Clicks(np.array([[40, 50], [9, 9]]), np.array([1, 0]))], [(256, 256)])
    assert two.low_res.shape == (1, 1, 128, 128)


def test_a_click_in_an_object_segments_that_object(segmenter, samples):
    embeddings = segmenter.encode([sample.image for sample in samples])
    masks = segmenter.segment(embeddings, [_single(sample) for sample in samples], [(256, 256)] * len(samples))
    scores = []
    for row, sample in enumerate(samples):
        mask = (masks.upsample(row)[int(masks.iou[row].argmax())] > 0).numpy()
        scores.append((mask & sample.instances[0]).sum() / (mask | sample.instances[0]).sum())
    assert np.mean(scores) > 0.5


def test_results_do_not_depend_on_what_else_is_in_the_batch(segmenter, samples):
    embeddings = segmenter.encode([sample.image for sample in samples[:4]])
    rng = np.random.default_rng(0)
    counts = [1, 3, 2, 3]
    clicks = [Clicks(rng.integers(0, 256, (n, 2)), rng.integers(0, 2, n)) for n in counts]
    previous = th.from_numpy(rng.normal(size=(4, 1, 128, 128)).astype(np.float32))
    together = segmenter.segment(embeddings, clicks, [(256, 256)] * 4, previous, multimask=False)
    for row in range(4):
        alone = segmenter.segment(
            embeddings[row : row + 1], [clicks[row]], [(256, 256)], previous[row : row + 1], multimask=False
        )
        assert th.allclose(alone.low_res[0], together.low_res[row], atol=1e-4, rtol=1e-4)
        assert th.allclose(alone.iou[0], together.iou[row], atol=1e-4)


def test_previous_logits_change_the_mask(segmenter, samples):
    embeddings = segmenter.encode([samples[0].image])
    clicks = [Clicks(np.array([[40, 50], [200, 200]]), np.array([1, 0]))]
    without = segmenter.segment(embeddings, clicks, [(256, 256)])
    fed = segmenter.segment(embeddings, clicks, [(256, 256)], previous=th.full((1, 1, 128, 128), 8.0))
    assert not th.allclose(without.low_res, fed.low_res, atol=0.1)


def test_a_photograph_of_another_shape_gets_masks_of_its_own_size(segmenter):
    image = np.random.default_rng(0).integers(0, 256, (90, 201, 3), np.uint8)
    masks = segmenter.segment(segmenter.encode([image]), [Clicks(np.array([[200, 89]]), np.array([1]))], [(90, 201)])
    assert masks.upsample(0).shape == (3, 90, 201)


@pytest.mark.parametrize("shape", [(256, 256), (90, 201), (480, 640), (700, 31), (1, 500)])
def test_upsampling_is_sams_own_interpolation(shape):
    low_res = th.randn(2, 64, 64, generator=th.Generator().manual_seed(0))
    square = F.interpolate(low_res[None], (256, 256), mode="bilinear", align_corners=False)
    height, width = resized_shape(*shape, 256)
    expected = F.interpolate(square[..., :height, :width], shape, mode="bilinear", align_corners=False)[0]
    assert th.allclose(upsample_logits(low_res, shape, 256), expected, atol=1e-4)


def test_padding_is_zero_after_normalising(segmenter):
    pixels = segmenter.preprocess(np.full((128, 256, 3), 255, np.uint8))
    assert pixels[:128].min() > 1
    assert not pixels[128:].any()


@pytest.mark.parametrize("shape", [(256, 256), (300, 400)])
def test_pixels_are_normalised_also_of_a_view_that_runs_backwards(segmenter, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    mean, std = segmenter.pixel_statistics
    resized = resize_longest_side(image[:, ::-1].copy(), 256)
    expected = (resized.astype(np.float32) - mean) / std
    assert np.array_equal(segmenter.preprocess(image[:, ::-1])[: len(resized)], expected)


def test_mixed_first_and_later_clicks_need_multimask_said(segmenter, samples):
    embeddings = segmenter.encode([samples[0].image, samples[1].image])
    clicks = [Clicks(np.zeros((1, 2)), np.ones(1)), Clicks(np.zeros((2, 2)), np.ones(2))]
    with pytest.raises(ValueError, match="say multimask"):
        segmenter.segment(embeddings, clicks, [(256, 256)] * 2)


def test_lengths_that_differ_are_refused(segmenter, samples):
    with pytest.raises(ValueError, match="of one length"):
        segmenter.segment(segmenter.encode([samples[0].image]), [], [(256, 256)])


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_rgb_photograph_is_refused(segmenter, image):
    with pytest.raises(ValueError, match="an image is"):
        segmenter.encode([image])


@pytest.mark.parametrize("dtype", [th.bfloat16, th.float16])
def test_clicks_a_pixel_apart_are_told_apart_in_half_precision(dtype):
    # bfloat16 knows 1000 and 1004, and nothing between.
    sparse = {}
    for each in (th.float32, dtype):
        th.manual_seed(0)
        decoder = ClickDecoder.of_size(32, 8, 1024, mlp_dim=32, num_heads=2)
        decoder.reset_parameters()
        sam = Segmenter(
            "small", th.nn.Identity(), decoder, image_size=1024, embedding_shape=(32, 8, 8), pixel_mean=(0, 0, 0),
            pixel_std=(1, 1, 1), dtype=each,
        )  # fmt: skip
        seen = sparse[each] = []
        encoding = decoder.prompt_encoder.shared_embedding
        encoding.register_forward_hook(lambda _, __, out, seen=seen: seen.append(out[0, 0, 0].float()))
        for x in (1001, 1002, 1003):
            clicks = [Clicks(np.array([[x, 700]]), np.array([1]))]
            masks = sam.segment(th.ones(1, 32, 8, 8), clicks, [(1024, 1024)])
            assert masks.low_res.isfinite().all()
    full, half = sparse[th.float32], sparse[dtype]
    assert all(th.allclose(ours, exact, atol=0.01) for ours, exact in zip(half, full, strict=True))
    for first, second in ((0, 1), (1, 2), (0, 2)):
        assert th.allclose(half[second] - half[first], full[second] - full[first], atol=1e-5)
        assert (half[second] - half[first]).abs().max() > 0.005
