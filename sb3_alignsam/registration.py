"""The ids that gymnasium knows our environments by. Imports nothing heavy: it runs on every ``import sb3_alignsam``."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

ENV_IDS: dict[str, dict[str, Any]] = {
    "SamSeg-v0": {},
    "SamSegShapes-v0": {"dataset": "shapes"},
    "SamSegCoco-v0": {"dataset": "coco"},
    "SamSegADE20K-v0": {"dataset": "ade20k"},
    "SamSegCityscapes-v0": {"dataset": "cityscapes"},
}
"""Registered environments and the keywords that each one sets."""


def register_envs() -> None:
    """Register the ids with gymnasium, once."""
    for env_id, kwargs in ENV_IDS.items():
        if env_id not in gym.registry:
            gym.register(env_id, entry_point="sb3_alignsam.envs.sam_seg_env:SamSegEnv", kwargs=kwargs)
