"""The image encoder of the embedded default: timm's RepViT blocks and a small feature pyramid, 0.6 M parameters."""

from __future__ import annotations

import torch as th
from timm.layers import LayerNorm2d
from timm.models.repvit import RepVit
from torch import nn
from torch.nn import functional as F

IMAGE_SIZE = 256
EMBEDDING_SIZE = 32
CHANNELS = 64


class TinyEncoder(nn.Module):
    """RepViT (Wang et al., CVPR 2024) at a small width; strides 8, 16 and 32 are summed onto stride 8."""

    def __init__(self) -> None:
        super().__init__()
        widths = (32, 64, 96, 128)
        self.backbone = RepVit(embed_dim=widths, depth=(1, 3, 6, 2), act_layer=nn.ReLU, num_classes=0)
        self.lateral = nn.ModuleList(nn.Conv2d(width, CHANNELS, 1, bias=False) for width in widths[1:])
        self.neck = nn.Sequential(
            LayerNorm2d(CHANNELS, eps=1e-6),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
            LayerNorm2d(CHANNELS, eps=1e-6),
        )

    def forward(self, pixels: th.Tensor) -> th.Tensor:
        """:param pixels: normalised, (B, 3, H, W), for SAM 256 a side. :return: image embeddings, (B, 64, H/8, W/8)."""
        features = self.backbone.stem(pixels)
        sides = []
        for index, stage in enumerate(self.backbone.stages):
            features = stage(features)
            if index:
                sides.append(self.lateral[index - 1](features))
        total = sides[0]
        for side in sides[1:]:
            total = total + F.interpolate(side, size=total.shape[-2:], mode="bilinear")
        return self.neck(total)

    def fuse(self) -> None:
        """Fold BatchNorms and parallel branches into single convolutions; for inference only."""
        self.backbone.fuse()
