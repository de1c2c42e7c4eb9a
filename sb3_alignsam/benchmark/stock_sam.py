"""transformers' own `SamModel` around the weights of a decoder, as what `Segmenter.segment` is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch as th
from transformers import SamConfig, SamModel

from sb3_alignsam.perception.clicks import Clicks
from sb3_alignsam.perception.decoder import ClickDecoder
from sb3_alignsam.perception.geometry import to_square


class StockSam:
    """`SamModel.forward` on a given image embedding.

    :param decoder: its prompt encoder and mask decoder are used as they are; the model's image encoder never runs.
    :param embedding_shape: (C, h, w). :param image_size: side of the padded square in pixels. :param device: its own.
    """

    def __init__(
        self, decoder: ClickDecoder, embedding_shape: tuple[int, int, int], image_size: int, device: th.device
    ) -> None:
        channels, side, _ = embedding_shape
        vision = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "num_pos_feats": channels // 2}
        prompts = {"hidden_size": channels, "image_size": image_size, "image_embedding_size": side}
        model = SamModel(
            SamConfig(
                vision_config={**vision, "output_channels": channels, "image_size": image_size},
                prompt_encoder_config=prompts,
                mask_decoder_config={"hidden_size": channels},
            )
        )
        model.prompt_encoder, model.mask_decoder = decoder.prompt_encoder, decoder.mask_decoder
        model.shared_image_embedding = decoder.prompt_encoder.shared_embedding
        self.model = model.eval().requires_grad_(False).to(device)
        self.image_size, self.device = image_size, device

    @th.inference_mode()
    def segment(
        self,
        embedding: th.Tensor,
        clicks: Clicks,
        image_size: tuple[int, int],
        previous: th.Tensor | None,
        multimask: bool,
    ) -> tuple[th.Tensor, th.Tensor]:
        """Low-res logits (M, 4h, 4w) and predicted IoU (M,) of one image; parameters as of `Segmenter.segment`."""
        points = to_square(clicks.points_xy, *image_size, self.image_size)
        result = self.model(
            input_points=th.from_numpy(points)[None, None].to(self.device),
            input_labels=th.from_numpy(np.asarray(clicks.labels))[None, None].to(self.device),
            input_masks=previous,
            image_embeddings=embedding[None],
            multimask_output=multimask,
        )
        return result.pred_masks[0, 0], result.iou_scores[0, 0]

    def segment_all(
        self,
        embeddings: th.Tensor,
        clicks: Sequence[Clicks],
        image_sizes: Sequence[tuple[int, int]],
        previous: th.Tensor | None,
    ) -> None:
        """One image after the other: its mask prompts belong to images, so prompts of several are no batch."""
        for row, asked in enumerate(clicks):
            mask = None if previous is None else previous[row][None]
            self.segment(embeddings[row], asked, image_sizes[row], mask, len(asked) == 1)
