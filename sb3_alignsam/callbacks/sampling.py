"""`SamplingCallback`: which episodes a rollout was made of, in SB3's logger."""

from __future__ import annotations

from collections import Counter

from stable_baselines3.common.callbacks import BaseCallback


class SamplingCallback(BaseCallback):
    """Records, over the episodes that ended in each rollout: how many there were, how many images and categories were
    among them, the share of the most frequent category, and the share of those whose category was absent.

    Works with any VecEnv of click environments, since all of it comes from ``info``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._images: set[int] = set()
        self._categories: Counter[str] = Counter()
        self._absent = 0

    def _on_step(self) -> bool:
        for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True):
            if done and "image_id" in info:
                self._images.add(info["image_id"])
                self._categories[info["category"]] += 1
                self._absent += bool(info.get("absent", False))
        return True

    def _on_rollout_end(self) -> None:
        episodes = self._categories.total()
        if episodes:
            self.logger.record("sampling/episodes", episodes)
            self.logger.record("sampling/images", len(self._images))
            self.logger.record("sampling/categories", len(self._categories))
            self.logger.record("sampling/most_frequent_category", max(self._categories.values()) / episodes)
            self.logger.record("sampling/absent", self._absent / episodes)
        self._images.clear()
        self._categories.clear()
        self._absent = 0
