"""The update of PPO and MaskablePPO where several ranks learn together: one gradient, of all of their rollouts."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch as th
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch.nn import functional as F

from sb3_alignsam.training.distributed import ALONE, Ranks

FIGURES = ("policy_gradient_loss", "value_loss", "entropy_loss", "clip_fraction", "approx_kl", "loss")
"""Logged of an update, in this order, as SB3 names them."""
_MARGIN = 1.5
"""How far beyond `target_kl` SB3 lets a minibatch go before it ends the update."""


class RankedUpdate(OnPolicyAlgorithm):
    """Mixin in front of PPO or MaskablePPO. A minibatch is `batch_size` steps of all ranks together, as many of each;
    its gradient, the normalisation of its advantages, `target_kl` and all figures are those of one process that had
    all of them. So the ranks' weights are the same after every step of the optimiser.
    """

    ranks: Ranks = ALONE
    batch_size: Any
    """Of all ranks together."""
    n_epochs: int
    normalize_advantage: bool
    target_kl: float | None
    clip_range: Any
    clip_range_vf: Any

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "ranks"]

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
        """As SB3's; ends training on every rank where a callback ends it on one."""
        # Here the others wait while the leader evaluates.
        goes_on = self.ranks.all(super().collect_rollouts(*args, **kwargs))
        self._gather_episodes()
        return goes_on

    def _gather_episodes(self) -> None:
        """Have the leader log the means of all ranks' episodes, of as many of each where they are too many."""
        buffers: tuple[Any, Any] = (self.ep_info_buffer, self.ep_success_buffer)
        # So the others' push the leader's oldest out, but no more of its newest than it keeps of another rank's.
        newest = [list(each)[-max(each.maxlen // self.ranks.size, 1) :] for each in buffers]
        for rank in self.ranks.gather(newest)[1:]:
            for buffer, values in zip(buffers, rank, strict=True):
                buffer.extend(values)
        if not self.ranks.leader:
            for buffer in buffers:
                buffer.clear()

    def train(self) -> None:
        """Update the policy by the rollouts of all ranks."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        rows: list[dict[str, float]] = []
        for _ in range(self.n_epochs):
            epoch = self._epoch()
            rows += epoch
            self._n_updates += 1
            if self._is_too_far(epoch[-1]):
                break
        self.ranks.check_weights(self.policy)
        self._log(rows, epoch)

    def _epoch(self) -> list[dict[str, float]]:
        """One pass over the rollouts, ended where the policy has gone too far. :return: `FIGURES` of each minibatch.

        What normalises a minibatch's advantages has travelled with the gradients of the one before; while those are on
        their way, the minibatch after the next is put together.
        """
        rows = []
        batches = self.rollout_buffer.get(self.batch_size // self.ranks.size)
        ahead: deque[Any] = deque(islice(batches, 1))
        powers = _powers(ahead[0].advantages)
        sending = self.ranks.begin_sum(powers)
        ahead.extend(islice(batches, 1))
        self.ranks.end_sum(sending)
        while ahead:
            batch, (count, mean, squares) = ahead.popleft(), _moments(powers)
            if self.normalize_advantage and count > 1:
                deviation = (squares / (count - 1)) ** 0.5
                batch = batch._replace(advantages=(batch.advantages - mean) / (deviation + 1e-8))
            losses = self._losses(batch)
            self.policy.optimizer.zero_grad()
            losses["loss"].backward()
            weight = len(batch.advantages) / count
            figures = weight * th.stack([losses[name].detach() for name in FIGURES])
            powers = _powers(ahead[0].advantages) if ahead else th.zeros_like(powers)
            found = self.ranks.average_gradients(
                self.policy.parameters(),
                weight,
                th.cat([figures, self.ranks.in_places(powers)]),
                meanwhile=lambda: ahead.extend(islice(batches, 1)),
            )
            rows.append(dict(zip(FIGURES, found.tolist(), strict=False)))
            if self._is_too_far(rows[-1]):
                break
            th.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
            powers = self.ranks.of_places(found[len(FIGURES) :])
        return rows

    def _is_too_far(self, row: Mapping[str, float]) -> bool:
        return self.target_kl is not None and row["approx_kl"] > _MARGIN * self.target_kl

    def _losses(self, batch: Any) -> dict[str, th.Tensor]:
        """`FIGURES` of this rank's part of a minibatch, means over its steps; ``loss`` leads back to the weights."""
        masks = getattr(batch, "action_masks", None)
        values, log_probs, entropy = self.policy.evaluate_actions(
            batch.observations, batch.actions.long().flatten(), **({} if masks is None else {"action_masks": masks})
        )
        values, margin = values.flatten(), self._clip_range()
        if (value_margin := self._clip_range_vf()) is not None:
            values = batch.old_values + (values - batch.old_values).clamp(-value_margin, value_margin)
        log_ratio = log_probs - batch.old_log_prob
        ratio = log_ratio.exp()
        gains = th.min(batch.advantages * ratio, batch.advantages * ratio.clamp(1 - margin, 1 + margin))
        found = {
            "policy_gradient_loss": -gains.mean(),
            "value_loss": F.mse_loss(values, batch.returns),
            # Without a closed form, the mean of minus the logarithm is an estimate of it.
            "entropy_loss": (log_probs if entropy is None else -entropy).mean(),
            "clip_fraction": ((ratio - 1).abs() > margin).float().mean(),
            "approx_kl": (ratio - 1 - log_ratio).mean(),  # estimator k3 of http://joschu.net/blog/kl-approx.html
        }
        loss = (
            found["policy_gradient_loss"] + self.ent_coef * found["entropy_loss"] + self.vf_coef * found["value_loss"]
        )
        return {**found, "loss": loss}

    def _clip_range(self) -> float:
        return float(self.clip_range(self._current_progress_remaining))

    def _clip_range_vf(self) -> float | None:
        return None if self.clip_range_vf is None else float(self.clip_range_vf(self._current_progress_remaining))

    def _log(self, rows: Sequence[Mapping[str, float]], last_epoch: Sequence[Mapping[str, float]]) -> None:
        """Log an update under SB3's names. :param rows: of all minibatches. :param last_epoch: of the last epoch."""
        for name in FIGURES[:-2]:
            self.logger.record(f"train/{name}", float(np.mean([row[name] for row in rows])))
        self.logger.record("train/approx_kl", float(np.mean([row["approx_kl"] for row in last_epoch])))
        self.logger.record("train/loss", rows[-1]["loss"])
        self.logger.record("train/explained_variance", self._explained_variance())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", self._clip_range())
        if (value_margin := self._clip_range_vf()) is not None:
            self.logger.record("train/clip_range_vf", value_margin)

    def _explained_variance(self) -> float:
        """Of the returns of all ranks by the values that were expected."""
        returns, values = (th.as_tensor(each) for each in (self.rollout_buffer.returns, self.rollout_buffer.values))
        powers = self.ranks.sum(th.stack([_powers(each) for each in (returns, returns - values)]))
        squares, left = (_moments(each)[2] for each in powers)
        return 1 - left / squares if squares else float("nan")


def _powers(values: th.Tensor) -> th.Tensor:
    """Number, sum and sum of squares, (3,) float64, in which the difference of large sums is exact enough."""
    own = values.detach().double()
    return th.stack([th.ones_like(own).sum(), own.sum(), (own**2).sum()])


def _moments(powers: th.Tensor) -> tuple[int, float, float]:
    """Number, mean and sum of squared deviations from it, of `_powers`."""
    count, total, squares = powers.tolist()
    return int(count), total / count, max(squares - total**2 / count, 0.0)


class RankedPPO(RankedUpdate, PPO):
    """`PPO` on several ranks."""


class RankedMaskablePPO(RankedUpdate, MaskablePPO):
    """`MaskablePPO` on several ranks."""


RANKED: dict[str, type[RankedUpdate]] = {"ppo": RankedPPO, "maskable_ppo": RankedMaskablePPO}


class CountAllRanks(BaseCallback):
    """Counts the steps of the other ranks too, of which SB3 knows nothing: in front of all that read the count.

    :param ranks: which all take as many.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    def _on_step(self) -> bool:
        self.model.num_timesteps += (self.ranks.size - 1) * self.training_env.num_envs
        return True
