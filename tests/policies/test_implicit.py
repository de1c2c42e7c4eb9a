from __future__ import annotations

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sb3_alignsam.envs import ClickGrid, make_env
from sb3_alignsam.envs.observations import DEFAULT_KEYS, TEXT_KEYS, Observations
from sb3_alignsam.errors import InputError
from sb3_alignsam.policies import ImplicitExtractor
from tests.policies.batches import random_batch

KEYS = tuple(key for key in DEFAULT_KEYS if key not in TEXT_KEYS)


def _space(embedding=(64, 32, 32), image_size=256, num_patches=16, keys=KEYS):
    grid = ClickGrid(image_size, num_patches=num_patches)
    return Observations(embedding, image_size, grid, ("a", "b", "c"), 5, keys).space()


@pytest.mark.parametrize(
    ("embedding", "image_size", "num_patches"),
    [
        ((64, 32, 32), 256, 16),
        ((256, 64, 64), 1024, 16),
        ((256, 64, 64), 1024, 32),
        ((8, 16, 16), 256, 16),
        ((8, 8, 8), 64, 16),
    ],
)
def test_any_embedding_size_and_grid(embedding, image_size, num_patches):
    space = _space(embedding, image_size, num_patches)
    extractor = ImplicitExtractor(space)
    features = extractor(random_batch(space, 2))
    assert features.shape == (2, extractor.features_dim)
    assert features.dtype == th.float32
    feature_map, vector = extractor.split(features)
    assert feature_map.shape == (2, *extractor.map_shape)
    assert extractor.map_shape[1] == num_patches
    assert vector.shape == (2, extractor.vector_dim)


def test_a_sample_does_not_see_the_rest_of_itsrandom_batch():
    space = _space()
    extractor = ImplicitExtractor(space)
    batch = random_batch(space, 7)
    together = extractor(batch)
    for row in range(7):
        alone = extractor({key: value[row : row + 1] for key, value in batch.items()})
        assert th.allclose(alone[0], together[row], atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) for module in extractor.modules())


def test_autocast_runs_in_bfloat16_and_answers_in_float32():
    space = _space()
    extractors = []
    for autocast in (False, True):
        th.manual_seed(0)
        extractors.append(ImplicitExtractor(space, autocast=autocast))
    batch = random_batch(space, 3)
    a, b = (extractor(batch) for extractor in extractors)
    assert b.dtype == th.float32
    assert 1e-6 < (a - b).abs().max() < 0.05 * a.abs().max()


@pytest.mark.parametrize("key", KEYS)
def test_every_key_makes_a_difference(key):
    space = _space()
    extractor = ImplicitExtractor(space)
    one, other = random_batch(space, 4, seed=0), random_batch(space, 4, seed=1)
    changed = {**one, key: other[key]}
    assert not th.allclose(extractor(one), extractor(changed), atol=1e-5)


def test_a_click_changes_the_map_near_itself():
    space = _space()
    extractor = ImplicitExtractor(space)
    batch = random_batch(space, 1)
    batch["click_map"] = th.zeros_like(batch["click_map"])
    marked = {**batch, "click_map": batch["click_map"].clone()}
    marked["click_map"][0, 0, 3, 12] = 1
    difference = (extractor.split(extractor(marked))[0] - extractor.split(extractor(batch))[0]).abs().sum(dim=1)[0]
    rows, columns = np.unravel_index(int(difference.argmax()), difference.shape)
    assert abs(rows - 3) <= 1
    assert abs(columns - 12) <= 1


def test_it_works_without_the_keys_it_does_not_need():
    space = _space(keys=[key for key in KEYS if key != "excluded_mask"])
    assert ImplicitExtractor(space)(random_batch(space, 1)).isfinite().all()


def test_a_missing_key_is_named():
    with pytest.raises(InputError, match="reads 'click_map' from the environment: add it"):
        ImplicitExtractor(_space(keys=[key for key in KEYS if key != "click_map"]))
    with pytest.raises(InputError, match="needs a Dict"):
        ImplicitExtractor(spaces.Box(0, 1, (3,)))


def test_it_serves_sb3s_own_policy_as_a_plain_extractor():
    env = make_env("SamSegShapes-v0", {"split": "dev", "max_steps": 2})
    kwargs = {"features_extractor_class": ImplicitExtractor}
    model = PPO("MultiInputPolicy", env, n_steps=4, batch_size=4, n_epochs=1, policy_kwargs=kwargs, device="cpu")
    before = model.policy.features_extractor.reader.reduce.weight.clone()
    model.learn(4)
    assert not th.equal(before, model.policy.features_extractor.reader.reduce.weight)


def test_its_cost_at_full_size_is_of_the_order_of_a_click():
    space = _space((256, 64, 64), 1024, 16)
    extractor = ImplicitExtractor(space)
    batch = random_batch(space, 1)
    with FlopCounterMode(display=False) as counter:
        extractor(batch)
    assert counter.get_total_flops() <= 0.1e9
