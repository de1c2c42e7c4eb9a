"""From a registered id and keywords that a user wrote to an environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.keywords import check_keywords, unknown_name
from sb3_alignsam.registration import ENV_IDS


def make_env(env_id: str, env_kwargs: Mapping[str, Any] | None = None, kind: type[SamSegEnv] = SamSegEnv) -> SamSegEnv:
    """Make one environment without gymnasium's wrappers.

    :param kind: `SamSegEnv` or a class derived from it.

    :raises InputError: the id, a keyword or a value cannot be used; the message names it.
    """
    if env_id not in ENV_IDS:
        raise unknown_name(env_id, ENV_IDS, "environment")
    check_keywords(SamSegEnv.__init__, env_kwargs or {}, "environment keyword")
    return kind(**(ENV_IDS[env_id] | dict(env_kwargs or {})))
