from __future__ import annotations

import pytest
import torch as th

from sb3_alignsam.policies import layers
from sb3_alignsam.policies.layers import EmbeddingReader, products


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


def test_the_reader_reduces_the_embedding_weighted_by_the_mask():
    th.manual_seed(0)
    reader = EmbeddingReader(6, 3, window=2)
    embedding, probability = th.randn(2, 6, 4, 4), th.rand(2, 1, 4, 4)
    queries = th.randn(2, 5, 6)
    features, answers = reader(embedding, probability, queries)
    weighted = embedding * probability + embedding
    expected = reader.gather(th.einsum("kc,bchw->bkhw", reader.reduce.weight, weighted))
    assert th.allclose(features, expected, atol=1e-5)
    assert th.allclose(answers, th.einsum("bqc,bchw->bqhw", queries, embedding), atol=1e-5)
    assert reader(embedding, probability)[1].shape == (2, 0, 4, 4)


def test_the_reader_follows_autocast():
    th.manual_seed(0)
    reader = EmbeddingReader(6, 3, window=1)
    embedding, probability = th.randn(2, 6, 4, 4).half(), th.rand(2, 1, 4, 4)
    exact = reader(embedding, probability)[0]
    with th.autocast("cpu", th.bfloat16):
        rough = reader(embedding, probability)[0]
    assert rough.dtype == th.bfloat16
    assert not th.equal(rough.float(), exact)
    assert th.allclose(rough.float(), exact, atol=0.05)
