"""The one interface to a frozen Segment Anything Model: images become embeddings, clicks become masks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_alignsam.perception.clicks import Clicks
from sb3_alignsam.perception.decoder import ClickDecoder
from sb3_alignsam.perception.fingerprints import fingerprint
from sb3_alignsam.perception.frozen_decoder import FrozenDecoder
from sb3_alignsam.perception.geometry import resize_longest_side, resized_shape, to_square

MASK_THRESHOLD = 0.0
"""A pixel belongs to the mask where its logit is above this (Segment Anything, `Sam.mask_threshold`)."""
CPU_BATCH_BYTES = 4 * 2**20
"""Bytes of float32 embeddings that a processor decodes at once: what it works on should fit its caches. Of RepViT-SAM
that is one image, of the embedded SAM sixteen."""


@dataclass(frozen=True)
class Masks:
    """What `Segmenter.segment` found for B images.

    :param low_res: logits on SAM's low-resolution padded square, (B, M, 4h, 4w) float32.
    :param iou: predicted IoU of each mask, (B, M) float32; a regression output, it can leave [0, 1] a little.
    :param image_sizes: (H, W) of each original image in pixels.
    :param image_size: side of SAM's padded square in pixels.
    """

    low_res: th.Tensor
    iou: th.Tensor
    image_sizes: tuple[tuple[int, int], ...]
    image_size: int

    def upsample(self, index: int) -> th.Tensor:
        """Logits of one image's masks at its original size, (M, H, W) float32.

        Bilinear to the padded square, cropped, bilinear to the image (Segment Anything, `Sam.postprocess_masks`).
        """
        return upsample_logits(self.low_res[index], self.image_sizes[index], self.image_size)


def upsample_logits(low_res: th.Tensor, shape: tuple[int, int], image_size: int) -> th.Tensor:
    """Low-res logits of one image, (M, 4h, 4w), at its original (H, W); (M, H, W)."""
    if low_res.device.type == "cpu":
        masks = low_res.float().numpy()
        enlarged = [_upsample_on_processor(each, shape, image_size) for each in masks]
        return th.from_numpy(np.stack(enlarged) if len(enlarged) > 1 else enlarged[0][None])
    square = F.interpolate(low_res[None], (image_size, image_size), mode="bilinear", align_corners=False)
    height, width = resized_shape(*shape, image_size)
    if (height, width) == shape:
        return square[0, :, :height, :width]
    return F.interpolate(square[..., :height, :width], shape, mode="bilinear", align_corners=False)[0]


def _upsample_on_processor(low_res: np.ndarray, shape: tuple[int, int], image_size: int) -> np.ndarray:
    """The same for one mask, by OpenCV, which takes half of torch's time; (H, W) float32."""
    height, width = resized_shape(*shape, image_size)
    scale = image_size // low_res.shape[0]
    # No more than is seen after the crop, and a cell beside it that its border is interpolated with.
    seen = low_res[: height // scale + 2, : width // scale + 2]
    square = cv2.resize(seen, (scale * seen.shape[1], scale * seen.shape[0]), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(square[:height, :width], shape[::-1], interpolation=cv2.INTER_LINEAR)


class Segmenter:
    """A frozen SAM. It holds no state between calls and never trains.

    :param name: what it was loaded as.
    :param encoder: module from normalised pixels (B, 3, S, S) to embeddings (B, C, h, w).
    :param decoder: SAM's prompt encoder and mask decoder.
    :param image_size: side S of the padded square in pixels.
    :param pixel_mean: RGB mean in 0..255. :param pixel_std: RGB standard deviation in 0..255.
    :param device: where it runs. :param dtype: floating-point type of its weights and activations.
    """

    def __init__(
        self,
        name: str,
        encoder: nn.Module,
        decoder: ClickDecoder,
        *,
        image_size: int,
        embedding_shape: tuple[int, int, int],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        device: str | th.device = "cpu",
        dtype: th.dtype = th.float32,
    ) -> None:
        self.name = name
        self.image_size = image_size
        self.embedding_shape = embedding_shape
        self.device = th.device(device)
        self.dtype = dtype
        encoder = encoder.eval().requires_grad_(False).to(self.device, dtype)
        self._encoder = encoder.to(memory_format=th.channels_last)
        self._decoder = decoder.eval().requires_grad_(False).cast(self.device, dtype)
        self._decode = FrozenDecoder(self._decoder)
        self._mean = np.asarray(pixel_mean, np.float32)
        self._std = np.asarray(pixel_std, np.float32)
        # A table of the 256 values of each channel: one pass over an image instead of three.
        self._normalised = ((np.arange(256, dtype=np.float32)[:, None] - self._mean) / self._std)[None]

    @property
    def encoder(self) -> nn.Module:
        """From normalised pixels to embeddings; for export. It is not to be changed."""
        return self._encoder

    @property
    def decoder(self) -> ClickDecoder:
        """Prompt encoder and mask decoder; for export. It is not to be changed."""
        return self._decoder

    @property
    def pixel_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """RGB mean and standard deviation in 0..255 by which pixels are normalised, each (3,) float32."""
        return self._mean, self._std

    @property
    def low_res_size(self) -> int:
        """Side of the low-res logits: four times the embedding's."""
        return 4 * self.embedding_shape[1]

    @property
    def size_bytes(self) -> int:
        """Bytes of its weights."""
        modules = (self._encoder, self._decoder)
        return sum(each.numel() * each.element_size() for module in modules for each in module.parameters())

    @cached_property
    def fingerprint(self) -> str:
        """Names what decides an embedding: the encoder, its weights and the preprocessing; the decoder has no part.

        The same on every device, and for every process of a machine.
        """
        pixels = (self.image_size, self._mean.tolist(), self._std.tolist(), str(self.dtype))
        return fingerprint(self._encoder, *pixels)

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 over all its weights, the decoder's too; the same on every device."""
        parts = {"encoder": self._encoder, "decoder": self._decoder}
        return fingerprint({f"{part}.{name}": tensor for part, module in parts.items()
                            for name, tensor in module.state_dict().items()})  # fmt: skip

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """Resize, normalise and pad one image, (H, W, 3) uint8 RGB, to (S, S, 3) float32; padding is 0."""
        return self._preprocess([image])[0]

    def _preprocess(self, images: Sequence[np.ndarray]) -> np.ndarray:
        squares = np.zeros((len(images), self.image_size, self.image_size, 3), np.float32)
        for image, square in zip(images, squares, strict=True):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
                raise ValueError(f"an image is (H, W, 3) uint8; got {image.shape} {image.dtype}")
            resized = np.ascontiguousarray(resize_longest_side(image, self.image_size))
            cv2.LUT(resized, self._normalised, dst=square[: resized.shape[0], : resized.shape[1]])
        return squares

    @th.inference_mode()
    def encode(self, images: Sequence[np.ndarray]) -> th.Tensor:
        """Embed images, each (H, W, 3) uint8 RGB of any size; (B, C, h, w) float32 on the device."""
        pixels = self._preprocess(images)
        # The NHWC array seen as NCHW is channels-last memory: no copy is made.
        batch = th.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device, self.dtype)
        return self._encoder(batch).float()

    @th.inference_mode()
    def segment(
        self,
        embeddings: th.Tensor | Sequence[th.Tensor],
        clicks: Sequence[Clicks],
        image_sizes: Sequence[tuple[int, int]],
        previous: th.Tensor | Sequence[th.Tensor] | None = None,
        multimask: bool | None = None,
    ) -> Masks:
        """Masks for one prompt an image. Images with equally many clicks run as a batch, nothing is padded.

        :param embeddings: (B, C, h, w), any floating-point type, or B of (C, h, w), which are not copied together.
        :param clicks: B of them, in pixels of each original image.
        :param image_sizes: (H, W) of each original image.
        :param previous: low-res logits to refine, (B, 1, 4h, 4w) or B of (1, 4h, 4w), or None for no previous mask.
        :param multimask: three candidates (True) or one (False); None: three where there is a single click. Three and
            one cannot be mixed in a call: with None, either every image has a single click or none has.
        :raises ValueError: the lengths differ, or None is asked for a mixture.
        """
        counts = [len(each) for each in clicks]
        if not (len(embeddings) == len(counts) == len(image_sizes)) or (
            previous is not None and len(previous) != len(counts)
        ):
            raise ValueError("embeddings, clicks, image_sizes and previous must be of one length")
        if multimask is None:
            if len({count == 1 for count in counts}) > 1:
                raise ValueError("single clicks give three masks and more clicks one: say multimask=True or False")
            multimask = counts[0] == 1
        batches = list(self._batches(counts))
        if len(batches) == 1:
            found = self._segment_rows(embeddings, clicks, image_sizes, previous, multimask, batches[0])
            return Masks(*found, tuple(image_sizes), self.image_size)
        candidates = 3 if multimask else 1
        low_res = th.empty(len(counts), candidates, self.low_res_size, self.low_res_size, device=self.device)
        iou = th.empty(len(counts), candidates, device=self.device)
        for rows in batches:
            low_res[rows], iou[rows] = self._segment_rows(embeddings, clicks, image_sizes, previous, multimask, rows)
        return Masks(low_res, iou, tuple(image_sizes), self.image_size)

    def _batches(self, counts: Sequence[int]) -> Iterator[list[int]]:
        """Rows that are decoded at once: of equally many clicks, and on a processor no more than is good for it."""
        most = len(counts)
        if self.device.type == "cpu":
            most = max(CPU_BATCH_BYTES // (4 * math.prod(self.embedding_shape)), 1)
        for count in sorted(set(counts)):
            rows = [row for row, each in enumerate(counts) if each == count]
            yield from (rows[start : start + most] for start in range(0, len(rows), most))

    def _segment_rows(
        self,
        embeddings: th.Tensor | Sequence[th.Tensor],
        clicks: Sequence[Clicks],
        image_sizes: Sequence[tuple[int, int]],
        previous: th.Tensor | Sequence[th.Tensor] | None,
        multimask: bool,
        rows: list[int],
    ) -> tuple[th.Tensor, th.Tensor]:
        points = np.array([to_square(clicks[r].points_xy, *image_sizes[r], self.image_size) for r in rows])
        labels = np.array([clicks[r].labels for r in rows])
        low_res, iou = self._decode(
            _rows(embeddings, rows).to(self.device, self.dtype),
            th.from_numpy(points).to(self.device),
            th.from_numpy(labels).to(self.device),
            None if previous is None else _rows(previous, rows).to(self.device, self.dtype),
            multimask,
        )
        return low_res.float(), iou.float()


def _rows(tensors: th.Tensor | Sequence[th.Tensor], rows: Sequence[int]) -> th.Tensor:
    """Some rows, stacked; a single one is not copied."""
    return tensors[rows[0]][None] if len(rows) == 1 else th.stack([tensors[row] for row in rows])
