"""`VideoCallback`: films of fixed episodes while an agent trains, by SB3's `VecVideoRecorder`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sb3_alignsam.callbacks.periodic import PeriodicCallback
from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.evaluation.films import record_films
from sb3_alignsam.policies.clickers import AgentClicker


@dataclass(frozen=True)
class _Filmed:
    env: SamSegEnv
    clicker: AgentClicker


class VideoCallback(PeriodicCallback):
    """Films episodes of a separate environment, side by side, at most once every `freq` steps, when a rollout ends.

    A film is named after the steps trained, ``training_<steps>_steps.mp4``, so names go on in a resumed run, and a
    film that is made again takes the place of the first. The model's environments and random numbers are not touched.

    :param env: with ``render_mode="rgb_array"``. :param indices: which of its fixed episodes.
    :param maskable: whether the policy takes action masks. :param freq: environment steps between two films; > 0.
    :param folder: of the films. :param written: called with each film's path, as `MlflowCallback.upload` is.
    :param report: told in one line when no film can be written, once; training goes on.
    """

    def __init__(
        self,
        env: SamSegEnv,
        indices: Sequence[int],
        maskable: bool,
        freq: int,
        folder: Path,
        written: Callable[[Path], object] = lambda path: None,
        report: Callable[[str], None] = print,
    ) -> None:
        super().__init__(freq)
        self.env, self.indices, self.maskable = env, indices, maskable
        self.folder, self.written, self.report = folder, written, report
        self._failed = False

    def _on_rollout_end(self) -> None:
        if not self._is_due():
            return
        try:
            self._film()
        except (OSError, RuntimeError) as error:  # no room, or no ffmpeg
            if not self._failed:
                reason = " ".join(str(error).split())[:200]
                self.report(f"warning: no film at {self.num_timesteps} steps ({reason}); training goes on")
            self._failed = True

    def _film(self) -> None:
        policy = self.model.policy
        policy.set_training_mode(False)
        filmed = _Filmed(self.env, AgentClicker(policy, self.env.grid, self.maskable))
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".training_", dir=self.folder) as unfinished:
            films = record_films(filmed, self.indices, Path(unfinished), len(self.indices))
            for number, film in enumerate(films, 1):  # several where one would not fit into memory
                part = "" if len(films) == 1 else f"_{number}"
                path = self.folder / f"training_{self.num_timesteps}_steps{part}.mp4"
                os.replace(film, path)
                self.written(path)
