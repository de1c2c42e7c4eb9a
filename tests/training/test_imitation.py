from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.logger import configure

from sb3_alignsam.envs import SamSegVecEnv, make_env
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.protocol import evaluate
from sb3_alignsam.policies import ExplicitPolicy, MaskableExplicitPolicy
from sb3_alignsam.policies.clickers import AgentClicker
from sb3_alignsam.training.buffers import DistinctEpisodeDictRolloutBuffer, MaskableDistinctEpisodeDictRolloutBuffer
from sb3_alignsam.training.imitation import Imitation, ImitationSettings

KWARGS = {"split": "dev", "text_model": "tiny", "max_steps": 3}
SMALL = {"channels": 16, "map_channels": 16}
QUICK = ImitationSettings(n_steps=8, batch_size=32)


def _learner(kwargs, algorithm=MaskablePPO, policy=MaskableExplicitPolicy, seed=0):
    vec_env = SamSegVecEnv(make_env("SamSegShapes-v0", KWARGS | kwargs), 8, num_workers=0)
    vec_env.seed(seed)
    model = algorithm(policy, vec_env, seed=seed, device="cpu", policy_kwargs=dict(SMALL))
    model.set_logger(configure(None, []))
    masked = algorithm is MaskablePPO
    buffer = MaskableDistinctEpisodeDictRolloutBuffer if masked else DistinctEpisodeDictRolloutBuffer
    return model, vec_env, Imitation(model, vec_env, buffer, seed, QUICK)


@pytest.mark.parametrize(
    ("algorithm", "policy", "kwargs"),
    [
        (MaskablePPO, MaskableExplicitPolicy, {"allow_stop": True, "answer": "last"}),
        pytest.param(PPO, ExplicitPolicy, {}, marks=pytest.mark.long),
    ],
)
def test_a_few_hundred_steps_of_imitation_beat_what_it_started_from(algorithm, policy, kwargs):
    model, vec_env, imitation = _learner(kwargs, algorithm, policy)
    env = vec_env.envs[0].twin()
    agent = AgentClicker(model.policy, env.grid, algorithm is MaskablePPO)
    with closing(vec_env):
        before = evaluate(env, [agent], range(16), 3)[1][0].answer_iou[:, -1].mean()
        done = []
        imitation.learn(500, done.append)
        after = evaluate(env, [agent], range(16), 3)[1][0].answer_iou[:, -1].mean()
    assert 500 <= sum(done) < 600  # up to whole images and whole rollouts of 64 steps
    assert after > before + 0.05


def test_the_same_seed_imitates_the_same():
    weights = []
    for _ in range(2):
        model, vec_env, imitation = _learner({})
        with closing(vec_env):
            imitation.learn(64)
        weights.append([value.detach().numpy() for value in model.policy.parameters()])
    assert all(np.array_equal(*pair) for pair in zip(*weights, strict=True))


def test_the_value_network_learns_too():
    model, vec_env, imitation = _learner({})
    before = model.policy.value_net.weight.detach().clone()
    with closing(vec_env):
        imitation.learn(64)
    assert not (model.policy.value_net.weight == before).all()


def test_another_policy_is_refused():
    vec_env = SamSegVecEnv(make_env("SamSegShapes-v0", KWARGS), 1, num_workers=0)
    with closing(vec_env):
        model = PPO("MultiInputPolicy", vec_env, n_steps=8, batch_size=8, device="cpu")
        with pytest.raises(InputError, match="needs a ClickPolicy"):
            Imitation(model, vec_env, DistinctEpisodeDictRolloutBuffer, 0)
