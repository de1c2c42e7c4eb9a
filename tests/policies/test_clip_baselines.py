from __future__ import annotations

import numpy as np
import pytest

from sb3_alignsam.envs import make_env
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.protocol import evaluate, state_of
from sb3_alignsam.policies.baselines import make_baseline
from sb3_alignsam.policies.clickers import STOP
from sb3_alignsam.policies.clip_baselines import THRESHOLDS, map_clicks


@pytest.fixture(scope="module")
def env():
    return make_env("SamSegShapes-v0", {"split": "dev", "text_model": "tiny"})


def _state(env, index, step=0):
    return state_of(env, env.fixed_episode(index), step, np.random.default_rng(0))


def test_the_maps_points_are_half_positive_and_the_positive_ones_lie_where_the_map_is_high(env):
    state = _state(env, 2)
    clicks = map_clicks(env.features.maps, state.episode, 0.8)
    assert sum(click.positive for click in clicks) * 2 == len(clicks) > 0
    similarity = state.episode.similarity[0].astype(float)
    at = [(similarity[click.y // 8, click.x // 8], click.positive) for click in clicks]
    assert min(value for value, positive in at if positive) > max(value for value, positive in at if not positive)


def test_all_points_are_placed_at_once_and_the_answer_stays(env):
    baseline = make_baseline("clip", env.grid, env.features)
    assert baseline.next_clicks([_state(env, 2), _state(env, 2, step=1)])[1] is STOP
    _, (record,) = evaluate(env, [baseline], list(range(4)), 3)
    assert (record.answer_iou[:, :1] == record.answer_iou).all()
    assert record.answer_iou.mean() > 0.05
    placed = [len(map_clicks(env.features.maps, env.fixed_episode(index), 0.8)) for index in range(4)]
    assert record.clicks_placed.tolist() == placed
    assert not record.uses_ground_truth


def test_clip_best_takes_the_threshold_that_sam_is_surest_of(env):
    indices = list(range(6))
    _, records = evaluate(env, [make_baseline(n, env.grid, env.features) for n in ("clip", "clip_best")], indices, 1)
    assert (records[1].predicted_iou >= records[0].predicted_iou - 1e-4).all()
    assert (records[1].predicted_iou > records[0].predicted_iou + 1e-3).any()
    chosen = make_baseline("clip_best", env.grid, env.features).next_clicks([_state(env, 3)])[0]
    assert chosen in [map_clicks(env.features.maps, _state(env, 3).episode, each) for each in THRESHOLDS]


def test_without_a_text_model_it_says_what_to_do():
    env = make_env("SamSegShapes-v0", {"split": "dev"})
    with pytest.raises(InputError, match="baseline 'clip_best' needs a text model: --env-kwargs text_model:tiny"):
        make_baseline("clip_best", env.grid, env.features)


def test_points_stay_inside_a_picture_whose_last_patches_are_cut(env, coco_mini):
    photographs = make_env("SamSegCoco-v0", {"root": str(coco_mini), "split": "val2017", "text_model": "tiny"})
    for index in (0, 7, 20):
        episode = photographs.fixed_episode(index)
        height, width = episode.image_size
        for threshold in THRESHOLDS:
            for click in map_clicks(photographs.features.maps, episode, threshold):
                assert 0 <= click.x < width
                assert 0 <= click.y < height
