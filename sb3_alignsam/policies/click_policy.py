"""`ClickPolicy`: one logit for each patch and label from a feature map, one value from its summary; for PPO and its
maskable twin."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch as th
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from stable_baselines3.common.policies import BasePolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from sb3_alignsam.errors import InputError
from sb3_alignsam.keywords import check_keywords
from sb3_alignsam.policies.explicit import ExplicitExtractor
from sb3_alignsam.policies.features import EPISODE_ROWS, ClickFeaturesExtractor
from sb3_alignsam.policies.implicit import ImplicitExtractor


class ClickHead(nn.Module):
    """Takes the place of SB3's `MlpExtractor`: its policy latent already is the logits.

    :param extractor: whose features it reads. :param num_actions: ``2·G·G``, or one more with *stop*.
    :param value_dim: width of the value network's hidden layer.
    """

    def __init__(self, extractor: ClickFeaturesExtractor, num_actions: int, value_dim: int = 64) -> None:
        super().__init__()
        channels, side, _ = extractor.map_shape
        clicks = 2 * side * side
        if num_actions not in (clicks, clicks + 1):
            raise InputError(f"{num_actions} actions do not fit a click grid of {side}x{side}: {clicks}, or one more")
        self.split = extractor.split
        self.click_logits = nn.Conv2d(channels, 2, 1)
        self.stop_logit = nn.Linear(extractor.vector_dim, 1) if num_actions > clicks else None
        self.value_hidden = nn.Linear(extractor.vector_dim, value_dim)
        # SB3 sizes by it a Linear that `_use_logits` throws away; sized by the logits it would have (2·G·G)² weights.
        self.latent_dim_pi = 1
        self.latent_dim_vf = value_dim

    def forward(self, features: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """:param features: (B, features_dim). :return: logits (B, num_actions), value latent (B, value_dim)."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: th.Tensor) -> th.Tensor:
        """Logits in the order of the actions: row, column, label."""
        feature_map, vector = self.split(features)
        logits = self.click_logits(feature_map).permute(0, 2, 3, 1).flatten(1)
        return logits if self.stop_logit is None else th.cat([logits, self.stop_logit(vector)], dim=1)

    def forward_critic(self, features: th.Tensor) -> th.Tensor:
        """Hidden layer of the value network."""
        return th.tanh(self.value_hidden(self.split(features)[1]))


def _put_head(policy: Any) -> None:
    """Give a policy under construction its `ClickHead`; its attributes are those of SB3's and of contrib's policies."""
    if not isinstance(policy.features_extractor, ClickFeaturesExtractor):
        raise InputError(
            f"{type(policy).__name__} needs a ClickFeaturesExtractor, got {type(policy.features_extractor).__name__}; "
            "use SB3's MultiInputPolicy with other extractors"
        )
    policy.mlp_extractor = ClickHead(policy.features_extractor, int(policy.action_space.n))


def _use_logits(policy: Any, lr_schedule: Schedule) -> None:
    """Take the head's latent as the logits it is: SB3's Linear on top would mix every patch with every other."""
    policy.action_net = nn.Identity()
    if policy.ortho_init:
        for layer in (policy.mlp_extractor.click_logits, policy.mlp_extractor.stop_logit):
            if layer is not None:
                policy.init_weights(layer, gain=0.01)
    if policy.optimizer_class is th.optim.Adam:
        # One call for all parameters: with small minibatches Adam's many small ones took a tenth of an update.
        policy.optimizer_kwargs.setdefault("fused", True)
    policy.optimizer = policy.optimizer_class(policy.parameters(), lr=lr_schedule(1), **policy.optimizer_kwargs)


class _KeepsHalfPrecision(BasePolicy):
    """Stands between SB3's policies and the base that they all call: arrays of half precision stay so, since the
    extractors convert them where it costs least."""

    # SB3's own classes differ from their base in the same way, hence the ignored types below.
    def extract_features(self, obs: Any, features_extractor: BaseFeaturesExtractor) -> th.Tensor:
        kept = {key: value for key, value in obs.items() if value.dtype == th.float16 or key == EPISODE_ROWS}
        others = {key: value for key, value in obs.items() if key not in kept}
        preprocessed = preprocess_obs(others, self.observation_space, normalize_images=self.normalize_images)
        assert isinstance(preprocessed, dict)
        return features_extractor({**preprocessed, **kept})


def greedy_actions(probabilities: th.Tensor, allow_stop: bool) -> th.Tensor:
    """The greedy actions, (B,) int64, of probabilities (B, num_actions).

    With *stop*: whether to click is decided before where. A click that is sure to come may be spread over the patches
    of a large object, each of them less likely than *stop* alone.
    """
    if not allow_stop:
        return probabilities.argmax(dim=1)
    stop = probabilities[:, -1]
    return th.where(stop >= 0.5, probabilities.shape[1] - 1, probabilities[:, :-1].argmax(dim=1))


def _greedy(policy: Any, distribution: Any) -> th.Tensor:
    return greedy_actions(distribution.probs, policy.mlp_extractor.stop_logit is not None)


class ClickPolicy(MultiInputActorCriticPolicy, _KeepsHalfPrecision):  # type: ignore[misc]  # see above
    """SB3 policy for PPO; `features_extractor_class` is a `ClickFeaturesExtractor`."""

    reads_category = True
    """Whether the category's index is read, so that a policy is of use for the categories it was trained on only."""

    def _build_mlp_extractor(self) -> None:
        _put_head(self)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        _use_logits(self, lr_schedule)

    def _predict(self, observation: Any, deterministic: bool = False) -> th.Tensor:
        if not deterministic:
            return super()._predict(observation, deterministic)
        return _greedy(self, self.get_distribution(observation).distribution)


class MaskableClickPolicy(MaskableMultiInputActorCriticPolicy, _KeepsHalfPrecision):  # type: ignore[misc]  # likewise
    """sb3-contrib policy for MaskablePPO; `features_extractor_class` is a `ClickFeaturesExtractor`."""

    reads_category = True
    """See `ClickPolicy.reads_category`."""

    def _build_mlp_extractor(self) -> None:
        _put_head(self)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        _use_logits(self, lr_schedule)

    def _predict(
        self, observation: Any, deterministic: bool = False, action_masks: np.ndarray | None = None
    ) -> th.Tensor:
        if not deterministic:
            return super()._predict(observation, deterministic, action_masks)
        return _greedy(self, self.get_distribution(observation, action_masks).distribution)


def _own_extractor(policy: type, extractor: type[ClickFeaturesExtractor], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Move the extractor's settings out of a flat mapping, so that YAML needs no nested one."""
    if kwargs.get("features_extractor_class", extractor) is not extractor:
        raise InputError(f"{policy.__name__} has its own features_extractor_class; use ClickPolicy with another")
    names = list(inspect.signature(extractor.__init__).parameters)[2:]  # behind self and observation_space
    settings = {name: kwargs.pop(name) for name in names if name in kwargs}
    settings |= kwargs.pop("features_extractor_kwargs", None) or {}
    check_keywords(extractor.__init__, settings, "policy setting", ("observation_space",))
    return kwargs | {"features_extractor_class": extractor, "features_extractor_kwargs": settings}


class ImplicitPolicy(ClickPolicy):
    """`ClickPolicy` with `ImplicitExtractor`; takes the extractor's settings as keywords of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **_own_extractor(type(self), ImplicitExtractor, kwargs))


class MaskableImplicitPolicy(MaskableClickPolicy):
    """`MaskableClickPolicy` with `ImplicitExtractor`; takes the extractor's settings as keywords of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **_own_extractor(type(self), ImplicitExtractor, kwargs))


class ExplicitPolicy(ClickPolicy):
    """`ClickPolicy` with `ExplicitExtractor`; takes the extractor's settings as keywords of its own."""

    reads_category = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **_own_extractor(type(self), ExplicitExtractor, kwargs))


class MaskableExplicitPolicy(MaskableClickPolicy):
    """`MaskableClickPolicy` with `ExplicitExtractor`; takes the extractor's settings as keywords of its own."""

    reads_category = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **_own_extractor(type(self), ExplicitExtractor, kwargs))
