"""Checkpoints: from a file or a mapping to a network's weights, strictly and without running what a file holds."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch as th
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from sb3_alignsam.errors import InputError

StateDict = Mapping[str, th.Tensor]
Checkpoint = str | Path | Mapping[str, th.Tensor | np.ndarray]
PICKLED = (".pt", ".pth", ".bin")
# What torch's unpickler was seen to raise on damaged files beside its own UnpicklingError.
_UNREADABLE = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OSError,
    struct.error,
)


def read_state_dict(checkpoint: Checkpoint) -> tuple[str, StateDict]:
    """Read a flat state dict.

    :param checkpoint: a mapping of names to tensors or arrays, a ``.safetensors`` file, or a pickled ``.pt``, ``.pth``
        or ``.bin`` file, of which nothing but tensors in plain containers is ever unpickled.
    :return: how messages call it, and the tensors by name, on the CPU when they come from a file.
    :raises InputError: the file does not exist, cannot be read, or is something else than names and tensors.
    """
    if isinstance(checkpoint, Mapping):
        return "the given state dict", _tensors(checkpoint, "the given state dict")
    path = Path(checkpoint)
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist; give the path of a .safetensors or .pt file")
    try:
        return str(path), _unpickle(path) if path.suffix.lower() in PICKLED else load_file(path)
    except SafetensorError as error:
        raise InputError(f"checkpoint {path} is not a readable .safetensors file: {first_line(error)}") from error


def load_strict(model: nn.Module, state: StateDict, source: str, name: str, key_of: Callable[[str], str] = str) -> None:
    """Load every parameter and buffer of a network, and refuse a state dict that holds less, more or other shapes.

    :param model: the network to fill; its floating-point type is kept.
    :param state: what `read_state_dict` gave. :param source: its name, for messages.
    :param name: what messages call the network, such as ``segmenter 'tiny'``.
    :param key_of: the state dict's key for a key of the network; one to one.
    :raises InputError: a key is missing, unexpected or of another shape; the message names the first.
    """
    own = model.state_dict()
    keys = {key_of(key): key for key in own}
    faults = [f"'{key}' is missing" for key in keys if key not in state]
    faults += [f"'{key}' is not expected" for key in state if key not in keys]
    faults += [
        f"'{key}' has shape {tuple(state[key].shape)}, not {tuple(own[mine].shape)}"
        for key, mine in keys.items()
        if key in state and state[key].shape != own[mine].shape
    ]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise InputError(f"{source} does not hold the weights of {name}: {faults[0]}{more}")
    model.load_state_dict({mine: state[key] for key, mine in keys.items()})


def first_line(error: Exception) -> str:
    """What an exception of a library says, in at most 200 characters of one line."""
    return next((line.strip()[:200] for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _unpickle(path: Path) -> StateDict:
    try:
        state = th.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        # torch's message runs to a page and explains how to switch the check off.
        raise InputError(f"checkpoint {path} is damaged, or holds other objects than tensors: not loaded") from error
    except _UNREADABLE as error:
        raise InputError(f"checkpoint {path} is not a readable torch file: {first_line(error)}") from error
    if not isinstance(state, Mapping):
        raise InputError(f"checkpoint {path} holds a {type(state).__name__}, not a state dict")
    return _tensors(state, f"checkpoint {path}")


def _tensors(state: Mapping[str, object], source: str) -> StateDict:
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, th.Tensor | np.ndarray):
            raise InputError(
                f"{source} is not a flat mapping of names to tensors: {str(key)[:80]!r} is a {type(value).__name__}"
            )
    return {key: _tensor(value, key, source) for key, value in state.items()}


def _tensor(value: object, key: str, source: str) -> th.Tensor:
    if isinstance(value, th.Tensor):
        return value
    try:
        # Copied: an array that cannot be written to, as one out of a mapped file, makes torch warn.
        return th.tensor(value)
    except TypeError as error:
        raise InputError(f"{source} cannot be used: '{key}' is an array of another type than numbers") from error
