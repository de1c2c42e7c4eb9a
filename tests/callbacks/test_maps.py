from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.logger import configure

from sb3_alignsam.callbacks import SimilarityPicturesCallback
from sb3_alignsam.callbacks.maps import CELL, draw_maps
from sb3_alignsam.envs import make_env
from sb3_alignsam.policies import ExplicitPolicy, ImplicitPolicy


def _model(policy, **policy_kwargs):
    env = make_env("SamSegShapes-v0", {"split": "dev", "max_steps": 2, "text_model": "tiny"})
    return PPO(policy, env, n_steps=8, batch_size=8, n_epochs=1, device="cpu", policy_kwargs=policy_kwargs)


def _pictures(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()["images"]
    return [
        cv2.imdecode(np.frombuffer(each.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
        for tag in tags
        for each in events.Images(tag)
    ]


def test_maps_reach_tensorboard_and_mlflow_as_pictures(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow.create_experiment("maps", artifact_location=(tmp_path / "artifacts").as_uri())
    mlflow.set_experiment("maps")
    model = _model(ExplicitPolicy, channels=8, map_channels=8, keep_maps=True)
    model.set_logger(configure(str(tmp_path / "tb"), ["tensorboard", "csv"]))
    with mlflow.start_run() as run:
        model.learn(24, SimilarityPicturesCallback(freq=16))
    model.logger.close()
    pictures = _pictures(tmp_path / "tb")
    assert len(pictures) == 2  # after 8 and after 24 steps
    assert pictures[0].shape[1] == 4 * (CELL + 4)
    assert pictures[0].std() > 10
    names = [each.path for each in mlflow.MlflowClient().list_artifacts(run.info.run_id, "images")]
    assert any("maps_seen" in name for name in names)


@pytest.mark.parametrize(("policy", "settings"), [(ExplicitPolicy, {}), (ImplicitPolicy, {})])
def test_nothing_is_written_where_nothing_is_kept(policy, settings, tmp_path):
    model = _model(policy, channels=8, map_channels=8, **settings)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(16, SimilarityPicturesCallback(freq=8))
    model.logger.close()
    assert _pictures(tmp_path) == []


def test_high_values_are_bright():
    maps = th.zeros(1, 4, 2, 2)
    maps[0, 1] = 1.0
    picture = draw_maps(maps)[22:]
    first, second = picture[:, : CELL + 4], picture[:, CELL + 4 : 2 * (CELL + 4)]
    assert first.mean() < second.mean()
