"""From a segmenter's name to a frozen `Segmenter`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch as th
from safetensors import SafetensorError
from safetensors.torch import load_file

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.segmenter import Segmenter
from sb3_alignsam.perception.tiny.encoder import CHANNELS, EMBEDDING_SIZE, IMAGE_SIZE
from sb3_alignsam.perception.tiny.model import PIXEL_MEAN, PIXEL_STD, TinySam

TINY_WEIGHTS = Path(__file__).parent / "tiny" / "weights" / "tiny_sam.safetensors"
SEGMENTERS = ("tiny",)


def load_segmenter(
    name: str = "tiny",
    checkpoint: str | Path | dict[str, th.Tensor] | None = None,
    device: str | th.device = "cpu",
    dtype: th.dtype = th.float32,
) -> Segmenter:
    """Load a frozen segmenter.

    :param name: ``tiny``, the embedded default.
    :param checkpoint: a safetensors file or a state dict; None: the weights that ship with the package.
    :param device: where it runs. :param dtype: its floating-point type.
    :raises InputError: the name is unknown, or the checkpoint is missing or of another network.
    """
    if name not in SEGMENTERS:
        raise InputError(f"segmenter '{name}' is not known; known: {', '.join(SEGMENTERS)}")
    model = TinySam()
    source, state = _read(checkpoint if checkpoint is not None else TINY_WEIGHTS)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{source} does not hold the weights of segmenter '{name}': {_first_line(error)}") from error
    model.eval()
    model.encoder.fuse()
    return Segmenter(
        name,
        model.encoder,
        model.decoder,
        image_size=IMAGE_SIZE,
        embedding_shape=(CHANNELS, EMBEDDING_SIZE, EMBEDDING_SIZE),
        pixel_mean=PIXEL_MEAN,
        pixel_std=PIXEL_STD,
        device=device,
        dtype=dtype,
    )


@cache
def shared_segmenter(name: str = "tiny", checkpoint: str | None = None, device: str = "cpu") -> Segmenter:
    """The segmenter of this process: loaded once, however many environments ask for it."""
    return load_segmenter(name, checkpoint, device)


def _read(checkpoint: str | Path | dict[str, th.Tensor]) -> tuple[str, dict[str, th.Tensor]]:
    if isinstance(checkpoint, dict):
        return "the given state dict", checkpoint
    path = Path(checkpoint)
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist; give the path of a .safetensors file")
    try:
        return str(path), load_file(path)
    except SafetensorError as error:
        raise InputError(f"checkpoint {path} is not a readable .safetensors file: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)][:200] if lines else type(error).__name__
