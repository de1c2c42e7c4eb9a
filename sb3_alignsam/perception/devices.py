"""Which devices this machine has."""

from __future__ import annotations

import torch as th

from sb3_alignsam.errors import InputError


def resolve_device(name: str) -> str:
    """The device to use for ``auto``, or the one named once it is there.

    :raises InputError: it is not.
    """
    present = {"cpu": True, "cuda": th.cuda.is_available(), "mps": th.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if present["cuda"] else "mps" if present["mps"] else "cpu"
    try:
        kind = th.device(name).type
    except RuntimeError:
        kind = ""
    if not present.get(kind, False):
        there = ", ".join(each for each, is_there in present.items() if is_there)
        raise InputError(f"device '{name}' is not there; on this machine: {there}")
    return name
