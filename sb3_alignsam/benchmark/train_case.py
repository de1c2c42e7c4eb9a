"""The process that `benchmark train` measures: a training run as `sb3-alignsam train` does it, with watches on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sb3_alignsam.benchmark.cases import answer


def train_watched(
    env_id: str,
    env_kwargs: dict[str, Any],
    algo: str,
    agent: str,
    hyperparams: dict[str, Any],
    iterations: int,
    vec_env: str,
    device: str,
    logs: str,
) -> dict[str, Any]:
    """Train for some iterations, each a rollout and its update, and one before that is not measured.

    :param hyperparams: replace those of the shipped YAML file.
    :return: seconds of each iteration's parts, bytes, and the bare calls, of the same process.
    """
    # Imported here: worker processes import this module, and need none of it.
    import time
    from pathlib import Path

    from sb3_alignsam.benchmark.limits import measure_limit
    from sb3_alignsam.benchmark.spans import seconds_inside, watched
    from sb3_alignsam.envs.making import make_env
    from sb3_alignsam.perception.segmenter import Segmenter
    from sb3_alignsam.training.config import ALGORITHMS, agent_env_kwargs, read_hyperparams, shipped_config
    from sb3_alignsam.training.run import train
    from sb3_alignsam.training.settings import RunSettings

    env_kwargs = agent_env_kwargs(agent, env_id, env_kwargs)
    params = read_hyperparams(shipped_config(algo, agent), env_id, algo, hyperparams)
    rollout = params.algorithm["n_steps"] * params.n_envs
    params = read_hyperparams(
        shipped_config(algo, agent), env_id, algo, hyperparams | {"n_timesteps": rollout * (iterations + 1)}
    )
    settings = RunSettings(
        algo, env_id, env_kwargs, logs=Path(logs), vec_env=vec_env, device=device, eval_freq=10**9, eval_episodes=1
    )
    algorithm = ALGORITHMS[algo]
    start = time.perf_counter()
    with (
        _models_of(algorithm) as models,
        watched(algorithm, "collect_rollouts") as rollouts,
        watched(algorithm, "train") as updates,
        watched(Segmenter, "segment") as segments,
    ):
        folder = train(settings, params, report=lambda _: None)
    wall = time.perf_counter() - start
    model = models[0]
    env = make_env(env_id, env_kwargs)
    return {
        "steps": rollout,
        "num_envs": params.n_envs,
        "clicks": env.max_steps,
        "in_files": bool(getattr(env.dataset, "in_files", False)),
        "wall_seconds": wall,
        "rollout_seconds": [each.seconds for each in rollouts[1:]],
        "update_seconds": [each.seconds for each in updates[1:]],
        "segment_seconds": [seconds_inside(segments, each) for each in rollouts[1:]],
        "stored_bytes_per_step": _stored_bytes(model.rollout_buffer) / rollout,
        "policy_bytes": sum(each.numel() * each.element_size() for each in model.policy.parameters()),
        "zip_bytes": {path.name: path.stat().st_size for path in sorted(folder.glob("*.zip"))},
        "bare": measure_limit(env, params.n_envs).figures(),
    }


@contextmanager
def _models_of(algorithm: Any) -> Iterator[list[Any]]:
    """Hands out the models that learn meanwhile: `train` keeps its own to itself."""
    models: list[Any] = []
    original = algorithm.learn

    def learn(model: Any, *args: Any, **kwargs: Any) -> Any:
        models.append(model)
        return original(model, *args, **kwargs)

    algorithm.learn = learn
    try:
        yield models
    finally:
        algorithm.learn = original


def _stored_bytes(buffer: Any) -> int:
    """Bytes of all arrays of a rollout buffer, of SB3's or of ours."""
    import numpy as np

    parts = [*vars(buffer).values(), *buffer.observations.values()]
    arrays = sum(each.nbytes for each in parts if isinstance(each, np.ndarray))
    constants = [tensor for episode in getattr(buffer, "episodes", []) for tensor in episode.values()]
    return arrays + sum(each.numel() * each.element_size() for each in constants)


if __name__ == "__main__":
    answer(train_watched)
