"""From a segmenter's name to a frozen `Segmenter`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch as th

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception import repvit
from sb3_alignsam.perception.checkpoints import Checkpoint, load_strict, read_state_dict
from sb3_alignsam.perception.devices import resolve_device
from sb3_alignsam.perception.repvit import RepvitSam
from sb3_alignsam.perception.segmenter import Segmenter
from sb3_alignsam.perception.tiny import encoder as tiny
from sb3_alignsam.perception.tiny.model import PIXEL_MEAN, PIXEL_STD, TinySam

TINY_WEIGHTS = Path(__file__).parent / "tiny" / "weights" / "tiny_sam.safetensors"


def load_segmenter(
    name: str = "tiny",
    checkpoint: Checkpoint | None = None,
    device: str | th.device = "cpu",
    dtype: th.dtype = th.float32,
) -> Segmenter:
    """Load a frozen segmenter.

    :param name: ``tiny``, the embedded default, or ``repvit_sam``.
    :param checkpoint: a ``.safetensors`` file, a ``.pt`` file of tensors alone, or a state dict of tensors or arrays,
        for ``repvit_sam`` with upstream's names; None: the weights shipped with the package (``tiny`` only).
    :param device: where it runs: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    :param dtype: its floating-point type.
    :raises InputError: the name is unknown, the device is not there, or the checkpoint is missing or of another
        network.
    """
    if name not in _BUILDERS:
        raise InputError(f"segmenter '{name}' is not known; known: {', '.join(SEGMENTERS)}")
    return _BUILDERS[name](checkpoint, resolve_device(str(device)), dtype)


@cache
def shared_segmenter(name: str = "tiny", checkpoint: str | None = None, device: str = "cpu") -> Segmenter:
    """The segmenter of this process: loaded once, however many environments ask for it."""
    return load_segmenter(name, checkpoint, device)


def _tiny(checkpoint: Checkpoint | None, device: str | th.device, dtype: th.dtype) -> Segmenter:
    model = TinySam()
    source, state = read_state_dict(TINY_WEIGHTS if checkpoint is None else checkpoint)
    load_strict(model, state, source, "tiny")
    return _frozen("tiny", model, tiny.IMAGE_SIZE, (tiny.CHANNELS, tiny.EMBEDDING_SIZE), device, dtype)


def _repvit_sam(checkpoint: Checkpoint | None, device: str | th.device, dtype: th.dtype) -> Segmenter:
    if checkpoint is None:
        raise InputError(
            "segmenter 'repvit_sam' needs checkpoint:FILE; "
            "its weights are repvit_sam.pt of release v1.0 of github.com/THU-MIG/RepViT"
        )
    source, state = read_state_dict(checkpoint)
    model = RepvitSam()
    load_strict(model, state, source, "repvit_sam", repvit.upstream_key)
    return _frozen("repvit_sam", model, repvit.IMAGE_SIZE, (repvit.CHANNELS, repvit.EMBEDDING_SIZE), device, dtype)


def _frozen(
    name: str,
    model: TinySam | RepvitSam,
    image_size: int,
    embedding: tuple[int, int],
    device: str | th.device,
    dtype: th.dtype,
) -> Segmenter:
    """:param embedding: channels and side of the image embedding."""
    # BatchNorms normalise by the batch until the model is in evaluation mode; fused while still in float32.
    model.eval()
    model.encoder.fuse()
    channels, side = embedding
    return Segmenter(
        name,
        model.encoder,
        model.decoder,
        image_size=image_size,
        embedding_shape=(channels, side, side),
        pixel_mean=PIXEL_MEAN,
        pixel_std=PIXEL_STD,
        device=device,
        dtype=dtype,
    )


_BUILDERS: dict[str, Callable[[Checkpoint | None, str | th.device, th.dtype], Segmenter]] = {
    "tiny": _tiny,
    "repvit_sam": _repvit_sam,
}
SEGMENTERS = tuple(_BUILDERS)
