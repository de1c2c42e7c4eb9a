"""Imitation: a warm start in which the agent learns to click as one who knows the ground truth would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor
from torch.nn import functional as F

from sb3_alignsam.envs.sam_seg_vec_env import SamSegVecEnv
from sb3_alignsam.errors import InputError
from sb3_alignsam.policies.click_policy import ClickPolicy, MaskableClickPolicy
from sb3_alignsam.training.click_targets import click_targets, worth_clicking
from sb3_alignsam.training.first_clicks import FirstClicks

TARGETS = "click_targets"
"""Key under which a step's targets lie beside its observation in the buffer; no policy ever sees it."""

LOSSES_A_LINE = 16
"""Minibatches of first clicks that are logged together."""


@dataclass(frozen=True)
class ImitationSettings:
    """How to imitate. The defaults are those of docs/results.md's run, which also says what else was tried.

    :param n_steps: of each environment between two updates. :param batch_size: of a minibatch.
    :param n_epochs: how often each state is learnt from. :param learning_rate: at first; falls linearly to 2 % of it.
    :param first_clicks: share of the states that are learnt from before any episode is played, see `FirstClicks`.
    :param teacher_share: of the actions that the teacher takes in the first episodes; it falls to 0 by the middle of
        those that are played, and from then on only states that the agent itself comes to are seen.
    """

    n_steps: int = 32
    batch_size: int = 64
    n_epochs: int = 4
    learning_rate: float = 4e-3
    first_clicks: float = 0.4
    teacher_share: float = 0.6


class Imitation:
    """First clicks alone (`FirstClicks`), then DAgger (Ross et al., AISTATS 2011, algorithm 3.1) with the targets of
    `click_targets`; scenes are many and cheap to label, so each rollout is learnt from and forgotten.

    There the agent's own actions, drawn as PPO draws them, lead on, at first mixed with the teacher's; every state is
    labelled by the teacher. Beside that the value network learns the rollout's returns, as in PPO, so
    that what comes after need not begin by unlearning.

    :param model: PPO or MaskablePPO with a `ClickPolicy`; its policy is trained in place.
    :param vec_env: the episodes, of the model's own kind; no other's state is touched.
    :param buffer_class: as of the model. :param seed: of the images of first clicks, and of who acts, the
        teacher or the agent; all else draws from the generators that the model has seeded.
    :raises InputError: the policy is not one of ours.
    """

    def __init__(
        self,
        model: OnPolicyAlgorithm,
        vec_env: SamSegVecEnv,
        buffer_class: type[RolloutBuffer],
        seed: int,
        settings: ImitationSettings | None = None,
    ) -> None:
        if not isinstance(model.policy, ClickPolicy | MaskableClickPolicy):
            raise InputError(f"imitation needs a ClickPolicy, got {type(model.policy).__name__}")
        self.model, self.vec_env, self.settings = model, vec_env, settings or ImitationSettings()
        self.policy: ClickPolicy | MaskableClickPolicy = model.policy
        self.grid = vec_env.envs[0].grid
        self.maskable = isinstance(model.policy, MaskableClickPolicy)
        targets = spaces.Box(0, 1, (self.grid.num_actions,), np.float32)
        self.buffer: Any = buffer_class(
            self.settings.n_steps,
            spaces.Dict({**vec_env.observation_space.spaces, TARGETS: targets}),  # type: ignore[attr-defined]  # a Dict
            model.action_space,
            device=model.device,
            gae_lambda=model.gae_lambda,
            gamma=model.gamma,
            n_envs=vec_env.num_envs,
        )
        self.seed = seed
        self.optimizer = th.optim.Adam(self.policy.parameters(), lr=self.settings.learning_rate, fused=True)
        self._rng = np.random.default_rng(seed)

    def learn(self, total_states: int, progress: Callable[[int], object] = lambda states: None) -> None:
        """Learn from `total_states` states: first those before a first click, then those of episodes that are played,
        whole rollouts of all environments together.

        :param progress: called with the number of states seen since the last call.
        """
        first = int(self.settings.first_clicks * total_states)
        self._learn_first_clicks(first, total_states, progress)
        self._learn_episodes(first, total_states, progress)

    def _learn_first_clicks(self, count: int, total: int, progress: Callable[[int], object]) -> None:
        workers = self.vec_env.num_workers
        # One more than beside episodes, since this process has less to do here than they.
        first_clicks = FirstClicks(self.vec_env.envs[0].twin(), workers + (workers > 0), self.seed)
        self.policy.set_training_mode(True)
        losses: list[float] = []
        done = 0
        with closing(first_clicks):
            for new, batch in first_clicks.minibatches(count, self.settings.batch_size, self.settings.n_epochs):
                self._slow_down(done / total)
                observations = cast(dict[str, th.Tensor], obs_as_tensor(batch.observations, self.model.device))
                targets, masks = (th.from_numpy(each).to(self.model.device) for each in (batch.targets, batch.masks))
                loss, _ = self._divergence(observations, targets, masks if self.maskable else None)
                self._step(loss)
                losses.append(loss.item())
                done += new
                progress(new)
                if len(losses) == LOSSES_A_LINE:
                    self._log(done, loss=losses)
                    losses = []

    def _learn_episodes(self, done: int, total: int, progress: Callable[[int], object]) -> None:
        observation = self.vec_env.reset()
        starts = np.ones(self.vec_env.num_envs, bool)
        first, rollout = done, self.settings.n_steps * self.vec_env.num_envs
        while done < total:
            self.policy.set_training_mode(False)
            observation, starts = self._collect(observation, starts, (done - first) / (total - first))
            self.policy.set_training_mode(True)
            self._slow_down(done / total)
            epochs = (self.buffer.get(self.settings.batch_size) for _ in range(self.settings.n_epochs))
            losses, value_losses = zip(*(self._update(batch) for epoch in epochs for batch in epoch), strict=True)
            done += rollout
            self._log(done, loss=losses, value_loss=value_losses)
            progress(rollout)

    def _slow_down(self, share: float) -> None:
        """:param share: of imitation that is done, 0 to 1."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * max(1 - share, 0.02)

    def _log(self, done: int, **values: Sequence[float]) -> None:
        for name, each in values.items():
            self.model.logger.record(f"imitation/{name}", float(np.mean(each)))
        self.model.logger.dump(done)

    def _collect(
        self, observation: dict[str, np.ndarray], starts: np.ndarray, share: float
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Fill the buffer with one rollout. :param share: of the episodes' states that are done, 0 to 1."""
        self.buffer.reset()
        teacher_share = self.settings.teacher_share * max(1 - 2 * share, 0.0)
        for _ in range(self.settings.n_steps):
            masks = np.stack([env.action_masks() for env in self.vec_env.envs])
            targets = self._targets(masks)
            kwargs: dict[str, Any] = {"action_masks": masks} if self.maskable else {}
            with th.no_grad():
                actions, values, log_probs = self.policy(obs_as_tensor(observation, self.model.device), **kwargs)
            own = actions.cpu().numpy()
            chosen = np.where(self._rng.random(len(own)) < teacher_share, targets.argmax(axis=1), own)
            following, rewards, dones, _ = self.vec_env.step(chosen)
            self.buffer.add(
                {**observation, TARGETS: targets}, chosen[:, None], rewards, starts, values, log_probs, **kwargs
            )
            observation, starts = cast(dict[str, np.ndarray], following), dones
        with th.no_grad():
            values = self.policy.predict_values(obs_as_tensor(observation, self.model.device))
        self.buffer.compute_returns_and_advantage(values, starts)
        return observation, starts

    def _targets(self, masks: np.ndarray) -> np.ndarray:
        """The teacher's answer to each running episode, (B, num_actions) float32."""
        episodes = [env.episode for env in self.vec_env.envs]
        targets = np.stack(
            [click_targets(*each) for each in zip(episodes, [self.grid] * len(masks), masks, strict=True)]
        )
        if self.grid.allow_stop:
            go_on = worth_clicking(episodes, targets.argmax(axis=1).tolist(), self.grid, self.vec_env.envs[0].segmenter)
            targets = np.concatenate([targets * go_on[:, None], ~go_on[:, None]], axis=1, dtype=np.float32)
        return targets

    def _update(self, batch: Any) -> tuple[float, float]:
        """One step of the optimiser. :return: divergence from the teacher in nats, and the value network's error."""
        targets = batch.observations.pop(TARGETS)
        loss, values = self._divergence(batch.observations, targets, batch.action_masks if self.maskable else None)
        value_loss = F.mse_loss(values, batch.returns)
        self._step(loss + self.model.vf_coef * value_loss)
        return loss.item(), value_loss.item()

    def _divergence(
        self, observations: dict[str, th.Tensor], targets: th.Tensor, masks: th.Tensor | None
    ) -> tuple[th.Tensor, th.Tensor]:
        """:param masks: of the actions that do something, (B, num_actions); None: all are taken to.
        :return: the divergence from the teacher in nats, a scalar, and the states' values, (B,)."""
        features = self.policy.extract_features(observations)
        of_actor, of_critic = features if isinstance(features, tuple) else (features, features)
        logits = self.policy.mlp_extractor.forward_actor(of_actor)
        values = self.policy.value_net(self.policy.mlp_extractor.forward_critic(of_critic)).flatten()
        if masks is not None:
            logits = logits.masked_fill(~masks.bool(), -th.inf)
        log_probs = F.log_softmax(logits, dim=1)
        # A forbidden action has no target, and 0 times minus infinity is no number.
        losses = th.xlogy(targets, targets) - targets * log_probs.masked_fill(targets == 0, 0)
        return losses.sum(dim=1).mean(), values

    def _step(self, loss: th.Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        th.nn.utils.clip_grad_norm_(self.policy.parameters(), self.model.max_grad_norm)
        self.optimizer.step()
