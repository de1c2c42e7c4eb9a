"""From a text model's name to a frozen `ClipSurgery`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch as th

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.checkpoints import load_strict, read_state_dict
from sb3_alignsam.perception.clip_loading import CLIP_NAME
from sb3_alignsam.perception.clip_surgery import ClipSurgery
from sb3_alignsam.perception.devices import resolve_device
from sb3_alignsam.perception.tiny.clip_model import MAP_SIZE, tiny_clip, tiny_tokenizer

TINY_CLIP_WEIGHTS = Path(__file__).parent / "tiny" / "weights" / "tiny_clip.safetensors"


def load_text_model(
    name: str | Path = "tiny", device: str | th.device = "cpu", dtype: th.dtype = th.float32
) -> ClipSurgery:
    """Load a frozen text model.

    :param name: ``tiny``, the embedded default; a folder in transformers' format; or a name such as
        ``openai/clip-vit-base-patch16``.
    :param device: where it runs: ``auto``, ``cpu``, ``cuda`` or ``mps``. :param dtype: its floating-point type.
    :raises InputError: the name is unknown, the device is not there, or files are missing or damaged.
    """
    device = resolve_device(str(device))
    if name == "tiny":
        return load_tiny_clip(TINY_CLIP_WEIGHTS, device, dtype)
    # The empty path is the working directory, which nobody means by it.
    if not name or (not Path(name).is_dir() and "/" not in str(name) and name != CLIP_NAME):
        raise InputError(f"text_model '{name}' is not known; known: tiny, a folder, openai/{CLIP_NAME}")
    return ClipSurgery.from_pretrained(name, device=device, dtype=dtype)


def load_tiny_clip(weights: Path, device: str | th.device = "cpu", dtype: th.dtype = th.float32) -> ClipSurgery:
    """The tiny CLIP with weights of a file.

    :raises InputError: the file is missing or holds other weights.
    """
    source, state = read_state_dict(weights)
    model = tiny_clip()
    load_strict(model, state, source, "the tiny CLIP")
    return ClipSurgery(model, tiny_tokenizer(), device=device, dtype=dtype, map_size=MAP_SIZE)


@cache
def shared_text_model(name: str, device: str = "cpu") -> ClipSurgery:
    """The text model of this process: loaded once, however many environments ask for it."""
    return load_text_model(name, device)
