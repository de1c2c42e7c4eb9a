"""From a segmenter's name to a frozen `Segmenter`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch as th

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception import repvit
from sb3_alignsam.perception.checkpoints import Checkpoint, load_strict, read_state_dict
from sb3_alignsam.perception.devices import resolve_device
from sb3_alignsam.perception.mapped_weights import can_map, mapped
from sb3_alignsam.perception.pretrained_sam import pretrained_sam
from sb3_alignsam.perception.repvit import RepvitSam
from sb3_alignsam.perception.segmenter import Segmenter
from sb3_alignsam.perception.tiny import encoder as tiny
from sb3_alignsam.perception.tiny.model import PIXEL_MEAN, PIXEL_STD, TinySam
from sb3_alignsam.perception.weights import find_weights

TINY_WEIGHTS = Path(__file__).parent / "tiny" / "weights" / "tiny_sam.safetensors"


@dataclass(frozen=True)
class _Architecture:
    """:param embedding: channels and side of the image embedding. :param key_of: the checkpoint's key for one of ours.
    :param shipped: the weights in the package; None: those that `find_weights` knows by the same name."""

    build: Callable[[], TinySam | RepvitSam]
    image_size: int
    embedding: tuple[int, int]
    key_of: Callable[[str], str] = str
    shipped: Path | None = None


_ARCHITECTURES = {
    "tiny": _Architecture(TinySam, tiny.IMAGE_SIZE, (tiny.CHANNELS, tiny.EMBEDDING_SIZE), shipped=TINY_WEIGHTS),
    "repvit_sam": _Architecture(
        RepvitSam,
        repvit.IMAGE_SIZE,
        (repvit.CHANNELS, repvit.EMBEDDING_SIZE),
        repvit.upstream_key,
    ),
}
SEGMENTERS = tuple(_ARCHITECTURES)
"""The names of networks of our own; a folder or a hub name stands for a SAM in transformers' format."""


def load_segmenter(
    name: str = "tiny",
    checkpoint: Checkpoint | None = None,
    device: str | th.device = "cpu",
    dtype: th.dtype = th.float32,
) -> Segmenter:
    """Load a frozen segmenter.

    :param name: ``tiny``, the embedded default, ``repvit_sam``, or a SAM in transformers' format: its folder, or its
        name on the Hugging Face hub such as ``facebook/sam-vit-base``.
    :param checkpoint: a ``.safetensors`` file, a ``.pt`` file of tensors alone, or a state dict of tensors or arrays,
        for ``repvit_sam`` with upstream's names; None: the weights shipped with the package (``tiny``), stored by
        `sb3-alignsam weights` (``repvit_sam``), or lying in the folder.
    :param device: where it runs: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    :param dtype: its floating-point type.
    :raises InputError: the name is unknown, the device is not there, or the checkpoint is missing or of another
        network.
    """
    resolved = resolve_device(str(device))
    if name in _ARCHITECTURES:
        return _segmenter(name, _fused_network(name, checkpoint, resolved, dtype), resolved, dtype)
    # The empty path is the working directory, which nobody means by it.
    if not name or not ("/" in name or Path(name).is_dir()):
        raise InputError(
            f"segmenter '{name}' is not known; known: {', '.join(SEGMENTERS)}, the folder of a SAM in transformers' "
            "format, or its name on the Hugging Face hub such as facebook/sam-vit-base"
        )
    if checkpoint is not None:
        raise InputError(f"segmenter '{name}' has its weights in its own folder: leave out checkpoint")
    return pretrained_sam(name, resolved, dtype)


@cache
def shared_segmenter(name: str = "tiny", checkpoint: str | None = None, device: str = "cpu") -> Segmenter:
    """The segmenter of this process: loaded once, however many environments ask for it."""
    return load_segmenter(name, checkpoint, device)


def load_network(name: str, checkpoint: Checkpoint | None = None) -> TinySam | RepvitSam:
    """Load a network of our own as its checkpoint has it, with BatchNorms and parallel branches.

    :param name: one of `SEGMENTERS`. :param checkpoint: as in `load_segmenter`.
    :return: in evaluation mode, float32, on the CPU.
    :raises InputError: the checkpoint is missing or of another network.
    """
    architecture = _ARCHITECTURES[name]
    checkpoint = architecture.shipped if checkpoint is None else checkpoint
    source, state = read_state_dict(find_weights(name) if checkpoint is None else checkpoint)
    network = architecture.build()
    load_strict(network, state, source, f"segmenter '{name}'", architecture.key_of)
    return network.eval()


def _fused_network(name: str, checkpoint: Checkpoint | None, device: str, dtype: th.dtype) -> TinySam | RepvitSam:
    """The network for inference; where its weights are large, all processes of the machine share them."""
    architecture = _ARCHITECTURES[name]
    checkpoint = architecture.shipped if checkpoint is None else checkpoint
    checkpoint = find_weights(name) if checkpoint is None else checkpoint
    if not can_map(checkpoint, device, dtype):
        return _fused(load_network(name, checkpoint))
    return mapped(
        name,
        checkpoint,
        build=lambda: _fused(architecture.build().eval()),
        load=lambda: _fused(load_network(name, checkpoint)),
    )


def _fused(network: TinySam | RepvitSam) -> TinySam | RepvitSam:
    # In evaluation mode, where BatchNorms are constants, and while still in float32.
    network.encoder.fuse()
    return network


def _segmenter(name: str, network: TinySam | RepvitSam, device: str, dtype: th.dtype) -> Segmenter:
    architecture = _ARCHITECTURES[name]
    channels, side = architecture.embedding
    return Segmenter(
        name,
        network.encoder,
        network.decoder,
        image_size=architecture.image_size,
        embedding_shape=(channels, side, side),
        pixel_mean=PIXEL_MEAN,
        pixel_std=PIXEL_STD,
        device=device,
        dtype=dtype,
    )
