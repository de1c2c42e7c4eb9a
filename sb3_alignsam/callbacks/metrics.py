"""`ClickMetricsCallback`: what the click episodes of a rollout were like, in SB3's logger."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback


class ClickMetricsCallback(BaseCallback):
    """Records, over each rollout: final IoU and predicted IoU of the episodes, IoU gained a click, share of right click
    labels, share of episodes that the agent stopped, and the mean of each reward term; and the entropy of the actions
    in the last update, in nats. Works with any VecEnv of click environments, since all of it comes from ``info``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[str, list[float]] = defaultdict(list)
        self._iou: list[float] | None = None
        """Of each environment's answer before the step."""

    def _on_training_start(self) -> None:
        if self._iou is None:
            self._iou = self._at_start()

    def _on_step(self) -> bool:
        for row, (info, done) in enumerate(zip(self.locals["infos"], self.locals["dones"], strict=True)):
            terms = info.get("reward_terms", {})
            for name, value in terms.items():
                if name != "final" or done:
                    self._values[f"reward/{name}"].append(value)
            if terms.get("label"):
                self._values["rollout/right_labels"].append(float(terms["label"] > 0))
            if "iou" in info and terms:
                self._note_iou(row, info, done, stopped=not terms["step_cost"])
        return True

    def _note_iou(self, row: int, info: dict, done: bool, stopped: bool) -> None:
        assert self._iou is not None
        if not stopped:
            self._values["rollout/iou_gain_per_click"].append(info["iou"] - self._iou[row])
        self._iou[row] = info["iou"]
        if done:
            self._values["rollout/iou"].append(info["iou"])
            self._values["rollout/predicted_iou"].append(info["predicted_iou"])
            self._values["rollout/stop_rate"].append(float(stopped))
            self._iou[row] = self._at_start()[row]

    def _at_start(self) -> list[float]:
        """IoU of the answer with which each environment's episode begins, or with which it was restored."""
        return [info.get("iou", 0.0) for info in self.training_env.unwrapped.reset_infos]

    def _on_rollout_end(self) -> None:
        for name, values in self._values.items():
            self.logger.record(name, float(np.mean(values)))
        self._values.clear()
        self._note_entropy()

    def _on_training_end(self) -> None:
        self._note_entropy()

    def _note_entropy(self) -> None:
        loss = self.logger.name_to_value.get("train/entropy_loss")
        if loss is not None:
            self.logger.record("train/action_entropy", -float(loss))
