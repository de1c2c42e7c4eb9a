"""`torch.compile` changes how an extractor is computed, not what."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th
from sb3_contrib import MaskablePPO

from sb3_alignsam.envs import make_env
from sb3_alignsam.errors import InputError
from sb3_alignsam.policies import ExplicitExtractor, ImplicitExtractor, MaskableExplicitPolicy, MaskableImplicitPolicy
from sb3_alignsam.policies.features import EPISODE_ROWS
from tests.policies.batches import random_batch


def _env():
    return make_env("SamSegShapes-v0", {"split": "dev", "text_model": "tiny"})


@pytest.mark.long
@pytest.mark.parametrize("kind", [ImplicitExtractor, ExplicitExtractor])
def test_features_and_gradients_stay_what_they_are(kind):
    space = _env().observation_space
    plain, compiled = kind(space), kind(space, compiled=True)
    compiled.load_state_dict(plain.state_dict())
    # Sizes change from call to call, and so does how many steps share an embedding.
    for size, episodes in ((4, 4), (6, 3), (6, 5)):
        batch = random_batch(space, size)
        if episodes < size:
            rows = np.arange(size) % episodes
            batch[EPISODE_ROWS] = th.as_tensor(rows)
            batch["sam_image_embeddings"] = batch["sam_image_embeddings"][:episodes]
        found = []
        for extractor in (plain, compiled):
            extractor.zero_grad()
            features = extractor(batch)
            features.square().sum().backward()
            found.append((features.detach(), {name: each.grad for name, each in extractor.named_parameters()}))
        assert th.allclose(found[0][0], found[1][0], atol=1e-4)
        for name, gradient in found[0][1].items():
            assert th.allclose(gradient, found[1][1][name], rtol=1e-3, atol=1e-3), name


@pytest.mark.long
def test_a_compiled_policy_trains_and_its_zip_is_like_any_other(tmp_path):
    settings = {"channels": 8, "map_channels": 8, "compiled": True}
    model = MaskablePPO(
        MaskableImplicitPolicy, _env(), n_steps=8, batch_size=8, n_epochs=1, policy_kwargs=settings, device="cpu"
    )
    model.learn(16)
    model.save(tmp_path / "compiled.zip")
    plain = MaskablePPO.load(tmp_path / "compiled.zip", policy_kwargs={**settings}, device="cpu")
    for name, value in model.policy.state_dict().items():
        assert th.equal(value, plain.policy.state_dict()[name])


def test_without_a_compiler_it_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match=r"compiled needs a C\+\+ compiler, and there is none"):
        MaskableImplicitPolicy(_env().observation_space, _env().action_space, lambda _: 1e-3, compiled=True)


@pytest.mark.parametrize("other", ["keep_maps", "autocast"])
def test_what_does_not_go_with_a_compiled_extractor_is_named(other):
    settings = {"compiled": True, other: True}
    with pytest.raises(InputError, match=f"compiled and {other} do not go together"):
        MaskableExplicitPolicy(_env().observation_space, _env().action_space, lambda _: 1e-3, **settings)
