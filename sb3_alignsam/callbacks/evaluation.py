"""`EvaluationCallback`: the agent's mIoU@K on fixed dev episodes while it trains; keeps the best model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from sb3_alignsam.envs.sam_seg_env import SamSegEnv
from sb3_alignsam.evaluation.protocol import evaluate
from sb3_alignsam.policies.clickers import AgentClicker


class EvaluationCallback(BaseCallback):
    """Evaluates when a rollout ends, at most once every `eval_freq` steps, and once more when training ends.

    A run that is resumed keeps its best, by `state_dict` and `load_state_dict`.

    Writes ``evaluations.npz`` as SB3's own callback does (``timesteps`` (n,), ``results`` (n, episodes) final IoU,
    ``ep_lengths`` (n, episodes)) and calls `save_best` when the mean rises above all before.

    :param env: an environment on the episodes to choose by; never those that results are reported on.
    :param indices: which of its fixed episodes.
    :param maskable: whether the policy takes action masks.
    :param eval_freq: environment steps, of all environments together, between two evaluations; > 0.
    :param folder: where ``evaluations.npz`` goes.
    :param save_best: writes the model to a path; given ``best_model.zip`` in `folder`.
    :param report: called with one line of text after each evaluation.
    :param at_start: also evaluate before the first step: a model that was trained before may be the best.
    """

    def __init__(
        self,
        env: SamSegEnv,
        indices: Sequence[int],
        maskable: bool,
        eval_freq: int,
        folder: Path,
        save_best: Callable[[Path], None],
        report: Callable[[str], None] | None = None,
        at_start: bool = False,
    ) -> None:
        super().__init__()
        self.env, self.indices, self.maskable, self.eval_freq = env, indices, maskable, eval_freq
        self.folder, self.save_best, self.report = folder, save_best, report
        self.at_start = at_start
        self.best_miou = -np.inf
        self._timesteps: list[int] = []
        self._results: list[np.ndarray] = []

    def _on_training_start(self) -> None:
        if self.at_start and not self._timesteps:
            self._evaluate()

    def state_dict(self) -> dict[str, Any]:
        """The best mean and the curve so far."""
        return {"best_miou": float(self.best_miou), "timesteps": list(self._timesteps), "results": list(self._results)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave: later evaluations are dropped, also from ``evaluations.npz``."""
        self.best_miou = state["best_miou"]
        self._timesteps, self._results = list(state["timesteps"]), list(state["results"])
        if self._timesteps:
            self._write()
        else:
            (self.folder / "evaluations.npz").unlink(missing_ok=True)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        last = self._timesteps[-1] if self._timesteps else 0
        if self.num_timesteps - last >= self.eval_freq:
            self._evaluate()

    def _on_training_end(self) -> None:
        # The last update comes after the last rollout's end, so the final weights were not looked at yet.
        self._evaluate()

    def _evaluate(self) -> None:
        policy = self.model.policy
        policy.set_training_mode(False)
        agent = AgentClicker(policy, self.env.grid, self.maskable)
        _, (record,) = evaluate(self.env, [agent], self.indices, self.env.max_steps)
        final = record.answer_iou[:, -1]
        self._timesteps.append(self.num_timesteps)
        self._results.append(final)
        self._write()
        miou, clicks = float(final.mean()), record.answer_iou.shape[1]
        for k, value in enumerate(record.answer_iou.mean(axis=0), start=1):
            self.logger.record(f"eval/miou_at_{k}", float(value))
        best = miou > self.best_miou
        if best:
            self.best_miou = miou
            self.save_best(self.folder / "best_model.zip")
        if self.report is not None:
            mark = "  best so far, kept" if best else ""
            self.report(f"{self.num_timesteps:>8} steps   dev mIoU@1 {record.answer_iou[:, 0].mean():.3f}   "
                        f"@{clicks} {miou:.3f}{mark}")  # fmt: skip

    def _write(self) -> None:
        temporary = self.folder / "evaluations.tmp.npz"
        results = np.stack(self._results)
        lengths = np.full(results.shape, self.env.max_steps)
        np.savez(temporary, timesteps=self._timesteps, results=results, ep_lengths=lengths)
        os.replace(temporary, self.folder / "evaluations.npz")
