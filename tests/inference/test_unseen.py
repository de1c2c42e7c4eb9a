from __future__ import annotations

import numpy as np
import pytest
import torch as th

from sb3_alignsam.envs import SamSegEnv
from sb3_alignsam.envs.episode import ClickEpisode
from sb3_alignsam.errors import InputError
from sb3_alignsam.inference.unseen import Unseen, UnseenEpisode, unseen_sample
from sb3_alignsam.perception import Click


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


@pytest.mark.parametrize("rule", ["last", "best_predicted"])
def test_an_episode_that_nobody_scores_gives_the_same_masks(rule):
    sample = unseen_sample(np.full((30, 40, 3), 99, np.uint8), "ring")
    excluded = np.zeros((30, 40), bool)
    excluded[:, :10] = True
    episodes = [
        kind(sample, np.zeros((4, 4, 4), np.float16), answer_rule=rule, excluded=excluded)
        for kind in (ClickEpisode, UnseenEpisode)
    ]
    generator = th.Generator().manual_seed(0)
    for iou in (0.4, 0.9, 0.6):
        low_res = th.randn(3, 16, 16, generator=generator)
        for each in episodes:
            each.place(Click(3, 4, True))
            each.receive(low_res, th.tensor([0.1, iou, 0.2]), 64)
        for name in ("last", "answer"):
            scored, late = (getattr(each, name) for each in episodes)
            assert np.array_equal(late.mask, scored.mask)
            assert 0 < late.excluded_share == scored.excluded_share < 1
            assert late.predicted_iou == scored.predicted_iou
    again = episodes[1].fresh()
    assert isinstance(again, UnseenEpisode)
    assert not again.answer.mask.any()
