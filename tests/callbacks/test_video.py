from __future__ import annotations

import cv2
import pytest
from stable_baselines3 import PPO

from sb3_alignsam.callbacks import VideoCallback
from sb3_alignsam.envs import make_env
from sb3_alignsam.policies import ImplicitPolicy


@pytest.fixture
def model():
    env = make_env("SamSegShapes-v0", {"split": "dev", "max_steps": 2})
    return PPO(ImplicitPolicy, env, n_steps=8, batch_size=8, n_epochs=1, device="cpu", seed=0)


def _callback(folder, **kwargs):
    env = make_env("SamSegShapes-v0", {"split": "dev", "max_steps": 2, "render_mode": "rgb_array", "render_size": 64})
    return VideoCallback(env, [0, 1], False, 16, folder, **kwargs)


def test_films_are_named_after_the_steps_and_go_on_in_a_resumed_run(model, tmp_path):
    written = []
    first = _callback(tmp_path, written=written.append)
    model.learn(24, first)
    assert [path.name for path in written] == ["training_16_steps.mp4"]
    second = _callback(tmp_path)
    second.load_state_dict(first.state_dict())
    model.learn(16, second, reset_num_timesteps=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training_16_steps.mp4", "training_32_steps.mp4"]
    film = cv2.VideoCapture(str(written[0]))
    assert int(film.get(cv2.CAP_PROP_FRAME_COUNT)) == 3  # before the first click, and after each


def test_where_no_film_can_be_written_training_goes_on_and_it_is_told_once(model, tmp_path):
    lines = []
    (tmp_path / "videos").write_text("in the way")
    model.learn(40, _callback(tmp_path / "videos", report=lines.append))
    assert len(lines) == 1
    assert "warning: no film at 16 steps" in lines[0]
