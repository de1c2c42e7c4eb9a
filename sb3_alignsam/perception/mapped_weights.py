"""One copy of a network's weights in memory, however many processes of a machine use them.

The weights are written once as they are used, fused and in channels-last order, and every process maps that file:
its pages lie in the page cache, nothing is pickled, and nothing is private.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import timm
import torch as th
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from sb3_alignsam.cache_home import cache_home
from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.checkpoints import Checkpoint

Network = TypeVar("Network", bound=nn.Module)
MIN_BYTES = 32_000_000
"""Smaller checkpoints are simply read: a process needs some hundred MB without any weights."""
_FORMAT = 1
"""Part of each file's name; raise it when `mapped` or a network's `fuse` changes what is written."""

_ABANDONED = 3600
"""Seconds after which an unfinished file is that of a killed process."""


def can_map(checkpoint: Checkpoint, device: str, dtype: th.dtype) -> bool:
    """Whether a checkpoint is a large file, for a network that runs on the CPU in float32."""
    if device != "cpu" or dtype != th.float32 or not isinstance(checkpoint, str | Path):
        return False
    path = Path(checkpoint)
    return path.is_file() and path.stat().st_size >= MIN_BYTES


def mapped(name: str, checkpoint: Checkpoint, build: Callable[[], Network], load: Callable[[], Network]) -> Network:
    """The network of `load`, its weights mapped from a file below `cache_home`, which the first process writes.

    Where the file cannot be written or read, what `load` returns.

    :param name: of the network. :param checkpoint: the file that `load` reads, for which `can_map` holds; by its
        content the mapped one is found again.
    :param build: makes a network of the same structure, of which only names and shapes are used.
    :param load: makes the network in evaluation mode, float32, with 4-D weights to be used in channels-last order
        below ``encoder``.
    :raises InputError: `load` does.
    """
    try:
        path = _mapped_file(name, Path(str(checkpoint)))
        with suppress(OSError, SafetensorError, RuntimeError):
            return _assign(build, path)
    except (OSError, InputError):
        return load()
    network = load()
    try:
        _write(network, path)
        # The first process maps too: memory is saved, and its results are those of the others to the last bit.
        return _assign(build, path)
    except (OSError, SafetensorError, RuntimeError):
        return network


def _mapped_file(name: str, checkpoint: Path) -> Path:
    with open(checkpoint, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(repr((_FORMAT, name, th.__version__, timm.__version__)).encode())
    return cache_home() / "mapped" / f"{digest.hexdigest()}.safetensors"


def _write(network: nn.Module, path: Path) -> None:
    """Write atomically: all of it is on the disk before it has its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob("*.tmp"):
        if left.stat().st_mtime < time.time() - _ABANDONED:
            left.unlink(missing_ok=True)
    state = {name: _stored(name, tensor).contiguous() for name, tensor in network.state_dict().items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        os.close(handle)
        save_file(state, temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _assign(build: Callable[[], Network], path: Path) -> Network:
    """:raises RuntimeError: the file holds another network's weights."""
    state = load_file(path)
    with th.device("meta"):
        network = build().eval()
    network.load_state_dict({name: _used(name, tensor) for name, tensor in state.items()}, assign=True)
    return network


def _stored(name: str, tensor: th.Tensor) -> th.Tensor:
    return tensor.permute(0, 2, 3, 1) if _is_channels_last(name, tensor) else tensor


def _used(name: str, tensor: th.Tensor) -> th.Tensor:
    return tensor.permute(0, 3, 1, 2) if _is_channels_last(name, tensor) else tensor


def _is_channels_last(name: str, tensor: th.Tensor) -> bool:
    """`Segmenter` runs its encoder so, its decoder not."""
    return name.startswith("encoder.") and tensor.ndim == 4
