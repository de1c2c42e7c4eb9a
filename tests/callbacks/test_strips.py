from __future__ import annotations

from stable_baselines3 import PPO
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_alignsam.callbacks import EpisodeStripsCallback
from sb3_alignsam.envs import make_env
from sb3_alignsam.evaluation.strips import PANEL
from sb3_alignsam.policies import ImplicitPolicy


def test_strips_have_a_row_an_episode_and_a_column_a_click(tmp_path):
    env = make_env("SamSegShapes-v0", {"split": "dev", "max_steps": 2, "allow_stop": True})
    model = PPO(ImplicitPolicy, env, n_steps=8, batch_size=8, n_epochs=1, device="cpu", seed=0)
    model.set_logger(configure(str(tmp_path), ["tensorboard", "csv"]))
    dev = make_env("SamSegShapes-v0", {"split": "dev", "max_steps": 2, "allow_stop": True})
    model.learn(32, EpisodeStripsCallback(dev, [0, 1, 2], False, 16))
    model.logger.close()
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    events.Reload()
    pictures = events.Images("episodes/strips")
    assert [each.step for each in pictures] == [16, 32]
    assert pictures[0].width > 3 * PANEL
    assert pictures[0].height > 3 * PANEL
    assert "strips" not in (tmp_path / "progress.csv").read_text()
