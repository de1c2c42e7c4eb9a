"""SAM's prompt encoder and mask decoder for inference: the same numbers as `ClickDecoder`, for half the arithmetic.

A prompt has about ten tokens and the image thousands. So wherever one attends to the other, the linear layers of the
image's side are moved to the tokens' side: ``q·(W x) = (Wᵀ q)·x``, and likewise for values and for the layer behind the
attention. No projection of the image is ever computed; each head of each token asks the image itself. The image stays
one contiguous matrix of places and channels throughout, upscaling included, so that nothing is transposed.
"""

from __future__ import annotations

import torch as th
from torch import nn
from torch.nn import functional as F
from transformers.models.sam.modeling_sam import SamAttention, SamMaskEmbedding, SamTwoWayAttentionBlock

from sb3_alignsam.perception.decoder import ClickDecoder


class FrozenDecoder:
    """A `ClickDecoder` whose weights do not change any more; what follows from them alone is computed once.

    :param decoder: in evaluation mode, on its device and of its type (`ClickDecoder.cast`); its weights are not copied.
    """

    def __init__(self, decoder: ClickDecoder) -> None:
        self.decoder = decoder
        self.side = decoder.embedding_size
        prompts, masks = decoder.prompt_encoder, decoder.mask_decoder
        self.dtype = masks.iou_token.weight.dtype
        with th.no_grad():
            self._position = decoder.dense_position().to(self.dtype).flatten(2).transpose(1, 2).contiguous()
            self._labels = th.cat([prompts.point_embed[0].weight, prompts.point_embed[1].weight])
            self._tokens = th.cat([masks.iou_token.weight, masks.mask_tokens.weight])[None]
            self._first_upscale = _as_matrix(masks.upscale_conv1)
            self._second_upscale = _as_matrix(masks.upscale_conv2)

    @th.inference_mode()
    def __call__(
        self, embeddings: th.Tensor, points: th.Tensor, labels: th.Tensor, previous: th.Tensor | None, multimask: bool
    ) -> tuple[th.Tensor, th.Tensor]:
        """Decode one prompt an image; parameters and result as in `ClickDecoder.forward`."""
        tokens, image = self._ask(self._prompt(points, labels), self._image(embeddings, previous))
        chosen = range(1, self.decoder.mask_decoder.num_mask_tokens) if multimask else range(1)
        kernels, iou = self._describe_masks(tokens, chosen)
        return self._draw(image, kernels), iou

    def best(
        self, embeddings: th.Tensor, points: th.Tensor, labels: th.Tensor, previous: th.Tensor, refining: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor]:
        """The one mask that an episode takes: without a mask to refine, of three that of the highest predicted IoU.

        No branch depends on a value, so it can be exported as one graph; only the mask that is taken is drawn.

        :param refining: whether `previous` is a mask to refine, (B,) bool; where it is not, its values do not matter.
        :return: low-res logits (B, 1, 4h, 4w) and predicted IoU (B, 1); other parameters as in `ClickDecoder.forward`.
        """
        image = self._image(embeddings, None).where(~refining[:, None, None], self._image(embeddings, previous))
        tokens, image = self._ask(self._prompt(points, labels), image)
        kernels, iou = self._describe_masks(tokens, range(self.decoder.mask_decoder.num_mask_tokens))
        single = th.arange(iou.shape[1], device=iou.device) == 0
        best = iou.masked_fill(single != refining[:, None], -th.inf).argmax(dim=1, keepdim=True)
        kernel = kernels.gather(2, best[:, None].expand(-1, kernels.shape[1], -1))
        return self._draw(image, kernel), iou.gather(1, best)

    def _ask(self, prompt: th.Tensor, image: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """The transformer: prompt (B, T, C) and image (B, N, C) in, both after attending to each other out."""
        transformer = self.decoder.mask_decoder.transformer
        tokens = prompt
        for layer in transformer.layers:
            tokens, image = self._two_ways(layer, tokens, image, prompt)
        attention = transformer.final_attn_token_to_image
        tokens = tokens + _tokens_ask_image(attention, tokens + prompt, image + self._position, image)
        return transformer.layer_norm_final_attn(tokens), image

    def _describe_masks(self, tokens: th.Tensor, chosen: range) -> tuple[th.Tensor, th.Tensor]:
        """Kernels of the chosen M masks, (B, C/8, M), and their predicted IoU, (B, M)."""
        masks = self.decoder.mask_decoder
        kernels = th.stack([masks.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in chosen], dim=2)
        return kernels, masks.iou_prediction_head(tokens[:, 0])[:, chosen.start : chosen.stop]

    def _prompt(self, points: th.Tensor, labels: th.Tensor) -> th.Tensor:
        """Output tokens, clicks and the one that says that there is no box; (B, T, C)."""
        prompts = self.decoder.prompt_encoder
        size = (prompts.input_image_size, prompts.input_image_size)
        places = prompts.shared_embedding((points + 0.5)[:, None], size)[:, 0]
        clicks = (places + self._labels[labels]).to(self.dtype)
        parts = (self._tokens, clicks, prompts.not_a_point_embed.weight[None])
        return th.cat([part.expand(points.shape[0], -1, -1) for part in parts], dim=1)

    def _image(self, embeddings: th.Tensor, previous: th.Tensor | None) -> th.Tensor:
        """Embedding and previous mask together, (B, N, C) with N = h·w places."""
        prompts = self.decoder.prompt_encoder
        image = embeddings.flatten(2).transpose(1, 2)
        if previous is None:
            return image + prompts.no_mask_embed.weight
        described = self._describe(prompts.mask_embed, previous)
        weight = prompts.mask_embed.conv3.weight.flatten(1).T.expand(image.shape[0], -1, -1)
        return th.baddbmm(image + prompts.mask_embed.conv3.bias, described, weight)

    def _describe(self, embed: SamMaskEmbedding, previous: th.Tensor) -> th.Tensor:
        """The hidden layers of SAM's mask encoder, (B, N, 16): strided convolutions as products with 2×2 windows."""
        windows = previous.reshape(previous.shape[0], self.side, 2, 2, self.side, 2, 2).permute(0, 1, 4, 2, 5, 3, 6)
        hidden = F.linear(windows.reshape(previous.shape[0], -1, 4, 4), embed.conv1.weight.flatten(1), embed.conv1.bias)
        hidden = embed.activation(_normalise(embed.layer_norm1, hidden))
        weight = embed.conv2.weight.permute(0, 2, 3, 1).flatten(1)
        hidden = F.linear(hidden.flatten(2), weight, embed.conv2.bias)
        return embed.activation(_normalise(embed.layer_norm2, hidden))

    def _two_ways(
        self, layer: SamTwoWayAttentionBlock, tokens: th.Tensor, image: th.Tensor, prompt: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor]:
        """One block: tokens among themselves, tokens to image, MLP, image to tokens (Segment Anything, appendix A)."""
        if layer.skip_first_layer_pe:
            tokens = _among_tokens(layer.self_attn, tokens, tokens)
        else:
            tokens = tokens + _among_tokens(layer.self_attn, tokens + prompt, tokens)
        tokens = layer.layer_norm1(tokens)
        placed = image + self._position
        tokens = tokens + _tokens_ask_image(layer.cross_attn_token_to_image, tokens + prompt, placed, image)
        tokens = layer.layer_norm2(tokens)
        tokens = layer.layer_norm3(tokens + layer.mlp(tokens))
        image = _image_asks_tokens(layer.cross_attn_image_to_token, placed, tokens + prompt, tokens, image)
        return tokens, layer.layer_norm4(image)

    def _draw(self, image: th.Tensor, kernels: th.Tensor) -> th.Tensor:
        """Upscale the image four times and multiply by each mask's kernel, (B, C/8, M); logits (B, M, 4h, 4w)."""
        masks, batch = self.decoder.mask_decoder, image.shape[0]
        fine = F.linear(image, self._first_upscale, masks.upscale_conv1.bias.repeat(4)).unflatten(2, (4, -1))
        fine = masks.activation(_normalise(masks.upscale_layer_norm, fine))
        finest = masks.activation(F.linear(fine, self._second_upscale, masks.upscale_conv2.bias.repeat(4)))
        logits = finest.view(batch, -1, kernels.shape[1]) @ kernels
        # Rows: h, then the two halvings; columns likewise.
        logits = logits.view(batch, self.side, self.side, 2, 2, 2, 2, -1).permute(0, 7, 1, 3, 5, 2, 4, 6)
        return logits.reshape(batch, -1, 4 * self.side, 4 * self.side)


def _as_matrix(layer: nn.ConvTranspose2d) -> th.Tensor:
    """A 2×2 transposed convolution of stride 2 as a linear layer from a place to its four places, (4·out, in)."""
    return layer.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()


def _normalise(norm: nn.LayerNorm, values: th.Tensor) -> th.Tensor:
    """Over the last dimension, whatever layout transformers made the layer for."""
    return F.layer_norm(values, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _heads(attention: SamAttention, tokens: th.Tensor) -> th.Tensor:
    """(B, T, H·d) as (B, H, T, d)."""
    return tokens.unflatten(2, (attention.num_attention_heads, -1)).transpose(1, 2)


def _of_heads(attention: SamAttention, layer: nn.Linear) -> th.Tensor:
    """Weight of a linear layer that feeds the heads, (H, d, C)."""
    return layer.weight.unflatten(0, (attention.num_attention_heads, -1))


def _among_tokens(attention: SamAttention, asked: th.Tensor, values: th.Tensor) -> th.Tensor:
    """Self-attention, (B, T, C)."""
    layers = ((attention.q_proj, asked), (attention.k_proj, asked), (attention.v_proj, values))
    query, key, value = (_heads(attention, layer(tokens)) for layer, tokens in layers)
    mixed = F.scaled_dot_product_attention(query, key, value)
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))


def _tokens_ask_image(attention: SamAttention, tokens: th.Tensor, placed: th.Tensor, image: th.Tensor) -> th.Tensor:
    """Tokens (B, T, C) attend to the image (B, N, C), whose places `placed` are keys; (B, T, C).

    The keys' bias adds the same to every score of a token, and the softmax takes it away again.
    """
    query = _heads(attention, attention.q_proj(tokens) * attention.scaling)
    asked = th.einsum("bhtd,hdc->bhtc", query, _of_heads(attention, attention.k_proj))
    scores = asked.flatten(1, 2) @ placed.transpose(1, 2)
    mixed = (scores.softmax(2) @ image).unflatten(1, asked.shape[1:3])
    answers = th.einsum("bhtc,hdc->bthd", mixed, _of_heads(attention, attention.v_proj)).flatten(2)
    return attention.out_proj(answers + attention.v_proj.bias)


def _image_asks_tokens(
    attention: SamAttention, placed: th.Tensor, keys: th.Tensor, values: th.Tensor, image: th.Tensor
) -> th.Tensor:
    """Each place (`placed`) attends to the tokens (B, T, C), and the answers are added to the image, (B, N, C)."""
    key = _heads(attention, attention.k_proj(keys) * attention.scaling)
    value = _heads(attention, attention.v_proj(values))
    asked = th.einsum("bhtd,hdc->bhtc", key, _of_heads(attention, attention.q_proj))
    bias = (key * attention.q_proj.bias.view(-1, 1, key.shape[-1])).sum(3)
    scores = th.baddbmm(bias.flatten(1)[..., None], asked.flatten(1, 2), placed.transpose(1, 2))
    weights = scores.unflatten(1, bias.shape[1:]).softmax(2).flatten(1, 2)
    answers = th.einsum("bhtd,chd->bhtc", value, attention.out_proj.weight.unflatten(1, (value.shape[1], -1)))
    # The weights of a head sum to one, so the layer's bias comes in with any one head.
    answers[:, 0] += attention.out_proj.bias
    return th.baddbmm(image, weights.transpose(1, 2), answers.flatten(1, 2))
