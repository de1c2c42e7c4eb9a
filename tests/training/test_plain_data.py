from __future__ import annotations

import json

import numpy as np
import pytest

from sb3_alignsam.training.plain_data import pack, unpack


def test_values_come_back_with_their_types_after_a_trip_through_json():
    value = {
        "big": 2**127,
        "small": 0.1,
        "worst": -np.inf,
        "reward": np.float32(0.1),
        "flag": np.bool_(True),
        "array": np.arange(6, dtype=np.float16).reshape(2, 3),
        "nested": [{"none": None, "text": "star"}, [1, 2.5, True]],
    }
    plain, arrays = pack(value)
    back = unpack(json.loads(json.dumps(plain)), arrays)
    assert back.pop("array").dtype == np.float16
    value.pop("array")
    assert back == value
    assert type(back["reward"]) is np.float32


@pytest.mark.parametrize("value", [object(), {1: "a number as key"}, np.array([object()])])
def test_what_would_have_to_be_pickled_is_refused(value):
    with pytest.raises(TypeError):
        pack({"here": value})
