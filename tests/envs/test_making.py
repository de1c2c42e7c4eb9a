from __future__ import annotations

import gymnasium as gym
import pytest

from sb3_alignsam.envs import make_env
from sb3_alignsam.errors import InputError
from sb3_alignsam.registration import ENV_IDS


def test_importing_the_package_registers_its_ids():
    assert set(ENV_IDS) <= set(gym.registry)


def test_an_unknown_id_is_answered_with_near_ones():
    with pytest.raises(InputError, match="environment 'SamSegShape-v0' is not known; did you mean SamSegShapes-v0"):
        make_env("SamSegShape-v0")


def test_coco_without_a_root_says_what_is_missing():
    with pytest.raises(InputError, match="root:FOLDER"):
        make_env("SamSegCoco-v0")
