"""SAM's prompt encoder and mask decoder as one module: from clicks and previous logits to masks and predicted IoU."""

from __future__ import annotations

import torch as th
from torch import nn
from transformers import SamConfig
from transformers.models.sam.modeling_sam import SamMaskDecoder, SamPromptEncoder

LAYER_NORM_EPS = 1e-5
"""Of the mask decoder's transformer: torch's default, as SAM's own code has it. transformers' default is 1e-6."""


class ClickDecoder(nn.Module):
    """Prompt encoder and mask decoder of Segment Anything (Kirillov et al. 2023, section 3), by transformers' modules.

    It holds the weights and is what training runs; `FrozenDecoder` is how a `Segmenter` uses them.

    :param prompt_encoder: transformers' module, for a square image of a square embedding.
    :param mask_decoder: transformers' module, of the same width.
    """

    def __init__(self, prompt_encoder: SamPromptEncoder, mask_decoder: SamMaskDecoder) -> None:
        super().__init__()
        self.embedding_size: int = prompt_encoder.image_embedding_size[0]
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder

    @classmethod
    def of_size(
        cls, channels: int, embedding_size: int, image_size: int, mlp_dim: int = 2048, num_heads: int = 8
    ) -> ClickDecoder:
        """Build one with transformers' random weights.

        :param channels: width of the image embedding, 256 for SAM.
        :param embedding_size: height and width of the image embedding.
        :param image_size: side of the padded square that click coordinates refer to, in pixels.
        :param mlp_dim: hidden width of the transformer's MLP, 2048 for SAM.
        :param num_heads: attention heads, 8 for SAM.
        """
        config = SamConfig(
            vision_config={"hidden_size": 2 * channels, "num_pos_feats": channels // 2, "output_channels": channels},
            prompt_encoder_config={
                "hidden_size": channels,
                "image_size": image_size,
                "patch_size": image_size // embedding_size,
                "image_embedding_size": embedding_size,
            },
            mask_decoder_config={
                "hidden_size": channels,
                "mlp_dim": mlp_dim,
                "num_attention_heads": num_heads,
                "iou_head_hidden_dim": channels,
                "layer_norm_eps": LAYER_NORM_EPS,
            },
        )
        config.mask_decoder_config._attn_implementation = "sdpa"
        return cls(SamPromptEncoder(config), SamMaskDecoder(config.mask_decoder_config))

    def cast(self, device: th.device, dtype: th.dtype) -> ClickDecoder:
        """Move and cast everything in place, but keep the positional encoding in float32 at least.

        bfloat16 has steps of 4 pixels above 512, and rounds the encoding's own weights as coarsely.
        """
        encoding = self.prompt_encoder.shared_embedding.positional_embedding.detach()
        self.to(device, dtype)
        kept = encoding.to(device, th.promote_types(dtype, th.float32))
        self.prompt_encoder.shared_embedding.positional_embedding.data = kept
        return self

    def reset_parameters(self) -> None:
        """Draw fresh weights as SAM's own code does: transformers' start makes a model that ignores its clicks."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d | nn.ConvTranspose2d | nn.LayerNorm):
                module.reset_parameters()
        nn.init.normal_(self.prompt_encoder.shared_embedding.positional_embedding)

    def dense_position(self) -> th.Tensor:
        """Positional encoding of the embedding's cell centres, (1, C, h, w)."""
        weight = self.prompt_encoder.shared_embedding.positional_embedding
        centres = (th.arange(self.embedding_size, device=weight.device, dtype=weight.dtype) + 0.5) / self.embedding_size
        rows, columns = th.meshgrid(centres, centres, indexing="ij")
        return self.prompt_encoder.shared_embedding(th.stack([columns, rows], dim=-1)).permute(2, 0, 1)[None]

    def forward(
        self,
        embeddings: th.Tensor,
        points: th.Tensor,
        labels: th.Tensor,
        previous: th.Tensor | None,
        multimask: bool,
    ) -> tuple[th.Tensor, th.Tensor]:
        """Decode one prompt an image; every prompt of the batch has the same number of clicks.

        :param embeddings: (B, C, h, w).
        :param points: (B, N, 2) x, y in pixels of the padded square, float32 whatever the type of the rest.
        :param labels: (B, N), 1 positive and 0 negative.
        :param previous: low-res logits of the mask to refine, (B, 1, 4h, 4w), or None.
        :param multimask: three candidate masks instead of one.
        :return: low-res logits (B, M, 4h, 4w) and predicted IoU (B, M), M = 3 or 1.
        """
        sparse, dense = self.prompt_encoder(points[:, None], labels[:, None], None, previous)
        low_res, iou = self.mask_decoder(embeddings, self._position_of(embeddings), sparse, dense, multimask)
        return low_res[:, 0], iou[:, 0]

    def _position_of(self, embeddings: th.Tensor) -> th.Tensor:
        return self.dense_position().to(embeddings.dtype).expand(len(embeddings), -1, -1, -1)
