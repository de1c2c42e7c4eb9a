from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from sb3_alignsam.evaluation import films as films_module
from sb3_alignsam.evaluation.agents import load_agent
from sb3_alignsam.evaluation.films import record_films, write_animation


def test_a_film_has_a_frame_before_the_first_click_and_one_after_each(run_folder, tmp_path, capfd):
    agent = load_agent(run_folder, env_kwargs={"render_mode": "rgb_array"})
    films = record_films(agent, [3, 8], tmp_path)
    assert [film.name for film in films] == ["episode_3-step-0-to-step-5.mp4", "episode_8-step-0-to-step-5.mp4"]
    assert capfd.readouterr() == ("", "")
    frames = _frames(films[0])
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


def test_a_film_of_several_episodes_shows_them_side_by_side(run_folder, tmp_path):
    agent = load_agent(run_folder, env_kwargs={"render_mode": "rgb_array", "render_size": 64})
    films = record_films(agent, [3, 8, 9], tmp_path, tiles=2)
    assert [film.name for film in films] == [
        "episodes_3_to_8-step-0-to-step-5.mp4",
        "episode_9-step-0-to-step-5.mp4",
    ]
    both, one = (_frames(film) for film in films)
    assert len(both) == len(one) == 6
    assert both[0].shape[0] * both[0].shape[1] == 2 * one[0].shape[0] * one[0].shape[1]


def test_an_earlier_film_is_never_overwritten(run_folder, tmp_path):
    agent = load_agent(run_folder, env_kwargs={"render_mode": "rgb_array", "render_size": 64})
    (first,) = record_films(agent, [3], tmp_path)
    first.write_bytes(b"kept")
    (second,) = record_films(agent, [3], tmp_path)
    (third,) = record_films(agent, [3], tmp_path)
    assert first.read_bytes() == b"kept"
    assert [film.name[-6:] for film in (second, third)] == ["-2.mp4", "-3.mp4"]
    assert sorted(tmp_path.iterdir()) == sorted([first, second, third])


def test_an_episode_with_too_many_frames_for_memory_becomes_several_films(run_folder, tmp_path, monkeypatch):
    agent = load_agent(run_folder, env_kwargs={"render_mode": "rgb_array", "render_size": 64})
    agent.env.reset(options={"index": 3})
    monkeypatch.setattr(films_module, "MAX_FRAME_BYTES", 2 * agent.env.render().nbytes)
    films = record_films(agent, [3], tmp_path)
    assert [len(_frames(film)) for film in films] == [2, 2, 2]


def _frames(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames
