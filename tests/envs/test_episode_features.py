from __future__ import annotations

from functools import partial

from sb3_alignsam.envs import make_env
from sb3_alignsam.envs.episode_features import HANDLE, SharingSamSegEnv
from sb3_alignsam.envs.worker_processes import TellingSubprocVecEnv


def test_nothing_large_goes_through_the_pipe():
    vec_env = TellingSubprocVecEnv([partial(make_env, "SamSegShapes-v0", {}, SharingSamSegEnv)] * 2)
    obs = vec_env.reset()
    assert set(obs) == {"sam_pred_mask_prob", "click_map", "num_steps"}
    assert all(len(info[HANDLE]) < 30 for info in vec_env.reset_infos)
    vec_env.close()
