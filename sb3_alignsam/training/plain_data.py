"""Nested plain data as JSON with its arrays beside it, so that reading it back needs no unpickling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_ARRAY = "__array__"
_SCALAR = "__scalar__"


def pack(value: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Mappings with text keys, lists, tuples, numbers, texts, None, and numpy's arrays and scalars.

    :return: the same for `json`, each array replaced by its name, and the arrays by name. Tuples come back as lists.
    :raises TypeError: something else is in it.
    """
    arrays: dict[str, np.ndarray] = {}
    return _packed(value, arrays), arrays


def unpack(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """What `pack` was given.

    :raises LookupError: an array is missing.
    """
    if isinstance(value, list):
        return [unpack(each, arrays) for each in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        return arrays[value[_ARRAY]]
    if _SCALAR in value:
        return np.dtype(value[_SCALAR][0]).type(value[_SCALAR][1])
    return {key: unpack(each, arrays) for key, each in value.items()}


def _packed(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if value is None or isinstance(value, bool | int | str) or type(value) is float:
        return value
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError("an array of objects is no plain data")
        name = f"array_{len(arrays)}"
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, np.generic):
        # Its type is kept: means of float32 are not those of float64.
        return {_SCALAR: [value.dtype.str, value.item()]}
    if isinstance(value, list | tuple):
        return [_packed(each, arrays) for each in value]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"key {key!r} is no text")
        return {key: _packed(each, arrays) for key, each in value.items()}
    raise TypeError(f"{type(value).__name__} is no plain data")
