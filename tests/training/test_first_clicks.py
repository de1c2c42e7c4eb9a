from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.envs import make_env
from sb3_alignsam.training.first_clicks import FirstClicks

KWARGS = {"text_model": "tiny", "allow_stop": True}


def _key(observation):
    return observation["sam_image_embeddings"].tobytes() + bytes([int(observation["target_category"])])


def _rows(batch):
    return [{key: values[row] for key, values in batch.observations.items()} for row in range(len(batch.targets))]


@pytest.fixture(scope="module")
def env():
    keys = ["sam_image_embeddings", "target_category", "sam_pred_mask_prob", "click_map", "num_steps"]
    return make_env("SamSegShapes-v0", KWARGS | {"observation_keys": keys})


def test_every_state_comes_as_often_as_asked_for_and_every_category_of_an_image_is_among_them(env):
    with closing(FirstClicks(env, 0, seed=0)) as first_clicks:
        batches = list(first_clicks.minibatches(20, batch_size=8, n_epochs=2))
    rows = [row for _, batch in batches for row in _rows(batch)]
    times = {key: sum(key == _key(row) for row in rows) for key in {_key(row) for row in rows}}
    assert sum(new for new, _ in batches) == len(times) >= 20
    assert set(times.values()) == {2}
    images = {row["sam_image_embeddings"].tobytes() for row in rows}
    assert len(images) < len(times)


def test_targets_lie_on_the_category_and_on_free_patches(env):
    with closing(FirstClicks(env, 0, seed=1)) as first_clicks:
        _, batch = next(first_clicks.minibatches(8, batch_size=8, n_epochs=1))
    assert np.allclose(batch.targets.sum(axis=1), 1)
    assert not batch.targets[~batch.masks].any()
    assert not batch.targets[:, 1::2].any()  # nothing is to be taken away from an empty mask
    assert not batch.targets[:, -1].any()


def test_where_the_category_is_absent_the_target_is_to_stop():
    env = make_env("SamSegShapes-v0", KWARGS | {"absent_rate": 1.0})
    with closing(FirstClicks(env, 0, seed=0)) as first_clicks:
        _, batch = next(first_clicks.minibatches(2, batch_size=8, n_epochs=1))
    assert (batch.targets[:, -1] == 1).all()


def test_categories_of_a_listed_image_are_found_by_its_id(tmp_path):
    ShapesDataset("val").write_coco(tmp_path, 2)
    env = make_env("SamSegCoco-v0", {"root": str(tmp_path), "split": "val", "cache": False})
    pairs = env.dataset.pairs()
    with closing(FirstClicks(env, 0, seed=0)) as first_clicks:
        _, batch = next(first_clicks.minibatches(1, batch_size=64, n_epochs=1))
    counts = np.unique(pairs[:, 0], return_counts=True)[1]
    categories = batch.observations["target_category"]
    assert len(categories) in counts
    assert len(set(categories.tolist())) == len(categories)
