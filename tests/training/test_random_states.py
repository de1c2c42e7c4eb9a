from __future__ import annotations

import json
import random

import numpy as np
import torch as th
from stable_baselines3 import PPO

from sb3_alignsam.training.plain_data import pack, unpack
from sb3_alignsam.training.random_states import random_states, restore_random_states


def _draw(model):
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.standard_normal(),
        th.rand(3).tolist(),
        int(model.action_space.sample()),
    )


def test_every_generator_goes_on_where_it_was():
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, seed=0, device="cpu")
    _draw(model)  # A second normal number waits in two of them from here on.
    plain, arrays = pack(random_states(model))
    drawn = _draw(model)
    assert _draw(model) != drawn
    restore_random_states(model, unpack(json.loads(json.dumps(plain)), arrays))
    assert _draw(model) == drawn
