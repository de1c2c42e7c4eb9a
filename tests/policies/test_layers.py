from __future__ import annotations

import pytest
import torch as th

from sb3_alignsam.policies import layers
from sb3_alignsam.policies.layers import EmbeddingReader, halved, products


@pytest.mark.parametrize("part_bytes", [1, 4 * 2 * 16 * 3, 2**30])
def test_products_and_their_gradients_are_those_of_a_plain_product(part_bytes, monkeypatch):
    monkeypatch.setattr(layers, "PART_BYTES", part_bytes)
    th.manual_seed(0)
    embedding = th.randn(5, 16, 3).half()
    weights = th.randn(5, 4, 16, requires_grad=True)
    plain = weights.detach().clone().requires_grad_()
    expected, found = plain @ embedding.float(), products(weights, embedding)
    assert th.allclose(found, expected, atol=1e-6)
    towards = th.randn_like(expected)
    (found * towards).sum().backward()
    (expected * towards).sum().backward()
    assert th.allclose(weights.grad, plain.grad, atol=1e-6)


@pytest.mark.parametrize("height", [4, 5])  # 5: a row and a column are left over
def test_the_reader_reduces_the_embedding_weighted_by_the_mask(height):
    th.manual_seed(0)
    reader = EmbeddingReader((6, height, height), 3, side=2)
    embedding, probability = th.randn(2, 6, height, height), th.rand(2, 1, height, height)
    queries = th.randn(2, 5, 6)
    features, answers = reader(embedding, probability, queries)
    weighted = embedding * probability + embedding
    expected = reader.gather(th.einsum("kc,bchw->bkhw", reader.reduce.weight, weighted))
    assert th.allclose(features, expected, atol=1e-5)
    products_of_cells = th.einsum("bqc,bchw->bqhw", queries, embedding)
    assert th.allclose(answers, th.nn.functional.avg_pool2d(products_of_cells, 2), atol=1e-5)
    assert reader(embedding, probability)[1].shape == (2, 0, 2, 2)


@pytest.mark.parametrize(
    ("height", "side", "halvings", "read_side"),
    [(64, 16, 1, 16), (32, 16, 0, 16), (64, 8, 2, 8), (64, 6, 2, 8), (20, 1, 2, 1), (4, 16, 0, 4), (7, 3, 0, 3)],
)
def test_an_embedding_is_halved_where_a_patch_has_many_cells(height, side, halvings, read_side):
    reader = EmbeddingReader((3, height, height), 2, side)
    assert reader.halvings == halvings
    embedding, probability = th.randn(1, 3, height, height).half(), th.rand(1, 1, height, height)
    found = reader(embedding, probability, th.randn(1, 5, 3))
    assert found[0].shape == (1, 2, read_side, read_side)
    assert found[1].shape == (1, 5, read_side, read_side)


@pytest.mark.parametrize("part_bytes", [1, 2**30])
@pytest.mark.parametrize("times", [1, 2])
def test_halving_averages_and_large_cells_do_not_overflow(times, part_bytes, monkeypatch):
    monkeypatch.setattr(layers, "PART_BYTES", part_bytes)
    embedding = (60000 * (2 * th.rand(3, 2, 8, 12) - 1)).half()
    expected = th.nn.functional.avg_pool2d(embedding.float(), 2**times)
    assert th.allclose(halved(embedding, times, th.float32), expected, atol=60)  # half a unit of float16 at 60000 is 16


def test_steps_of_one_episode_may_share_its_embedding():
    th.manual_seed(0)
    reader = EmbeddingReader((6, 8, 8), 3, side=2)
    embedding, probability, rows = th.randn(2, 6, 8, 8).half(), th.rand(3, 1, 8, 8), th.tensor([1, 0, 1])
    queries = th.randn(2, 5, 6)
    shared = reader(embedding, probability, queries, rows)
    apart = reader(embedding[rows], probability, queries[rows])
    assert all(th.allclose(a, b, atol=1e-6) for a, b in zip(shared, apart, strict=True))


def test_the_reader_follows_autocast():
    th.manual_seed(0)
    reader = EmbeddingReader((6, 4, 4), 3, side=4)
    embedding, probability = th.randn(2, 6, 4, 4).half(), th.rand(2, 1, 4, 4)
    exact = reader(embedding, probability)[0]
    with th.autocast("cpu", th.bfloat16):
        rough = reader(embedding, probability)[0]
    assert rough.dtype == th.bfloat16
    assert not th.equal(rough.float(), exact)
    assert th.allclose(rough.float(), exact, atol=0.05)
