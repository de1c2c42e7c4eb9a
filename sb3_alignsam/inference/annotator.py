"""`Annotator`: a trained agent on photographs that nobody has annotated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from stable_baselines3.common.policies import BasePolicy

from sb3_alignsam.datasets.base import check_categories
from sb3_alignsam.datasets.photographs import MAX_PIXELS
from sb3_alignsam.envs.episode import FOUND_IOU, ClickEpisode, click_together
from sb3_alignsam.envs.observations import DEFAULT_KEYS
from sb3_alignsam.envs.sam_seg_env import MAX_STEPS, SamSegEnv
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.protocol import state_of
from sb3_alignsam.inference.kept_features import KeptFeatures
from sb3_alignsam.inference.unseen import Unseen, UnseenEpisode, unseen_sample
from sb3_alignsam.keywords import check_keywords, unknown_name
from sb3_alignsam.perception.clicks import Click
from sb3_alignsam.perception.frozen_features import ImageFeatures
from sb3_alignsam.policies.clickers import AgentClicker, Stop
from sb3_alignsam.policies.foreign import Agent, Trust, open_agent
from sb3_alignsam.policies.loading import find_zip, is_maskable
from sb3_alignsam.registration import ENV_IDS

FOR_DATASETS = (
    "dataset", "split", "subset", "root", "categories", "sampling", "absent_rate", "lenient", "render_mode",
)  # fmt: skip
"""Keywords of training that say nothing about a photograph of the user's own."""
MOSTLY = 0.5
"""Share of a mask from which it counts as that of an object found before."""
LONGEST_NAME = 200
"""Characters of a category's name; a text model would put a longer one into all of its templates before refusing it."""
Watch = Callable[[int, np.ndarray], object]
"""Is called after each click with the row of its photograph and the mask that it gave, (H, W) bool."""


@dataclass(frozen=True)
class PlacedClick:
    """One click of an episode. :param predicted_iou: the segmenter's own estimate for the mask that it gave.
    :param given: the user placed it, not the agent."""

    click: Click
    predicted_iou: float
    given: bool


@dataclass(frozen=True)
class Result:
    """The answer of one episode, by the run's own rule (``answer``).

    :param mask: (H, W) bool; empty where nothing was clicked, or SAM found nothing.
    :param score: predicted IoU of the answer; a regression output, it can leave [0, 1] a little. 0 before any click.
    :param clicks: in the order in which they were placed. :param stopped: the agent ended the episode by itself.
    :param excluded_share: see `Answer`; above `MOSTLY` the answer is what was left of an object found before.
    """

    mask: np.ndarray
    score: float
    clicks: tuple[PlacedClick, ...]
    stopped: bool
    excluded_share: float = 0.0

    @property
    def fault(self) -> str:
        """Why the answer is no new object, in words; the empty text where it is one."""
        if not self.mask.any():
            return "the mask is empty"
        if self.excluded_share > MOSTLY:
            return "it is the rest of an object found before"
        return f"predicted IoU is below {FOUND_IOU}" if self.score < FOUND_IOU else ""


class Annotator:
    """A trained agent, ready for any photograph. No dataset is needed and no ground truth read. Nothing is unpickled
    but a zip of others that the user trusts, and that one's dataset is asked for its categories.

    It plays the episodes of training and evaluation. What the frozen networks make of a photograph is kept from one
    category to the next, and on disk as the environment keyword ``cache`` says. Threads may share one; their calls run
    one after the other, since the networks use every core already.

    :param run: run folder or zip that `train` wrote.
    :param load_best: the best model on dev rather than the last one.
    :param env_kwargs: environment keywords that replace those of training, such as ``segmenter`` or ``device``.
    :param trust: of a zip that does not describe itself.
    :param keep: of how many photographs, the latest, features are kept in memory, at least 1; see `KeptFeatures`.
    :raises InputError: the run or a keyword cannot be used.
    """

    def __init__(
        self,
        run: str | Path,
        load_best: bool = False,
        env_kwargs: Mapping[str, Any] | None = None,
        trust: Trust | None = None,
        keep: int = 1,
    ) -> None:
        self.zip_path = find_zip(Path(run), load_best)
        self.agent = agent = open_agent(self.zip_path, env_kwargs, trust)
        self.description, self.reads_category = agent.description, agent.reads_category
        self.env = SamSegEnv(**_env_kwargs(agent, env_kwargs or {}))
        policy = agent.policy_for(self.env, self.env.segmenter.device)
        self._clicker = AgentClicker(policy, self.env.grid, is_maskable(self.description))
        self._kept = KeptFeatures(keep)
        self._rng = np.random.default_rng(0)
        """For clickers that draw; the agent does not."""
        self._lock = RLock()

    @property
    def policy(self) -> BasePolicy:
        """The agent's policy, in evaluation mode."""
        return self._clicker.policy

    @property
    def budget(self) -> int:
        """Clicks that an episode of training had at most."""
        return self.env.max_steps

    @property
    def categories(self) -> tuple[str, ...]:
        """What the agent was trained to find."""
        trained = self.description.env_kwargs.get("categories") or self.description.categories
        return (trained,) if isinstance(trained, str) else tuple(trained)

    def check_category(self, name: str) -> None:
        """:raises InputError: the agent cannot be asked for this category: it is no name, or an agent that knows
        categories by their index was not trained on it; or it is too long a text."""
        if len(name) > LONGEST_NAME:
            raise InputError(f"category {name[:40]!r}... is too long: {len(name)} characters, {LONGEST_NAME} at most")
        if not name.strip() or not name.isprintable():
            raise InputError(f"category {name!r} is no name; give one such as {self.categories[0]}")
        if self.reads_category:
            check_categories([name], self.categories, f"the categories that {self.zip_path} was trained on")
        elif self.env.features.maps is not None and name not in self.env.features.maps.categories:
            self.env.features.maps.clip.prompt_features([name])  # Refuses a text that is too long; kept for later.

    def segment(
        self, image: np.ndarray, category: str, clicks: Sequence[Click] = (), budget: int | None = None
    ) -> Result:
        """Play one episode on a photograph.

        :param image: (H, W, 3) uint8 RGB, at most `MAX_PIXELS` pixels.
        :param category: any name for an agent that reads similarity maps, else one of `categories`.
        :param clicks: placed first, at any pixels; the agent goes on from there, and its step count counts them.
        :param budget: clicks in all, those given included; None: that of training.
        :raises InputError: the image, the category or a click cannot be used.
        """
        return self.segment_batch([image], [category], [clicks], [self.budget if budget is None else budget])[0]

    def segment_batch(
        self,
        images: Sequence[np.ndarray],
        categories: Sequence[str],
        clicks: Sequence[Sequence[Click]] | None = None,
        budgets: Sequence[int] | None = None,
        watch: Watch | None = None,
    ) -> list[Result]:
        """Play an episode on each of several photographs, of any sizes, side by side: at each step one call of the
        policy and of the segmenter for all. Numbers differ from those of `segment` by rounding.

        :param images: as in `segment`. :param categories: as many. :param clicks: as in `segment`, as many.
        :param budgets: as in `segment`, as many. :param watch: see `Watch`.
        :raises InputError: an image, a category, a click or a budget cannot be used, or the numbers differ.
        """
        count = len(images)
        clicks = [()] * count if clicks is None else clicks
        budgets = [self.budget] * count if budgets is None else budgets
        if not count == len(categories) == len(clicks) == len(budgets):
            raise InputError(
                f"each image needs its category, clicks and budget; got {count} images, {len(categories)} categories, "
                f"{len(clicks)} lists of clicks and {len(budgets)} budgets"
            )
        with self._lock:
            episodes = [self._episode(image, category) for image, category in zip(images, categories, strict=True)]
            return self._play(episodes, clicks, budgets, watch)

    def warm_up(self) -> None:
        """Play an episode on a grey picture, so that the first photograph does not wait for what is done only once."""
        image = np.full((self.env.segmenter.image_size, self.env.segmenter.image_size, 3), 128, np.uint8)
        with self._lock:
            features = self.env.features.fresh(image)
            self._play_one(self._new_episode(image, self.categories[0], features))

    def segment_objects(self, image: np.ndarray, category: str, most: int) -> list[Result]:
        """Play episodes on a photograph, one an object, the pixels of earlier answers excluded (``target: instance``).

        Ends without ground truth: after `most` answers, or with one that is no new object (`Result.fault`): it is
        empty, as when the agent stops at once, the rest of an earlier one, or of a predicted IoU below `FOUND_IOU`.
        That one is the last of the list, which is never empty.

        :param image: as in `segment`. :param category: as in `segment`. :param most: answers at most, at least 1.
        :raises InputError: the image or the category cannot be used.
        """
        with self._lock:
            episode = self._episode(image, category)
            results = [self._play_one(episode)]
            while len(results) < most and not results[-1].fault:
                episode = replace(episode.fresh(), excluded=episode.excluded | results[-1].mask)
                results.append(self._play_one(episode))
            return results

    def _episode(self, image: np.ndarray, category: str) -> ClickEpisode:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise InputError(f"an image is (H, W, 3) uint8 RGB; got {image.shape} {image.dtype}")
        if image.shape[0] * image.shape[1] > MAX_PIXELS:
            raise InputError(
                f"the image has {image.shape[0] * image.shape[1]} pixels; at most {MAX_PIXELS} can be used"
            )
        self.check_category(category)
        return self._new_episode(image, category, self._kept.of(image, self.env.features.of))

    def _new_episode(self, image: np.ndarray, category: str, features: ImageFeatures) -> ClickEpisode:
        return self.env.new_episode(unseen_sample(image, category), features, kind=UnseenEpisode)

    def _play_one(self, episode: ClickEpisode) -> Result:
        return self._play([episode], [()], [self.budget])[0]

    def _play(
        self,
        episodes: Sequence[ClickEpisode],
        clicks: Sequence[Sequence[Click]],
        budgets: Sequence[int],
        watch: Watch | None = None,
    ) -> list[Result]:
        """Place the clicks given, then let the agent go on, side by side."""
        for given, budget in zip(clicks, budgets, strict=True):
            if not max(len(given), 1) <= budget <= MAX_STEPS:
                raise InputError(
                    f"the clicks of an episode must be from 1 to {MAX_STEPS}, and no fewer than the {len(given)} "
                    f"given; got {budget}"
                )
        placed: list[list[PlacedClick]] = [[] for _ in episodes]

        def place(clicking: Mapping[int, Click], given: bool) -> None:
            click_together([episodes[row] for row in clicking], list(clicking.values()), self.env.segmenter)
            for row, click in clicking.items():
                placed[row].append(PlacedClick(click, episodes[row].last.predicted_iou, given))
                if watch is not None:
                    watch(row, episodes[row].last.mask)

        # One by one: so the segmenter saw those of an earlier episode that is gone on with.
        for number in range(max(map(len, clicks), default=0)):
            place({row: given[number] for row, given in enumerate(clicks) if number < len(given)}, given=True)
        steps, stopped = [len(given) for given in clicks], [False] * len(episodes)
        while running := [row for row, step in enumerate(steps) if step < budgets[row] and not stopped[row]]:
            states = [state_of(self.env, episodes[row], steps[row], self._rng) for row in running]
            answers = dict(zip(running, self._clicker.next_clicks(states), strict=True))
            for row, answer in answers.items():
                steps[row], stopped[row] = steps[row] + 1, isinstance(answer, Stop)
            # None: an action without effect, which uses up a click.
            place({row: answer for row, answer in answers.items() if isinstance(answer, Click)}, given=False)
        finals = [episode.answer for episode in episodes]
        return [
            Result(final.mask, final.predicted_iou, tuple(placed[row]), stopped[row], final.excluded_share)
            for row, final in enumerate(finals)
        ]


def _env_kwargs(agent: Agent, replaced: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of an environment like the run's, on unseen photographs."""
    description = agent.description
    if description.env_id not in ENV_IDS:
        raise unknown_name(description.env_id, ENV_IDS, "environment")
    for name in replaced:
        if name in FOR_DATASETS and agent.algorithm is None:
            raise InputError(f"environment keyword '{name}' says nothing about photographs of your own; leave it out")
    kwargs = {**description.env_kwargs, **replaced}
    check_keywords(SamSegEnv.__init__, kwargs, "environment keyword")
    if not description.categories:
        raise InputError(f"{agent.path} does not say which categories it was trained on; train the agent anew")
    kwargs = {name: value for name, value in kwargs.items() if name not in FOR_DATASETS}
    if not agent.reads_category:
        # The index of a name outside the vocabulary does not exist, and the agent does not look at it.
        keys = kwargs.get("observation_keys") or DEFAULT_KEYS
        kwargs["observation_keys"] = [key for key in keys if key != "target_category"]
    return {**kwargs, "dataset": Unseen(description.categories)}
