"""What the frozen networks cost: encoding an image or finding it kept, segmenting clicks, CLIP Surgery's tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch as th
from PIL import Image
from tqdm import tqdm
from transformers import CLIPConfig, CLIPModel

from sb3_alignsam.benchmark.stock_sam import StockSam
from sb3_alignsam.benchmark.timing import (
    Spread,
    about_machine,
    peak_memory,
    ratio,
    take_turns,
    threads,
    waiting,
)
from sb3_alignsam.perception import Clicks, FeatureCache, Segmenter, load_segmenter
from sb3_alignsam.perception.checkpoints import Checkpoint
from sb3_alignsam.perception.clip_surgery import ClipSurgery
from sb3_alignsam.perception.devices import resolve_device
from sb3_alignsam.perception.frozen_features import FrozenFeatures
from sb3_alignsam.perception.loading import load_network
from sb3_alignsam.perception.repvit import RepvitSam, upstream_key
from sb3_alignsam.perception.tiny.model import TinySam

IMAGE_SHAPE = (480, 640)
BATCHES = tuple((envs, clicks) for envs in (1, 4, 16, 64) for clicks in (1, 5))
"""Environments and clicks of the calls of `Segmenter.segment`."""
CLIP_SIDE = 512
SEED = 0
BASELINE, PRODUCT = "baseline", "product"


def benchmark_perception(
    segmenters: Sequence[str],
    *,
    repeats: int,
    num_threads: int,
    device: str = "cpu",
    checkpoint: str | None = None,
    clip: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Time the frozen networks beside what they replace.

    :param segmenters: of ``tiny`` and ``repvit_sam``. :param repeats: of every call.
    :param num_threads: of torch. :param device: as in `load_segmenter`.
    :param checkpoint: weights of ``repvit_sam``; None: random ones, which take the same time.
    :param clip: also time CLIP Surgery. :param progress: show a progress bar.
    :return: plain values; seconds of each row, and how many times faster than its baseline, where it has one.
    :raises InputError: the device is not there, or the checkpoint cannot be used.
    """
    device = resolve_device(device)
    count = len(segmenters) * (2 + len(BATCHES)) + clip
    with threads(num_threads), tqdm(total=count * repeats, disable=not progress, unit="round", leave=False) as bar:

        def timed(what: str, product: Callable[[], object], baseline: Callable[[], object] | None) -> dict[str, Any]:
            calls = {PRODUCT: product} if baseline is None else {BASELINE: baseline, PRODUCT: product}
            return _row(what, take_turns(calls, repeats, waiting(device), bar.update))

        groups = [_segmenter_group(name, checkpoint, device, timed) for name in segmenters]
        groups += [_clip_group(device, timed)] if clip else []
    return {
        "benchmark": "perception",
        **about_machine(device),
        "threads": num_threads,
        "repeats": repeats,
        "groups": groups,
        "peak_memory_bytes": peak_memory(),
    }


Timed = Callable[[str, Callable[[], object], Callable[[], object] | None], dict[str, Any]]
"""Times a call and its baseline by turns, and gives the row."""


def _segmenter_group(name: str, checkpoint: str | None, device: str, timed: Timed) -> dict[str, Any]:
    weights, said = chosen_weights(name, checkpoint)
    network, segmenter = load_network(name, weights), load_segmenter(name, weights, device)
    network.encoder.requires_grad_(False).to(device)
    image = photograph(IMAGE_SHAPE)
    encode = timed(
        "encode",
        lambda: segmenter.encode([image]),
        lambda: encode_as_trained(network, segmenter, image),
    )
    hit = _hit_row(segmenter, image, timed)
    stock = StockSam(network.decoder, segmenter.embedding_shape, segmenter.image_size, segmenter.device)
    rows = [encode, hit, *(_segment_row(segmenter, stock, image, *batch, timed) for batch in BATCHES)]
    return {"name": name, "weights": said, "image_shape": list(IMAGE_SHAPE), "rows": rows}


def _hit_row(segmenter: Segmenter, image: np.ndarray, timed: Timed) -> dict[str, Any]:
    """An embedding out of the feature cache, the digest of the image's pixels included."""
    with TemporaryDirectory() as folder, FeatureCache(folder, limit_gb=0.1) as cache:
        features = FrozenFeatures(segmenter, cache=cache)
        row = timed("cache hit", lambda: features.of(image), None)
        assert features.computed == 1
    return row


def chosen_weights(name: str, checkpoint: str | None) -> tuple[Checkpoint | None, str]:
    """The checkpoint for `load_segmenter`, and what a reader is told of it."""
    if name == "tiny":
        return None, "shipped weights"
    if checkpoint is None:
        return random_repvit_sam(SEED), f"random weights of seed {SEED}"
    return checkpoint, "weights of --checkpoint"


def random_repvit_sam(seed: int) -> dict[str, th.Tensor]:
    """A checkpoint of RepViT-SAM from a seed, by upstream's names, with magnitudes that let signals through."""
    generator = th.Generator().manual_seed(seed)

    def draw(key: str, value: th.Tensor) -> th.Tensor:
        if not value.is_floating_point():
            return value
        if key.endswith("running_var"):
            return 0.5 + th.rand(value.shape, generator=generator)
        drawn = th.randn(value.shape, generator=generator)
        if value.ndim > 1:
            # Half of what keeps the variance: what blocks add to their input would double it each time.
            return drawn / (4 * value[0].numel()) ** 0.5
        return 0.1 * drawn + float(key.endswith("weight"))

    return {upstream_key(key): draw(key, value) for key, value in RepvitSam().state_dict().items()}


def photograph(shape: tuple[int, int]) -> np.ndarray:
    """A picture with large smooth areas and fine grain, (H, W, 3) uint8; the same one each time."""
    rng = np.random.default_rng(SEED)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC), np.float32)
    return (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)


@th.inference_mode()
def encode_as_trained(network: TinySam | RepvitSam, segmenter: Segmenter, image: np.ndarray) -> th.Tensor:
    """`Segmenter.encode` without what makes it fast: BatchNorms and branches as trained, contiguous NCHW memory."""
    pixels = th.from_numpy(segmenter.preprocess(image)).permute(2, 0, 1)[None]
    return network.encoder(pixels.contiguous().to(segmenter.device)).float()


def _segment_row(
    segmenter: Segmenter, stock: StockSam, image: np.ndarray, envs: int, count: int, timed: Timed
) -> dict[str, Any]:
    rng = np.random.default_rng(SEED)
    height, width = image.shape[:2]
    embeddings = segmenter.encode([image]).repeat(envs, 1, 1, 1)
    clicks = [Clicks(rng.uniform(0, (width, height), (count, 2)), rng.integers(0, 2, count)) for _ in range(envs)]
    sizes = [(height, width)] * envs
    # As an environment does it: later clicks refine the mask of those before.
    previous = None if count == 1 else segmenter.segment(embeddings, clicks, sizes, multimask=False).low_res
    what = f"{envs} env{'s' * (envs > 1)}, {count} click{'s' * (count > 1)}"
    return timed(
        what,
        lambda: segmenter.segment(embeddings, clicks, sizes, previous),
        lambda: stock.segment_all(embeddings, clicks, sizes, previous),
    )


def _clip_group(device: str, timed: Timed) -> dict[str, Any]:
    surgery = ClipSurgery(_random_clip(), device=device)
    pixels = th.randn(1, 3, CLIP_SIDE, CLIP_SIDE, generator=th.Generator().manual_seed(SEED))
    row = timed("image_tokens", lambda: surgery.image_tokens(pixels), None)
    shape = [CLIP_SIDE, CLIP_SIDE]
    return {"name": "clip_surgery, ViT-B/16", "weights": "random weights", "image_shape": shape, "rows": [row]}


def _random_clip() -> CLIPModel:
    """An image encoder of the size of OpenAI's ViT-B/16; the text encoder, which is not timed, has one layer."""
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    vision = {**sizes, "image_size": 224, "patch_size": 16, "hidden_act": "quick_gelu"}
    return CLIPModel(CLIPConfig(vision_config=vision, text_config={"num_hidden_layers": 1}, projection_dim=512))


def _row(what: str, spreads: dict[str, Spread]) -> dict[str, Any]:
    seconds = {f"{name}_seconds": each.figures() for name, each in spreads.items()}
    if BASELINE not in spreads:
        return {"what": what, **seconds}
    return {"what": what, **seconds, "times_faster": ratio(spreads[BASELINE], spreads[PRODUCT]).figures()}
