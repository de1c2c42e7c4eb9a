"""Dotted names in configurations, resolved from a short list of modules and never evaluated."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from sb3_alignsam.errors import InputError

ALLOWED_ROOTS = ("sb3_alignsam", "stable_baselines3", "sb3_contrib", "torch.nn")
_SHORT = {"nn.": "torch.nn."}


def resolve_name(dotted: str) -> Any:
    """The class of a dotted name such as ``nn.ReLU``.

    :raises InputError: the name lies outside `ALLOWED_ROOTS` or does not exist.
    """
    full = dotted
    for short, long in _SHORT.items():
        full = long + full.removeprefix(short) if full.startswith(short) else full
    if not any(full.startswith(root + ".") for root in ALLOWED_ROOTS):
        raise InputError(f"name '{dotted}' lies outside {', '.join(ALLOWED_ROOTS)}")
    module_name, _, attribute = full.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"name '{dotted}' does not exist: {error}") from error
    if not isinstance(found, type):
        raise InputError(f"name '{dotted}' is no class")
    return found


def resolve_policy_kwargs(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Replace dotted names among the values by what they name; all else is kept."""
    return {
        key: resolve_name(value) if isinstance(value, str) and "." in value else value for key, value in kwargs.items()
    }
