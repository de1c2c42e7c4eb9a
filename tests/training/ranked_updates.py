"""What `test_update` has two ranks do: each writes a JSON of what it found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import ConvertCallback
from stable_baselines3.common.logger import Logger

from sb3_alignsam.envs import make_env
from sb3_alignsam.envs.sam_seg_vec_env import SamSegVecEnv
from sb3_alignsam.policies import ImplicitPolicy, MaskableImplicitPolicy
from sb3_alignsam.training.config import ALGORITHMS
from sb3_alignsam.training.distributed import ALONE, Ranks, joined
from sb3_alignsam.training.learning import BUFFERS
from sb3_alignsam.training.update import RANKED, CountAllRanks

POLICIES = {"ppo": ImplicitPolicy, "maskable_ppo": MaskableImplicitPolicy}
ENVS, STEPS = 8, 5


def main(args: list[str]) -> None:
    folder, algo = args
    with joined() as ranks:
        found = {
            **_one_update(algo, ranks),
            "digests": _weights_of_every_step(algo, ranks),
            "advantages": _advantages_of_every_minibatch(algo, ranks),
            "updates_until_one_ended_it": _updates_until_the_leader_ends_it(algo, ranks),
            "episodes": [_episodes_of_two_rollouts(algo, ranks, number) for number in (3, 150)],
        }
        Path(folder, f"{ranks.rank}.json").write_text(json.dumps(found))


def _model(algo: str, ranks: Ranks, n_envs: int, seed: int = 0, **kwargs: Any) -> Any:
    env = make_env("SamSegShapes-v0", {"split": "dev"})
    kind: Any = ALGORITHMS[algo] if ranks.size == 1 else RANKED[algo]
    buffer = BUFFERS[algo]
    vec_env = SamSegVecEnv(env, n_envs, num_workers=0)
    model = kind(POLICIES[algo], vec_env, n_steps=STEPS, seed=seed, device="cpu", rollout_buffer_class=buffer, **kwargs)
    model.set_logger(Logger(None, []))
    model.ranks = ranks
    return model


def _one_update(algo: str, ranks: Ranks) -> dict[str, Any]:
    """Update by the same rollouts of 8 environments in one process, as SB3 does, and on all ranks, each by its part."""
    # Little is left of the gradient by clipping; by the third step the policy has gone too far.
    kwargs: dict[str, Any] = {"batch_size": ENVS * STEPS, "n_epochs": 4, "max_grad_norm": 0.02, "learning_rate": 3e-3}
    alone = _model(algo, ALONE, ENVS, target_kl=1e-3, **kwargs)
    _, callback = alone._setup_learn(ENVS * STEPS)
    alone.collect_rollouts(alone.env, callback, alone.rollout_buffer, STEPS)
    part = ranks.part(ENVS)
    together = _model(algo, ranks, len(part), target_kl=1e-3, **kwargs)
    together.policy.load_state_dict(alone.policy.state_dict())
    _take_columns(alone.rollout_buffer, together.rollout_buffer, part)
    gradients = [_first_gradient(model) for model in (alone, together)]
    figures = [
        {name: float(value) for name, value in model.logger.name_to_value.items()} for model in (alone, together)
    ]
    largest = max(float(each.abs().max()) for each in gradients[0])
    off = max(float((one - other).abs().max()) for one, other in zip(*gradients, strict=True))
    updates = [model._n_updates for model in (alone, together)]
    return {"largest": largest, "off": off, "figures": figures, "updates": updates}


def _first_gradient(model: Any) -> list[th.Tensor]:
    """Update, and return what the optimiser was given first."""
    seen: list[th.Tensor] = []

    def note(*args: object) -> None:
        if not seen:
            seen.extend(each.grad.clone() for each in model.policy.parameters())

    model.policy.optimizer.register_step_pre_hook(note)
    model.train()
    return seen


def _take_columns(source: Any, target: Any, part: range) -> None:
    """Give a buffer some environments of another's."""
    target.reset()
    columns = slice(part.start, part.stop)
    for name, value in vars(source).items():
        if isinstance(value, np.ndarray) and value.shape[:2] == (STEPS, ENVS):
            setattr(target, name, value[:, columns].copy())
    for key, value in source.observations.items():
        target.observations[key] = value[:, columns].copy()
    target.episodes = source.episodes
    target.pos, target.full = source.pos, source.full


def _weights_of_every_step(algo: str, ranks: Ranks) -> list[str]:
    """Train on episodes of each rank's own; a digest of the weights after every step of the optimiser."""
    model = _model(algo, ranks, 2, seed=ranks.rank, batch_size=4 * ranks.size, n_epochs=2)
    ranks.share_weights(model.policy)
    digests: list[str] = []

    def note(*args: object) -> None:
        with th.no_grad():
            values = b"".join(each.numpy().tobytes() for each in model.policy.state_dict().values())
        digests.append(hashlib.sha256(values).hexdigest())

    model.policy.optimizer.register_step_post_hook(note)
    model.learn(2 * STEPS * 2 * ranks.size, CountAllRanks(ranks))
    return digests


def _advantages_of_every_minibatch(algo: str, ranks: Ranks) -> list[list[float]]:
    """What the losses of two epochs are given, on episodes of each rank's own."""
    model = _model(algo, ranks, 2, seed=ranks.rank, batch_size=4 * ranks.size, n_epochs=2)
    ranks.share_weights(model.policy)
    given: list[list[float]] = []
    losses = model._losses

    def note(batch: Any) -> Any:
        given.append(batch.advantages.tolist())
        return losses(batch)

    model._losses = note
    model.learn(STEPS * 2 * ranks.size, CountAllRanks(ranks))
    return given


def _updates_until_the_leader_ends_it(algo: str, ranks: Ranks) -> int:
    """Train for four rollouts, in whose second a callback of the leader's ends training."""

    def goes_on(*args: object) -> bool:
        return not ranks.leader or model.num_timesteps <= STEPS * 2 * ranks.size

    model = _model(algo, ranks, 2, batch_size=4 * ranks.size, n_epochs=1)
    model.learn(4 * STEPS * 2 * ranks.size, [CountAllRanks(ranks), ConvertCallback(goes_on)])
    return int(model._n_updates)


def _episodes_of_two_rollouts(algo: str, ranks: Ranks, number: int) -> list[tuple[int, int, int]]:
    """What is left of so many episodes of each rank and rollout: rank, rollout and number of each."""
    model = _model(algo, ranks, 1)
    model._setup_learn(1)
    for rollout in range(2):
        model._update_info_buffer(
            [{"episode": (ranks.rank, rollout, each), "is_success": True} for each in range(number)], np.ones(number)
        )
        model._gather_episodes()
    assert len(model.ep_info_buffer) == len(model.ep_success_buffer)
    return list(model.ep_info_buffer)
