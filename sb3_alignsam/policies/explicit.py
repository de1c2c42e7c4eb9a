"""The Explicit agent's features extractor: SAM's embedding and CLIP's similarity maps, joined by cross-attention."""

from __future__ import annotations

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sb3_alignsam.errors import InputError
from sb3_alignsam.policies.features import EPISODE_ROWS, ClickFeaturesExtractor, check_size, compile_extractor, shape_of
from sb3_alignsam.policies.layers import (
    CELLS_A_PATCH,
    Condition,
    ConditionedBlock,
    EmbeddingReader,
    cells_of_patches,
    grid_places,
    to_grid,
    with_summary,
)

REQUIRED_KEYS = ("sam_image_embeddings", "clip_similarity", "sam_pred_mask_prob", "click_map", "num_steps")
SIMILARITIES = 3
"""Channels made of the maps: the target's, the strongest other category's, and how far the first wins."""
TOKEN_KEYS = ("clip_tokens", "clip_text")
"""Read besides with `use_tokens`."""
QUERIES = 8
"""Queries that the category's text asks of CLIP's tokens."""
ATTENTION_SIDE = 16
"""Largest grid that attention runs on unless told otherwise: its cost grows with the fourth power of the side."""


class CrossAttention(nn.Module):
    """Each place of one map asks all places of another map of the same sample (AlignSAM, section 3.3).

    :param channels: of both maps, a multiple of `heads`. :param side: of both maps. :param heads: attention heads.
    """

    def __init__(self, channels: int, side: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise InputError(f"heads needs a divisor of channels {channels}, got {heads}")
        self.heads, self.side = heads, side
        self.query_norm, self.key_norm, self.mlp_norm = (nn.LayerNorm(channels) for _ in range(3))
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))
        # Without a place of its own a cell could not be told to look at the same cell of the other map.
        self.positions = nn.Parameter(0.5 * th.randn(1, side * side, channels))

    def forward(self, queries: th.Tensor, keys: th.Tensor) -> th.Tensor:
        """:param queries: (B, C, A, A). :param keys: (B, C, A, A). :return: queries with residuals, (B, C, A, A)."""
        x = queries.flatten(2).transpose(1, 2)
        asked = self.query_norm(x) + self.positions
        other = self.key_norm(keys.flatten(2).transpose(1, 2))
        query, key, value = self.query(asked), self.key(other + self.positions), self.value(other)
        attended = F.scaled_dot_product_attention(self._split(query), self._split(key), self._split(value))
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        x = x + self.mlp(self.mlp_norm(x))
        return x.transpose(1, 2).unflatten(2, queries.shape[2:])

    def _split(self, tokens: th.Tensor) -> th.Tensor:
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class TokenQueries(nn.Module):
    """What CLIP's tokens say of the category: products with queries that a linear map of its text makes.

    Where CLIP's own rule, the product with the text itself, is wrong, these learn to be right, and they still follow
    from the text: any category can be asked for.

    :param width: of texts and tokens, D. :param channels: of the map that the answers become.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.queries = nn.Linear(width, QUERIES * width)
        self.hear = nn.Conv2d(QUERIES, channels, 1)

    def forward(self, text: th.Tensor, tokens: th.Tensor, side: int) -> th.Tensor:
        """:param text: (B, D). :param tokens: (B, D, s, s). :return: (B, channels, side, side)."""
        queries = self.queries(text).unflatten(1, (QUERIES, -1))
        answers = th.bmm(queries, tokens.flatten(2).to(queries.dtype)).unflatten(2, tokens.shape[2:])
        return self.hear(F.interpolate(answers, (side, side), mode="bilinear", align_corners=False))


class ExplicitExtractor(ClickFeaturesExtractor):
    """Features of the Explicit agent (AlignSAM, Huang et al., CVPR 2024, section 3.3), for any embedding size.

    One convolutional path reads the embedding e weighted by the mask probability p, ``e·p + e`` (`EmbeddingReader`);
    another reads the similarity maps; cross-attention over the places of one sample, queries from SAM and keys and
    values from CLIP, adds the second to the first. The category's index is not read, only how it looks: so a policy can
    be used on categories that it was not trained on.

    :param observation_space: Dict space of a click environment; reads `REQUIRED_KEYS`, ``excluded_mask`` if sent, and
        `TOKEN_KEYS` with `use_tokens`.
    :param channels: channels of both paths. :param map_channels: channels of the feature map on the click grid.
    :param vector_dim: length of the summary vector. :param blocks: residual blocks on the click grid.
    :param heads: attention heads.
    :param temperature: how small a lead of the target's map over the other's counts as sure; > 0, in units of the map.
    :param attention_side: largest grid that attention runs on; features keep the click grid's.
    :param use_tokens: also read CLIP's own tokens, see `TokenQueries`.
    :param checkpointing: keep no activations of paths and attention for the backward pass, compute them twice.
    :param autocast: run the networks in bfloat16; the features are float32 all the same.
    :param compiled: let `torch.compile` make one kernel of many, see `compile_extractor`; not with `keep_maps`.
    :param keep_maps: keep what was last seen in `seen_maps`, for pictures.
    :raises InputError: a key is missing, or a setting cannot be used.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        channels: int = 32,
        map_channels: int = 32,
        vector_dim: int = 64,
        blocks: int = 1,
        heads: int = 4,
        temperature: float = 0.1,
        attention_side: int = ATTENTION_SIDE,
        use_tokens: bool = False,
        checkpointing: bool = False,
        autocast: bool = False,
        compiled: bool = False,
        keep_maps: bool = False,
    ) -> None:
        if not temperature > 0:
            raise InputError(f"temperature needs a number above 0, got {temperature!r}")
        if compiled and keep_maps:
            raise InputError("compiled and keep_maps do not go together: what is kept would be the compiler's copy")
        required = [*REQUIRED_KEYS, *TOKEN_KEYS] if use_tokens else REQUIRED_KEYS
        check_size("channels", channels)
        check_size("blocks", blocks, least=0)
        check_size("attention_side", attention_side)
        super().__init__(observation_space, required, map_channels, vector_dim)
        embedding_shape = shape_of(observation_space["sam_image_embeddings"])
        side = self.map_shape[1]
        self.temperature, self.checkpointing, self.autocast = temperature, checkpointing, autocast
        self.seen_maps: dict[str, th.Tensor] | None = {} if keep_maps else None
        self._has_excluded = "excluded_mask" in observation_space.spaces
        steps = get_flattened_obs_dim(observation_space["num_steps"])
        self.reader = EmbeddingReader(embedding_shape, channels, side)
        self.reduce_condition = Condition(steps, channels)
        self.look = nn.Sequential(
            nn.Conv2d(SIMILARITIES, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.ask = TokenQueries(shape_of(observation_space["clip_text"])[0], channels) if use_tokens else None
        self.attention = CrossAttention(channels, min(side, attention_side), heads)
        # Beside the fused features: the similarities and the mask, finer than the grid; two click maps, excluded
        # objects, and the place (x, y).
        self.join = nn.Conv2d(channels + (SIMILARITIES + 1) * CELLS_A_PATCH**2 + 5, map_channels, 1)
        self.blocks = nn.ModuleList(ConditionedBlock(map_channels, steps) for _ in range(blocks))
        self.summarise = nn.Linear(2 * map_channels + steps, vector_dim)
        self.places: th.Tensor
        self.register_buffer("places", grid_places(side), persistent=False)
        if compiled:
            compile_extractor(self, autocast)

    def forward(self, observations: dict[str, th.Tensor]) -> th.Tensor:
        """:param observations: as SB3's `preprocess_obs` makes them: floats, steps one-hot.
        :return: (B, features_dim) float32."""
        similarity = self._similarities(observations["clip_similarity"].float())
        if self.seen_maps is not None:
            self.seen_maps = {
                "similarity": to_grid(similarity, self.map_shape[1]).detach(),
                "mask": observations["sam_pred_mask_prob"].detach(),
            }
        with th.autocast(similarity.device.type, th.bfloat16, enabled=self.autocast):
            if self.checkpointing and th.is_grad_enabled():
                features = checkpoint(self._fuse, observations, similarity, use_reentrant=False)
            else:
                features = self._fuse(observations, similarity)
            steps = observations["num_steps"].flatten(1)
            for block in self.blocks:
                features = block(features, steps)
            result = with_summary(F.relu(features), steps, self.summarise)
        return result.float()

    def _similarities(self, maps: th.Tensor) -> th.Tensor:
        """Finer than the click grid, (B, 3, CELLS_A_PATCH·G, CELLS_A_PATCH·G) in 0..1."""
        grid = to_grid(maps, CELLS_A_PATCH * self.map_shape[1])
        lead = th.sigmoid((grid[:, :1] - grid[:, 1:]) / self.temperature)
        return th.cat([grid, lead], dim=1)

    def _fuse(self, observations: dict[str, th.Tensor], similarity: th.Tensor) -> th.Tensor:
        """Both paths, joined, before the residual blocks; (B, map_channels, G, G)."""
        side = self.map_shape[1]
        probability = observations["sam_pred_mask_prob"].float()
        steps = observations["num_steps"].flatten(1)
        rows = observations.get(EPISODE_ROWS)
        read, _ = self.reader(observations["sam_image_embeddings"], probability, rows=rows)
        sam = to_grid(F.relu(self.reduce_condition(read, steps)), side)
        clip = self.look(to_grid(similarity, side))
        if self.ask is not None:
            clip = clip + self.ask(observations["clip_text"], observations["clip_tokens"].float(), side)
        fused = self._attend(sam, clip)
        excluded = observations["excluded_mask"] if self._has_excluded else th.zeros_like(probability)
        fine = [cells_of_patches(each, side) for each in (similarity, probability)]
        clicks = observations["click_map"].float()
        places = self.places.expand(clicks.shape[0], -1, -1, -1)
        return self.join(th.cat([fused, *fine, to_grid(excluded, side), clicks, places], dim=1))

    def _attend(self, sam: th.Tensor, clip: th.Tensor) -> th.Tensor:
        side, small = self.map_shape[1], self.attention.side
        # Queries and keys carry both: a cell finds the rest of its object by SAM's features, and hears from there what
        # CLIP says of it, which of single cells is often wrong.
        both = sam + clip
        if side == small:
            return self.attention(both, both)
        coarse = to_grid(both, small)
        # Only what attention adds is enlarged; the features keep their resolution.
        return both + to_grid(self.attention(coarse, coarse) - coarse, side)
