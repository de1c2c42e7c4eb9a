"""The Implicit agent's features extractor: SAM's image embedding, modulated by the mask that the clicks gave so far."""

from __future__ import annotations

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from torch import nn
from torch.nn import functional as F

from sb3_alignsam.policies.features import EPISODE_ROWS, ClickFeaturesExtractor, check_size, compile_extractor, shape_of
from sb3_alignsam.policies.layers import (
    Condition,
    ConditionedBlock,
    EmbeddingReader,
    grid_places,
    to_grid,
    with_summary,
)

REQUIRED_KEYS = ("sam_image_embeddings", "target_category", "sam_pred_mask_prob", "click_map", "num_steps")
QUERIES = 4
"""Learnt queries of each category."""


class ImplicitExtractor(ClickFeaturesExtractor):
    """Features of the Implicit agent (AlignSAM, Huang et al., CVPR 2024, section 3.2), for any embedding size.

    The embedding e is weighted by the mask probability p as ``e·p + e`` and reduced to few channels on the click grid,
    see `EmbeddingReader`. Clicks, mask and position join there; the target
    category and the step condition every layer. Each category also has learnt queries, whose products with the
    embedding are maps of their own: the shortest way from what is asked for and what lies there to a click.

    :param observation_space: Dict space of a click environment; reads `REQUIRED_KEYS`, and ``excluded_mask`` if sent.
    :param channels: channels that the embedding is reduced to.
    :param map_channels: channels of the feature map on the click grid.
    :param vector_dim: length of the summary vector.
    :param blocks: residual blocks on the click grid.
    :param autocast: run the networks in bfloat16; the features are float32 all the same.
    :param compiled: let `torch.compile` make one kernel of many, see `compile_extractor`.
    :raises InputError: a key is missing, or a setting cannot be used.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        channels: int = 32,
        map_channels: int = 32,
        vector_dim: int = 64,
        blocks: int = 1,
        autocast: bool = False,
        compiled: bool = False,
    ) -> None:
        check_size("channels", channels)
        check_size("blocks", blocks, least=0)
        super().__init__(observation_space, REQUIRED_KEYS, map_channels, vector_dim)
        embedding_shape = shape_of(observation_space["sam_image_embeddings"])
        side = self.map_shape[1]
        self._has_excluded = "excluded_mask" in observation_space.spaces
        condition_dim = sum(get_flattened_obs_dim(observation_space[key]) for key in ("target_category", "num_steps"))
        self.reader = EmbeddingReader(embedding_shape, channels, side)
        self.reduce_condition = Condition(condition_dim, channels)
        self.queries = nn.Linear(
            get_flattened_obs_dim(observation_space["target_category"]), QUERIES * embedding_shape[0]
        )
        # Beside the features: answers to the queries, two click maps, mask, excluded objects, and the place (x, y).
        self.join = nn.Conv2d(channels + QUERIES + 6, map_channels, 1)
        self.blocks = nn.ModuleList(ConditionedBlock(map_channels, condition_dim) for _ in range(blocks))
        self.summarise = nn.Linear(2 * map_channels + condition_dim, vector_dim)
        self.places: th.Tensor
        self.register_buffer("places", grid_places(side), persistent=False)
        self.autocast = autocast
        if compiled:
            compile_extractor(self, autocast)

    def forward(self, observations: dict[str, th.Tensor]) -> th.Tensor:
        """:param observations: as SB3's `preprocess_obs` makes them: floats, categories and steps one-hot.
        :return: (B, features_dim) float32."""
        with th.autocast(observations["sam_pred_mask_prob"].device.type, th.bfloat16, enabled=self.autocast):
            return self._forward(observations).float()

    def _forward(self, observations: dict[str, th.Tensor]) -> th.Tensor:
        probability = observations["sam_pred_mask_prob"].float()
        embedding = observations["sam_image_embeddings"]
        condition = th.cat([observations["target_category"].flatten(1), observations["num_steps"].flatten(1)], dim=1)
        category = observations["target_category"].flatten(1)
        rows = observations.get(EPISODE_ROWS)
        # The category is constant in an episode too, so any of its steps tells what to ask its embedding.
        asked = (
            category
            if rows is None
            else category.new_empty(len(embedding), category.shape[1]).index_copy(0, rows, category)
        )
        queries = self.queries(asked).unflatten(1, (QUERIES, -1)) / embedding.shape[1] ** 0.5
        features, answers = self.reader(embedding, probability, queries, rows)
        features = F.relu(self.reduce_condition(features, condition))
        excluded = observations["excluded_mask"] if self._has_excluded else th.zeros_like(probability)
        grid = [to_grid(each, self.map_shape[1]) for each in (features, answers, probability, excluded)]
        clicks = observations["click_map"].float()
        features = self.join(th.cat([*grid, clicks, self.places.expand(clicks.shape[0], -1, -1, -1)], dim=1))
        for block in self.blocks:
            features = block(features, condition)
        return with_summary(F.relu(features), condition, self.summarise)
