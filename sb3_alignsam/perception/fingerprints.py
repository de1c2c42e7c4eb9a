"""A short name for what a frozen network computes: two of one fingerprint find the same in the same image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch as th
from torch import nn


def fingerprint(weights: nn.Module | Mapping[str, th.Tensor], *facts: object) -> str:
    """SHA-256 over every tensor's name, dtype, shape and elements, and over what else decides the results.

    Neither device nor memory layout matters.

    :param weights: a module, for its state dict and how it is built, or tensors by name, in any order.
    :param facts: plain values whose `repr` tells them apart: numbers, texts, tuples of them.
    :return: 64 hexadecimal digits.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach()
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        # As bytes, for dtypes that numpy does not have.
        digest.update(tensor.cpu().contiguous().reshape(-1).view(th.uint8).numpy().data)
    if isinstance(weights, nn.Module):
        digest.update(repr((str(weights), _settings(weights))).encode())
    digest.update(repr(facts).encode())
    return digest.hexdigest()


def _settings(module: nn.Module) -> list[tuple[str, str, object]]:
    """Numbers that parts of a module work with and do not print, such as a count of attention heads."""
    return [
        (part, name, value)
        for part, submodule in sorted(module.named_modules())
        for name, value in sorted(vars(submodule).items())
        if _is_plain(value) and not name.startswith("_")
    ]


def _is_plain(value: object) -> bool:
    return isinstance(value, int | float) or (isinstance(value, tuple) and all(map(_is_plain, value)))
