"""Which callbacks a run has, in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback

from sb3_alignsam.callbacks import (
    CheckpointCallback,
    ClickMetricsCallback,
    EpisodeStripsCallback,
    EvaluationCallback,
    MlflowCallback,
    SamplingCallback,
    SimilarityPicturesCallback,
    VideoCallback,
)
from sb3_alignsam.envs.making import make_env
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.protocol import spread
from sb3_alignsam.policies.loading import MASKABLE
from sb3_alignsam.training.boundary import BoundaryCallback
from sb3_alignsam.training.config import Hyperparams
from sb3_alignsam.training.settings import RunSettings

STRIPS, FILMED = 4, 4
"""Episodes of a picture of strips, and of a film."""


class ProgressCallback(ProgressBarCallback):
    """SB3's progress bar, also where some of the steps are taken by other ranks."""

    def _on_training_start(self) -> None:
        self._before = self.num_timesteps
        super()._on_training_start()

    def _on_step(self) -> bool:
        self.pbar.update(self.num_timesteps - self._before - self.pbar.n)
        return True


def run_callbacks(
    settings: RunSettings,
    hyperparams: Hyperparams,
    folder: Path,
    boundary: BoundaryCallback,
    tracking: MlflowCallback | None,
    save: Callable[[Path], None],
    keeps_maps: bool,
    report: Callable[[str], None],
) -> list[BaseCallback]:
    """All callbacks of a run; `boundary` first, since it takes the state before any other acts, `tracking` last, since
    it sends what the others have logged.

    :param save: writes the model with its description. :param keeps_maps: whether the policy keeps what it saw.
    """
    checkpoints = _checkpoints(settings, folder, boundary, report)
    callbacks: list[BaseCallback] = [boundary, checkpoints, ClickMetricsCallback(), SamplingCallback()]
    if keeps_maps:
        callbacks.append(SimilarityPicturesCallback())
    callbacks += _on_dev(settings, folder, tracking, save, report)
    if settings.progress:
        callbacks.append(ProgressCallback())
    callbacks += [make(**kwargs) for make, kwargs in hyperparams.callbacks]
    return callbacks if tracking is None else [*callbacks, tracking]


def _checkpoints(
    settings: RunSettings, folder: Path, boundary: BoundaryCallback, report: Callable[[str], None]
) -> CheckpointCallback:
    return CheckpointCallback(
        boundary.write,
        folder,
        settings.save_freq,
        settings.save_minutes,
        settings.keep_checkpoints,
        report,
        at_start=settings.imitate > 0,
    )


def _on_dev(
    settings: RunSettings,
    folder: Path,
    tracking: MlflowCallback | None,
    save: Callable[[Path], None],
    report: Callable[[str], None],
) -> list[BaseCallback]:
    """Those that play dev episodes."""
    if not settings.eval_freq and not settings.video_freq:
        return []
    try:
        env = make_env(settings.env_id, {**settings.env_kwargs, "subset": "dev"})
    except InputError as error:
        # The same keywords made the training environment, so it is the dev part that is empty.
        report(f"no dev episodes, so best_model.zip is not chosen: {error}")
        return []
    maskable = settings.algo in MASKABLE
    callbacks: list[BaseCallback] = []
    if settings.eval_freq:
        callbacks += _evaluation(settings, env, maskable, folder, save, report)
    if settings.video_freq:
        filmed = env.twin()
        filmed.render_mode = "rgb_array"
        written = (lambda path: None) if tracking is None else (lambda path: tracking.upload(path, "videos"))
        indices, videos = spread(len(env.dataset), FILMED), folder / "videos"
        callbacks.append(VideoCallback(filmed, indices, maskable, settings.video_freq, videos, written, report))
    return callbacks


def _evaluation(
    settings: RunSettings,
    env: SamSegEnv,
    maskable: bool,
    folder: Path,
    save: Callable[[Path], None],
    report: Callable[[str], None],
) -> Sequence[BaseCallback]:
    indices = spread(len(env.dataset), settings.eval_episodes)
    evaluation = EvaluationCallback(
        env, indices, maskable, settings.eval_freq, folder, save, report, at_start=settings.imitate > 0
    )
    strips = EpisodeStripsCallback(env, spread(len(env.dataset), STRIPS), maskable, settings.eval_freq)
    return [evaluation, strips]
