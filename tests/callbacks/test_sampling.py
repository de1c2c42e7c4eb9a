from __future__ import annotations

from types import SimpleNamespace

from stable_baselines3.common.logger import Logger

from sb3_alignsam.callbacks import SamplingCallback


def _step(callback, *episodes):
    """One step of as many environments; None: that one's episode goes on."""
    names = ("image_id", "category", "absent")
    infos = [dict(zip(names, each or (), strict=False)) for each in episodes]
    callback.update_locals({"infos": infos, "dones": [each is not None for each in episodes]})
    assert callback.on_step()


def test_each_rollout_has_figures_of_its_own_episodes():
    logger, callback = Logger(None, []), SamplingCallback()
    callback.init_callback(SimpleNamespace(logger=logger, get_env=lambda: None, num_timesteps=0))
    _step(callback, (3, "cat", False), None)
    _step(callback, (3, "dog", False), (5, "cat", True))
    _step(callback, None, (8, "cat", False))
    callback.on_rollout_end()
    assert logger.name_to_value == {
        "sampling/episodes": 4,
        "sampling/images": 3,
        "sampling/categories": 2,
        "sampling/most_frequent_category": 0.75,
        "sampling/absent": 0.25,
    }
    _step(callback, (3, "cat", False), None)
    callback.on_rollout_end()
    assert logger.name_to_value["sampling/episodes"] == 1
    assert logger.name_to_value["sampling/absent"] == 0


def test_a_rollout_without_an_end_says_nothing():
    logger, callback = Logger(None, []), SamplingCallback()
    callback.init_callback(SimpleNamespace(logger=logger, get_env=lambda: None, num_timesteps=0))
    _step(callback, None, None)
    callback.on_rollout_end()
    assert not logger.name_to_value
