"""The click task as gymnasium environments. Nothing here knows of policies."""

from sb3_alignsam.envs.click_grid import ClickGrid
from sb3_alignsam.envs.episode import ClickEpisode
from sb3_alignsam.envs.making import make_env
from sb3_alignsam.envs.observations import ALL_KEYS, CONSTANT_KEYS, DEFAULT_KEYS
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.envs.sam_seg_vec_env import SamSegVecEnv

__all__ = [
    "ALL_KEYS",
    "CONSTANT_KEYS",
    "DEFAULT_KEYS",
    "ClickEpisode",
    "ClickGrid",
    "SamSegEnv",
    "SamSegVecEnv",
    "make_env",
]
