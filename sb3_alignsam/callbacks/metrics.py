"""`ClickMetricsCallback`: what the click episodes of a rollout were like, in SB3's logger."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback


class ClickMetricsCallback(BaseCallback):
    """Records, over each rollout: final IoU and predicted IoU of the episodes, share of right click labels, share of
    clicks that changed nothing, episode length, and the mean of each reward term. Works with any VecEnv of click
    environments, since all of it comes from ``info``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[str, list[float]] = defaultdict(list)

    def _on_step(self) -> bool:
        for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True):
            terms = info.get("reward_terms", {})
            for name, value in terms.items():
                if name != "final" or done:
                    self._values[f"reward/{name}"].append(value)
            if terms.get("label"):
                self._values["rollout/right_labels"].append(float(terms["label"] > 0))
            if done and "iou" in info:
                self._values["rollout/iou"].append(info["iou"])
                self._values["rollout/predicted_iou"].append(info["predicted_iou"])
        return True

    def _on_rollout_end(self) -> None:
        for name, values in self._values.items():
            self.logger.record(name, float(np.mean(values)))
        self._values.clear()
