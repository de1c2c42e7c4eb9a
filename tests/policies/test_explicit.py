from __future__ import annotations

import pytest
import torch as th
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sb3_alignsam.envs import ClickGrid
from sb3_alignsam.envs.observations import Observations
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.similarity import SimilarityMaps
from sb3_alignsam.perception.text_models import shared_text_model
from sb3_alignsam.policies import ExplicitExtractor
from sb3_alignsam.policies.explicit import CrossAttention
from tests.policies.batches import random_batch

KEYS = (
    "sam_image_embeddings", "clip_similarity", "sam_pred_mask_prob", "click_map", "excluded_mask", "num_steps",
)  # fmt: skip
TOKENS = ("clip_tokens", "clip_text")


def _space(embedding=(64, 32, 32), image_size=256, num_patches=16, keys=KEYS, categories=("a", "b", "c")):
    grid = ClickGrid(image_size, num_patches=num_patches)
    maps = SimilarityMaps(shared_text_model("tiny"), categories)
    return Observations(embedding, image_size, grid, categories, 5, keys, maps).space()


@pytest.mark.parametrize(
    ("embedding", "image_size", "num_patches"),
    [
        ((64, 32, 32), 256, 16),
        ((256, 64, 64), 1024, 16),
        ((256, 64, 64), 1024, 32),
        ((8, 16, 16), 256, 16),
        ((8, 8, 8), 64, 16),
        ((8, 16, 16), 256, 12),
    ],
)
def test_any_embedding_size_and_grid(embedding, image_size, num_patches):
    space = _space(embedding, image_size, num_patches)
    extractor = ExplicitExtractor(space)
    features = extractor(random_batch(space, 2))
    assert features.shape == (2, extractor.features_dim)
    assert features.dtype == th.float32
    assert extractor.split(features)[0].shape == (2, *extractor.map_shape)


@pytest.mark.parametrize("settings", [{}, {"use_tokens": True}, {"heads": 1, "blocks": 2}])
def test_a_sample_does_not_see_the_rest_of_its_batch(settings):
    space = _space(keys=(*KEYS, *TOKENS))
    extractor = ExplicitExtractor(space, **settings)
    batch = random_batch(space, 7)
    together = extractor(batch)
    for row in range(7):
        alone = extractor({key: value[row : row + 1] for key, value in batch.items()})
        assert th.allclose(alone[0], together[row], atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) for module in extractor.modules())


@pytest.mark.parametrize("key", [*KEYS, *TOKENS])
def test_every_key_makes_a_difference(key):
    space = _space(keys=(*KEYS, *TOKENS))
    extractor = ExplicitExtractor(space, use_tokens=True)
    one, other = random_batch(space, 4, seed=0), random_batch(space, 4, seed=1)
    assert not th.allclose(extractor(one), extractor({**one, key: other[key]}), atol=1e-5)


def test_the_category_is_not_read_so_the_weights_fit_any_vocabulary():
    few, many = (_space(keys=(*KEYS, "target_category"), categories=tuple(map(str, range(n)))) for n in (3, 9))
    trained, other = ExplicitExtractor(few), ExplicitExtractor(many)
    other.load_state_dict(trained.state_dict())
    batch, wide = random_batch(few, 2), random_batch(many, 2)
    assert th.equal(trained(batch), other({**batch, "target_category": wide["target_category"]}))


def test_attention_looks_at_other_places_of_the_same_sample():
    """What CLIP sees in one corner reaches SAM's features in the opposite one, and no other sample's."""
    th.manual_seed(0)
    attention = CrossAttention(8, 6, 2)
    queries, keys = th.randn(2, 8, 6, 6), th.randn(2, 8, 6, 6)
    moved = keys.clone()
    moved[0, ::2, 0, 0] += 3  # every other channel: a constant shift is what LayerNorm takes away
    change = (attention(queries, moved) - attention(queries, keys)).abs().amax(dim=1)
    assert change[0, -1, -1] > 1e-4
    assert change[1].max() == 0
    assert not th.allclose(attention(queries, keys), queries)


def test_checkpointing_changes_no_gradient():
    space = _space()
    gradients = []
    for checkpointing in (False, True):
        th.manual_seed(0)
        extractor = ExplicitExtractor(space, checkpointing=checkpointing)
        extractor(random_batch(space, 3)).square().sum().backward()
        gradients.append({name: p.grad for name, p in extractor.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        assert th.allclose(gradient, gradients[1][name], rtol=1e-4, atol=1e-6), name


def test_autocast_runs_in_bfloat16_and_answers_in_float32():
    space = _space()
    th.manual_seed(0)
    exact = ExplicitExtractor(space)
    th.manual_seed(0)
    rough = ExplicitExtractor(space, autocast=True)
    batch = random_batch(space, 3)
    a, b = exact(batch), rough(batch)
    assert b.dtype == th.float32
    assert 1e-6 < (a - b).abs().max() < 0.05 * a.abs().max()


def test_a_smaller_temperature_tells_target_and_rival_further_apart():
    space = _space()
    batch = random_batch(space, 1)
    batch["clip_similarity"][:, 0], batch["clip_similarity"][:, 1] = 0.6, 0.4
    leads = []
    for temperature in (1.0, 0.05):
        extractor = ExplicitExtractor(space, temperature=temperature, keep_maps=True)
        extractor(batch)
        leads.append(float(extractor.seen_maps["similarity"][0, 2].mean()))
    assert leads == pytest.approx([0.55, 0.982], abs=0.005)


def test_it_is_cheap_at_full_size():
    space = _space((256, 64, 64), 1024)
    extractor, batch = ExplicitExtractor(space), random_batch(space, 1)
    with FlopCounterMode(display=False) as counter, th.no_grad():
        extractor(batch)
    assert counter.get_total_flops() <= 0.1e9


def test_what_cannot_be_used_is_named():
    without = _space(keys=[key for key in KEYS if key != "clip_similarity"])
    with pytest.raises(InputError, match=r"ExplicitExtractor reads 'clip_similarity' .*text_model:tiny"):
        ExplicitExtractor(without)
    with pytest.raises(InputError, match=r"reads 'clip_tokens' .*observation_keys"):
        ExplicitExtractor(_space(), use_tokens=True)
    with pytest.raises(InputError, match="heads needs a divisor of channels 32, got 5"):
        ExplicitExtractor(_space(), heads=5)
    with pytest.raises(InputError, match="temperature needs a number above 0"):
        ExplicitExtractor(_space(), temperature=0)
