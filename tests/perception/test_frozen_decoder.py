from __future__ import annotations

from copy import deepcopy

import pytest
import torch as th

from sb3_alignsam.perception.decoder import ClickDecoder
from sb3_alignsam.perception.frozen_decoder import FrozenDecoder

SIDE, IMAGE = 8, 128


@pytest.fixture(scope="module")
def decoder() -> ClickDecoder:
    th.manual_seed(0)
    decoder = ClickDecoder.of_size(32, SIDE, IMAGE, mlp_dim=48, num_heads=2)
    decoder.reset_parameters()
    for parameter in decoder.parameters():  # fresh biases and norms would hide a mistake about them
        parameter.data += 0.1 * th.randn_like(parameter)
    return decoder.eval().requires_grad_(False)


def _prompt(batch: int, clicks: int, refined: bool):
    generator = th.Generator().manual_seed(batch + 10 * clicks)
    embeddings = th.randn(batch, 32, SIDE, SIDE, generator=generator)
    points = IMAGE * th.rand(batch, clicks, 2, generator=generator)
    labels = th.randint(0, 2, (batch, clicks), generator=generator)
    previous = 3 * th.randn(batch, 1, 4 * SIDE, 4 * SIDE, generator=generator) if refined else None
    return embeddings, points, labels, previous


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("refined", [True, False])
@pytest.mark.parametrize(("batch", "clicks"), [(1, 1), (3, 1), (1, 4), (3, 7)])
def test_it_computes_what_transformers_modules_do(decoder, batch, clicks, refined, multimask):
    prompt = _prompt(batch, clicks, refined)
    expected = decoder(*prompt, multimask)
    found = FrozenDecoder(decoder)(*prompt, multimask)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert float((ours - theirs).abs().max()) < 1e-5 * float(theirs.abs().max())


def test_an_image_is_decoded_alike_alone_and_in_a_batch(decoder):
    embeddings, points, labels, previous = _prompt(5, 3, True)
    frozen = FrozenDecoder(decoder)
    together = frozen(embeddings, points, labels, previous, False)
    for row in range(5):
        mine = slice(row, row + 1)
        alone = frozen(embeddings[mine], points[mine], labels[mine], previous[mine], False)
        for one, all_ in zip(alone, together, strict=True):
            assert th.allclose(one, all_[mine], atol=1e-4, rtol=1e-5)


def test_embeddings_in_any_memory_order_are_the_same(decoder):
    embeddings, *rest = _prompt(2, 2, True)
    frozen = FrozenDecoder(decoder)
    channels_last = embeddings.contiguous(memory_format=th.channels_last)
    assert th.allclose(frozen(channels_last, *rest, True)[0], frozen(embeddings, *rest, True)[0], atol=1e-4)


def test_no_weight_is_written_to(decoder):
    before = {name: each.clone() for name, each in decoder.state_dict().items()}
    frozen = FrozenDecoder(decoder)
    for clicks in (1, 2):
        frozen(*_prompt(2, clicks, clicks > 1), clicks == 1)
    assert all(th.equal(before[name], each) for name, each in decoder.state_dict().items())


@pytest.mark.parametrize("clicks", [1, 4])
def test_the_best_mask_is_chosen_for_each_image_by_whether_it_is_refined(decoder, clicks):
    decoder = deepcopy(decoder)
    *prompt, previous = _prompt(6, clicks, True)
    # As random weights are, one mask is predicted to be the best for every image; now each is for some.
    bias = decoder.mask_decoder.iou_prediction_head.proj_out.bias
    bias[1:] -= FrozenDecoder(decoder)(*prompt, None, True)[1].mean(dim=0)
    frozen = FrozenDecoder(decoder)
    refining = th.tensor([True, False, True, False, False, True])
    low_res, iou = frozen.best(*prompt, previous, refining)
    assert (low_res.shape, iou.shape) == ((6, 1, 4 * SIDE, 4 * SIDE), (6, 1))
    three, of_three = frozen(*prompt, None, True)
    one, of_one = frozen(*prompt, previous, False)
    best = of_three.argmax(dim=1)
    assert len(best[~refining].unique()) > 1  # else the choice would not be seen
    for row, refined in enumerate(refining):
        expected = (one[row, 0], of_one[row, 0]) if refined else (three[row, best[row]], of_three[row, best[row]])
        assert th.allclose(low_res[row, 0], expected[0], atol=1e-4)
        assert th.allclose(iou[row, 0], expected[1], atol=1e-5)
