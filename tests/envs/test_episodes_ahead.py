from __future__ import annotations

import numpy as np
import pytest

from sb3_alignsam.datasets import ShapesDataset
from sb3_alignsam.envs import episodes_ahead, make_env
from sb3_alignsam.envs.episodes_ahead import EpisodesAhead


@pytest.mark.parametrize("small_bytes", [0, episodes_ahead.SMALL_BYTES])
def test_episodes_are_those_of_the_environment_wherever_their_features_come_from(tmp_path, monkeypatch, small_bytes):
    monkeypatch.setattr(episodes_ahead, "SMALL_BYTES", small_bytes)  # 0: networks stay in this process
    ShapesDataset("val").write_coco(tmp_path / "data", 3)
    kwargs = {"root": str(tmp_path / "data"), "split": "val", "cache": str(tmp_path / "cache")}
    env = make_env("SamSegCoco-v0", kwargs)
    first, other = env.dataset.image_indices()[:2]
    expected = env.fixed_episode(first)  # kept from now on, the other is not
    ahead = EpisodesAhead(env, 1)
    waiting = [ahead.ask(index) for index in (first, other)]
    episodes = [episode for take in waiting for episode in take()]
    ahead.close()
    assert np.array_equal(episodes[0].embedding, expected.embedding)
    assert np.array_equal(episodes[0].sample.instances, expected.sample.instances)
    assert np.array_equal(episodes[1].embedding, env.fixed_episode(other).embedding)
    assert env.features.computed == (2 if small_bytes == 0 else 1)
