"""The process that `benchmark tracking` measures: training with everything that is kept of a run, and with nothing."""

from __future__ import annotations

from typing import Any

from sb3_alignsam.benchmark.cases import answer


def train_in_turns(
    env_id: str, env_kwargs: dict[str, Any], algo: str, blocks: int, seconds: float, freq: int, logs: str
) -> dict[str, Any]:
    """Train in blocks, by turns with tracking, films and checkpoints and without, all into one store.

    :param blocks: of each kind, after a short one of each to warm up. :param seconds: of a block.
    :param freq: steps between two checkpoints, two films and two evaluations.
    :return: of each block what it took.
    """
    # Imported here: worker processes import this module, and need none of it.
    from pathlib import Path

    from sb3_alignsam.training.config import read_hyperparams, shipped_config
    from sb3_alignsam.training.settings import RunSettings

    off = RunSettings(
        algo, env_id, env_kwargs, logs=Path(logs), device="cpu", eval_freq=0, save_minutes=0, keep_checkpoints=3
    )
    on = RunSettings(
        algo,
        env_id,
        env_kwargs,
        logs=Path(logs),
        device="cpu",
        eval_freq=freq,
        save_freq=freq,
        save_minutes=0,
        track="mlflow",
        video_freq=freq,
    )
    config = shipped_config(algo, "implicit")
    params = read_hyperparams(config, env_id, algo, {"n_timesteps": 10**9})
    params.callbacks.append((_stop_after(), {"seconds": seconds}))
    short = read_hyperparams(config, env_id, algo, {"n_timesteps": 1})
    for settings in (on, off):
        _block(settings, short)
    rows: dict[str, list[dict[str, Any]]] = {"on": [], "off": []}
    for _ in range(blocks):
        for name, settings in (("on", on), ("off", off)):
            rows[name].append(_block(settings, params))
    return rows


def _block(settings: Any, params: Any) -> dict[str, Any]:
    """One training: whole iterations, the time of evaluations taken out."""
    from sb3_alignsam.benchmark.spans import Span, seconds_inside, watched
    from sb3_alignsam.callbacks import EvaluationCallback, MlflowCallback
    from sb3_alignsam.training.config import ALGORITHMS
    from sb3_alignsam.training.run import train

    algorithm = ALGORITHMS[settings.algo]
    with (
        watched(algorithm, "collect_rollouts") as rollouts,
        watched(algorithm, "train") as updates,
        watched(EvaluationCallback, "_evaluate") as evaluations,
        watched(MlflowCallback, "finish") as ends,
    ):
        folder = train(settings, params, report=lambda _: None)
    window = Span(rollouts[0].start, updates[-1].end)
    evaluated = seconds_inside(evaluations, window)
    steps = len(updates) * params.algorithm["n_steps"] * params.n_envs
    return {
        "steps": steps,
        "seconds": window.seconds - evaluated,
        "evaluation_seconds": evaluated,
        "end_seconds": sum(each.seconds for each in ends),
        "films": len(list((folder / "videos").glob("*.mp4"))),
        "checkpoints": len(list(folder.glob("rl_model_*.zip"))),
    }


def _stop_after() -> Any:
    """The class of a callback that ends training behind the first rollout that begins late."""
    import time

    from stable_baselines3.common.callbacks import BaseCallback

    class StopAfter(BaseCallback):
        """Ends training. :param seconds: after training began."""

        def __init__(self, seconds: float) -> None:
            super().__init__()
            self.seconds = seconds

        def _on_training_start(self) -> None:
            self._end = time.monotonic() + self.seconds

        def _on_step(self) -> bool:
            return time.monotonic() < self._end

    return StopAfter


if __name__ == "__main__":
    answer(train_in_turns)
