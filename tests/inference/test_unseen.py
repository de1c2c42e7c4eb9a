from __future__ import annotations

import numpy as np
import pytest

from sb3_alignsam.envs import SamSegEnv
from sb3_alignsam.errors import InputError
from sb3_alignsam.inference.unseen import Unseen, unseen_sample


def test_an_environment_can_be_made_of_it_and_plays_what_it_is_brought():
    env = SamSegEnv(dataset=Unseen(["star", "ring"]), cache=False, max_steps=2)
    assert (len(env.dataset), env.dataset.categories) == (0, ("star", "ring"))
    sample = unseen_sample(np.full((30, 40, 3), 99, np.uint8), "ring")
    env.begin([env.new_episode(sample, env.features.of(sample.image))])
    observation = env.observe()
    assert observation["target_category"] == 1
    assert env.observation_space.contains(env.step(np.int64(0))[0])


def test_there_is_nothing_to_draw_and_names_are_still_checked():
    dataset = Unseen(["star", "ring"])
    for ask in (lambda: dataset.get(0), lambda: dataset.sample(np.random.default_rng())):
        with pytest.raises(IndexError, match="unseen photographs"):
            ask()
    assert dataset.configure_targets(["star"]) == ([], [])
    with pytest.raises(InputError, match="category 'stra'"):
        dataset.configure_targets(["stra"])
