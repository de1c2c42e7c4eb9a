from __future__ import annotations

import pickle

import numpy as np
from gymnasium import spaces

from sb3_alignsam.envs.bounded import Bounded


def test_it_is_the_box_of_the_same_bounds_in_a_few_bytes():
    box, bounded = spaces.Box(-2, 3, (64, 32, 32), np.float16), Bounded(-2, 3, (64, 32, 32), np.float16)
    assert box == bounded
    assert bounded == box
    again = pickle.loads(pickle.dumps(bounded))
    assert again == bounded
    assert len(pickle.dumps(bounded)) < 200
    assert again.contains(again.sample())
    assert bounded != Bounded(-2, 4, (64, 32, 32), np.float16)
    assert repr(bounded) == "Box(-2, 3, (64, 32, 32), float16)"
