from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from sb3_alignsam.evaluation.agents import load_agent
from sb3_alignsam.evaluation.films import record_films, write_animation


def test_a_film_has_a_frame_before_the_first_click_and_one_after_each(run_folder, tmp_path, capfd):
    agent = load_agent(run_folder, env_kwargs={"render_mode": "rgb_array"})
    films = record_films(agent, [3, 8], tmp_path)
    assert [film.name for film in films] == ["episode_3-step-0-to-step-5.mp4", "episode_8-step-0-to-step-5.mp4"]
    assert capfd.readouterr() == ("", "")
    capture = cv2.VideoCapture(str(films[0]))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert len(frames) == 6
    agent.env.reset(options={"index": 3})
    first = agent.env.render()
    assert frames[0].shape == first.shape
    assert (
        np.abs(frames[0][..., ::-1].astype(int) - first).mean() < 12
    )  # the picture of that episode, but for the codec
    panel = np.s_[100:400, 670:980]
    assert (np.abs(frames[5][panel].astype(int) - frames[0][panel]) > 60).any(axis=2).mean() > 0.01


def test_an_animation_holds_every_click_of_every_episode(run_folder, tmp_path):
    agent = load_agent(run_folder, env_kwargs={"render_mode": "rgb_array", "render_size": 96})
    write_animation(agent, [0, 1], tmp_path / "a" / "demo.gif")
    with Image.open(tmp_path / "a" / "demo.gif") as picture:
        assert picture.n_frames == 12
