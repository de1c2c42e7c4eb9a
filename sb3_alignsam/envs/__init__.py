"""The click task as gymnasium environments. Nothing here knows of policies."""

from sb3_alignsam.envs.click_grid import ClickGrid
from sb3_alignsam.envs.episode import ClickEpisode
from sb3_alignsam.envs.making import make_env
from sb3_alignsam.envs.observations import ALL_KEYS, DEFAULT_KEYS
from sb3_alignsam.envs.sam_seg_env import SamSegEnv

__all__ = [
    "ALL_KEYS",
    "DEFAULT_KEYS",
    "ClickEpisode",
    "ClickGrid",
    "SamSegEnv",
    "make_env",
]
