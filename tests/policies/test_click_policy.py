from __future__ import annotations

import numpy as np
import pytest
import torch as th
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO

from sb3_alignsam.envs import make_env
from sb3_alignsam.errors import InputError
from sb3_alignsam.policies import (
    ClickPolicy,
    ExplicitPolicy,
    ImplicitExtractor,
    ImplicitPolicy,
    MaskableExplicitPolicy,
    MaskableImplicitPolicy,
)
from sb3_alignsam.policies.clickers import AgentClicker, State
from sb3_alignsam.policies.features import EPISODE_ROWS, ClickFeaturesExtractor


def _model(algorithm, policy, env, **policy_kwargs):
    return algorithm(policy, env, n_steps=8, batch_size=8, n_epochs=1, device="cpu", policy_kwargs=policy_kwargs)


@pytest.mark.parametrize(
    ("algorithm", "policy"),
    [
        (PPO, ImplicitPolicy),
        (PPO, ExplicitPolicy),
        (MaskablePPO, MaskableImplicitPolicy),
        (MaskablePPO, MaskableExplicitPolicy),
    ],
)
@pytest.mark.parametrize("allow_stop", [False, True])
def test_both_algorithms_train_every_weight(algorithm, policy, allow_stop):
    settings = {"split": "dev", "max_steps": 3, "allow_stop": allow_stop, "text_model": "tiny"}
    env = make_env("SamSegShapes-v0", settings)
    model = _model(algorithm, policy, env, channels=8, map_channels=8)
    before = {name: value.clone() for name, value in model.policy.named_parameters()}
    model.learn(16)
    same = [name for name, value in model.policy.named_parameters() if th.equal(value, before[name])]
    assert same == []


class _Pixels(ClickFeaturesExtractor):
    """A user's own: reads the image, and has what acts otherwise in training."""

    def __init__(self, observation_space):
        super().__init__(observation_space, ["image"], 4, 16)
        self.convolve, self.drop = th.nn.Conv2d(3, 4, 16, 16), th.nn.Dropout(0.5)

    def forward(self, observations):
        seen = self.drop(self.convolve(observations["image"]))
        return th.cat([seen.flatten(1), seen.mean((2, 3)).repeat(1, 4)], dim=1)


@pytest.mark.parametrize(
    ("algorithm", "policy", "kwargs"),
    [
        (PPO, ImplicitPolicy, {"channels": 8, "map_channels": 8}),
        (MaskablePPO, MaskableExplicitPolicy, {"channels": 8, "map_channels": 8}),
        (PPO, ClickPolicy, {"features_extractor_class": _Pixels}),
    ],
)
def test_evaluation_acts_as_sb3s_predict(algorithm, policy, kwargs):
    keys = ["sam_image_embeddings", "clip_similarity", "sam_pred_mask_prob", "click_map", "num_steps"]
    keys += ["image"] if policy is ClickPolicy else ["target_category"]
    settings = {"split": "dev", "allow_stop": True, "text_model": "tiny", "observation_keys": keys}
    env = make_env("SamSegShapes-v0", settings)
    model = _model(algorithm, policy, env, **kwargs)
    states, expected, maskable = [], [], algorithm is MaskablePPO
    for index in range(4):
        observation, _ = env.reset(options={"index": index})
        mask = env.action_masks()
        masks = {"action_masks": mask} if maskable else {}
        expected.append(int(model.predict(observation, deterministic=True, **masks)[0]))
        states.append(State(env.episode, observation, mask, 0, np.random.default_rng(0)))
    model.policy.set_training_mode(True)
    assert AgentClicker(model.policy, env.grid, maskable).next_actions(states).tolist() == expected
    assert not model.policy.training


@pytest.mark.parametrize("policy", [ImplicitPolicy, ExplicitPolicy])
@pytest.mark.parametrize("shared", [True, False])
def test_steps_of_one_episode_may_share_its_embedding(policy, shared):
    env = make_env("SamSegShapes-v0", {"split": "dev", "text_model": "tiny"})
    kwargs = {"channels": 8, "map_channels": 8, "share_features_extractor": shared}
    model = policy(env.observation_space, env.action_space, lambda _: 1e-3, **kwargs)
    observations = [env.reset(options={"index": index})[0] for index in (0, 1)]
    steps = [observations[0], observations[1], env.step(np.int64(7))[0]]
    batch = {key: th.as_tensor(np.stack([each[key] for each in steps])) for key in steps[0]}
    compact = {**batch, "sam_image_embeddings": batch["sam_image_embeddings"][:2], EPISODE_ROWS: th.tensor([0, 1, 1])}
    actions = th.tensor([3, 5, 9])
    # What a rollout's last step is worth is asked by another way than what its steps are.
    assert th.allclose(model.predict_values(batch), model.evaluate_actions(batch, actions)[0], atol=1e-5)
    assert th.allclose(model.predict_values(compact), model.predict_values(batch), atol=1e-5)
    for expected, found in zip(
        model.evaluate_actions(batch, actions), model.evaluate_actions(compact, actions), strict=True
    ):
        assert th.allclose(found, expected, atol=1e-5)


def test_logits_lie_as_the_actions_do():
    env = make_env("SamSegShapes-v0", {"split": "dev", "num_patches": 8})
    policy = _model(PPO, ImplicitPolicy, env).policy
    head = policy.mlp_extractor
    feature_map = th.zeros(1, *policy.features_extractor.map_shape)
    feature_map[0, :, 2, 5] = 1.0
    with th.no_grad():
        head.click_logits.weight.fill_(0.0)
        head.click_logits.weight[1] = 1.0
        head.click_logits.bias.zero_()
    logits = head.forward_actor(th.cat([feature_map.flatten(1), th.zeros(1, 64)], dim=1))
    assert int(logits.argmax()) == env.grid.action(2, 5, positive=False)
    assert int((logits != 0).sum()) == 1


def test_a_fresh_policy_is_nearly_uniform():
    env = make_env("SamSegShapes-v0", {"split": "dev"})
    policy = _model(PPO, ImplicitPolicy, env).policy
    observation, _ = env.reset(seed=0)
    tensors, _ = policy.obs_to_tensor(observation)
    entropy = policy.get_distribution(tensors).entropy().item()
    assert entropy == pytest.approx(np.log(512), abs=0.1)


def test_a_masked_action_is_never_taken():
    env = make_env("SamSegShapes-v0", {"split": "dev"})
    model = _model(MaskablePPO, MaskableImplicitPolicy, env)
    observation, _ = env.reset(seed=0)
    mask = np.zeros(512, bool)
    mask[[7, 300]] = True
    taken = {int(model.predict(observation, action_masks=mask)[0]) for _ in range(30)}
    assert taken <= {7, 300}


def test_the_policy_holds_trained_weights_only():
    env = make_env("SamSegShapes-v0", {"split": "dev"})
    policy = _model(PPO, ImplicitPolicy, env).policy
    optimised = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in policy.parameters()} == optimised
    assert sum(p.numel() for p in policy.parameters()) < 200_000


def test_settings_may_be_plain_keywords_or_the_extractors_own():
    env = make_env("SamSegShapes-v0", {"split": "dev"})
    flat = _model(PPO, ImplicitPolicy, env, channels=4, blocks=2).policy.features_extractor
    nested = _model(
        PPO,
        ClickPolicy,
        env,
        features_extractor_class=ImplicitExtractor,
        features_extractor_kwargs={"channels": 4, "blocks": 2},
    ).policy.features_extractor
    assert [p.shape for p in flat.parameters()] == [p.shape for p in nested.parameters()]
    assert len(flat.blocks) == 2


def test_a_fine_grid_costs_no_more_to_build_than_its_extractor():
    env = make_env("SamSegShapes-v0", {"split": "dev", "num_patches": 64})
    policy = _model(PPO, ImplicitPolicy, env).policy
    assert max(value.numel() for value in policy.parameters()) < 100_000
    observation, _ = env.reset(seed=0)
    assert 0 <= int(policy.predict(observation)[0]) < 2 * 64 * 64


def test_an_extractor_without_a_map_is_refused():
    env = make_env("SamSegShapes-v0", {"split": "dev"})
    with pytest.raises(InputError, match="needs a ClickFeaturesExtractor"):
        _model(PPO, ClickPolicy, env)


def test_a_saved_policy_is_loaded_with_its_settings(tmp_path):
    env = make_env("SamSegShapes-v0", {"split": "dev"})
    policy = _model(PPO, ImplicitPolicy, env, channels=8, map_channels=8).policy
    policy.save(tmp_path / "policy")
    loaded = ImplicitPolicy.load(tmp_path / "policy", device="cpu")
    observation, _ = env.reset(seed=0)
    assert loaded.predict(observation, deterministic=True)[0] == policy.predict(observation, deterministic=True)[0]
    assert all(th.equal(a, b) for a, b in zip(policy.parameters(), loaded.parameters(), strict=True))


@pytest.mark.parametrize("policy", [ExplicitPolicy, MaskableExplicitPolicy])
@pytest.mark.parametrize(("share", "stops"), [(0.4, False), (0.6, True)])
def test_greedily_whether_to_click_is_decided_before_where(policy, share, stops):
    env = make_env("SamSegShapes-v0", {"split": "dev", "text_model": "tiny", "allow_stop": True})
    model = policy(env.observation_space, env.action_space, lambda _: 1e-3, channels=8, map_channels=8)
    clicks = env.grid.num_actions - 1
    head = model.mlp_extractor
    with th.no_grad():  # all clicks are equally likely, each far less than stop
        head.click_logits.weight.zero_()
        head.click_logits.bias.zero_()
        head.stop_logit.weight.zero_()
        head.stop_logit.bias.fill_(float(np.log(clicks * share / (1 - share))))
    action, _ = model.predict(env.reset(options={"index": 0})[0], deterministic=True)
    assert (int(action) == env.grid.stop_action) == stops
