"""The embedded default SAM: encoder and click decoder at a small width, for 256-pixel images."""

from __future__ import annotations

import torch as th
from torch import nn

from sb3_alignsam.perception.decoder import ClickDecoder
from sb3_alignsam.perception.tiny.encoder import CHANNELS, EMBEDDING_SIZE, IMAGE_SIZE, TinyEncoder

PIXEL_MEAN = (123.675, 116.28, 103.53)
"""RGB mean in 0..255, as SAM's."""
PIXEL_STD = (58.395, 57.12, 57.375)


class TinySam(nn.Module):
    """0.9 M parameters: a 256-pixel square becomes a (64, 32, 32) embedding, clicks become (M, 128, 128) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = TinyEncoder()
        self.decoder = ClickDecoder.of_size(CHANNELS, EMBEDDING_SIZE, IMAGE_SIZE, mlp_dim=256, num_heads=4)

    def forward(
        self,
        pixels: th.Tensor,
        points: th.Tensor,
        labels: th.Tensor,
        previous: th.Tensor | None = None,
        multimask: bool = True,
    ) -> tuple[th.Tensor, th.Tensor]:
        """Encode and decode in one call; shapes as in `ClickDecoder.forward`, pixels (B, 3, 256, 256) normalised."""
        return self.decoder(self.encoder(pixels), points, labels, previous, multimask)
