"""The process that `benchmark env` measures: random agents in one kind of VecEnv."""

from __future__ import annotations

from typing import Any

from sb3_alignsam.benchmark.cases import answer


def play(env_id: str, env_kwargs: dict[str, Any], kind: str, num_envs: int, steps: int, bare: bool) -> dict[str, Any]:
    """Let an agent click at random among the actions that do something.

    :param steps: of every environment, measured; as many come before, until what is loaded ahead is used up.
    :param bare: also time the bare calls.
    :return: steps a second of all environments together, share of the time that `Segmenter.segment` took in this
        process, and the bare calls.
    """
    # Imported here: worker processes import this module, and need none of it.
    from sb3_alignsam.benchmark.limits import measure_limit
    from sb3_alignsam.benchmark.spans import Span, seconds_inside, watched
    from sb3_alignsam.envs.making import make_env
    from sb3_alignsam.perception.segmenter import Segmenter
    from sb3_alignsam.training.vec_envs import make_vec_env, spared_cores

    vec_env = make_vec_env(env_id, env_kwargs, num_envs, 0, kind, None)
    try:
        with spared_cores(vec_env), watched(Segmenter, "segment") as segments:
            vec_env.reset()
            _click(vec_env, steps, 0)
            measured = Span(*_click(vec_env, steps, 1))
    finally:
        vec_env.close()
    figures: dict[str, Any] = {
        "steps_per_second": steps * num_envs / measured.seconds,
        "segment_share": seconds_inside(segments, measured) / measured.seconds if kind != "subproc" else None,
    }
    if bare:
        env = make_env(env_id, env_kwargs)
        figures |= {"bare": measure_limit(env, num_envs).figures(), "clicks": env.max_steps}
    return figures


def _click(vec_env: Any, steps: int, seed: int) -> tuple[float, float]:
    """Play; when it began and ended."""
    import time

    import numpy as np

    rng = np.random.default_rng(seed)
    start = time.perf_counter()
    for _ in range(steps):
        masks = np.stack(vec_env.env_method("action_masks"))
        vec_env.step((rng.random(masks.shape) * masks).argmax(axis=1))
    return start, time.perf_counter()


if __name__ == "__main__":
    answer(play)
