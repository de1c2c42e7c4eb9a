"""From a registered id and keywords that a user wrote to an environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.keywords import check_keywords, unknown_name

ENV_IDS: dict[str, dict[str, Any]] = {
    "SamSeg-v0": {},
    "SamSegShapes-v0": {"dataset": "shapes"},
    "SamSegCoco-v0": {"dataset": "coco"},
}
"""Registered environments and the keywords that each one sets."""


def register_envs() -> None:
    """Register the ids with gymnasium; called when `sb3_alignsam` is imported."""
    for env_id, kwargs in ENV_IDS.items():
        if env_id not in gym.registry:
            gym.register(env_id, entry_point="sb3_alignsam.envs.sam_seg_env:SamSegEnv", kwargs=kwargs)


def make_env(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> SamSegEnv:
    """Make one environment without gymnasium's wrappers.

    :raises InputError: the id, a keyword or a value cannot be used; the message names it.
    """
    if env_id not in ENV_IDS:
        raise unknown_name(env_id, ENV_IDS, "environment")
    check_keywords(SamSegEnv.__init__, env_kwargs or {}, "environment keyword")
    return SamSegEnv(**(ENV_IDS[env_id] | dict(env_kwargs or {})))
