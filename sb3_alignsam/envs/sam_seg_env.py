"""`SamSegEnv`: the click task as a plain `gymnasium.Env`, with everything it observes in every observation."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_alignsam.datasets.base import Dataset, Sample
from sb3_alignsam.datasets.loading import Subset, load_dataset
from sb3_alignsam.datasets.sampling import Read, Rule, Sampler, one_sample, samples_of_draw
from sb3_alignsam.envs.click_grid import ClickGrid
from sb3_alignsam.envs.episode import AnswerRule, ClickEpisode, Target, click_together
from sb3_alignsam.envs.episode_state import episode_state, restore_episode
from sb3_alignsam.envs.observations import Observations
from sb3_alignsam.envs.rendering import render_step
from sb3_alignsam.envs.rewards import GainAgainst, RewardWeights, Score
from sb3_alignsam.envs.turn import Turn
from sb3_alignsam.errors import InputError
from sb3_alignsam.keywords import check_choice, check_whole
from sb3_alignsam.perception.clicks import Click
from sb3_alignsam.perception.clip_surgery import ClipSurgery
from sb3_alignsam.perception.frozen_features import FrozenFeatures, ImageFeatures, open_cache
from sb3_alignsam.perception.loading import shared_segmenter
from sb3_alignsam.perception.segmenter import Segmenter
from sb3_alignsam.perception.text_models import shared_text_model

DEFAULT_NUM_PATCHES = 16
DEFAULT_MAX_STEPS = 5
MAX_STEPS = 1000
"""Largest click budget."""


class SamSegEnv(gym.Env[dict[str, Any], np.int64]):
    """An agent sees a photograph and a category name and places clicks; a frozen SAM turns the clicks into a mask.

    ``reset(options={"index": i})`` starts the dataset's fixed episode i; otherwise one is drawn.
    ``reset(options={"state": s})`` goes on where `state_dict` gave s, with the same draws to come. Every ``info`` holds
    ``iou``, ``dice`` (of the answer), ``last_iou`` (of the latest mask), ``predicted_iou``, ``image_id``, ``category``,
    ``absent`` (whether the category is not on the image), and after a step ``reward_terms``, the unweighted terms of
    the reward.

    :param dataset: ``shapes``, ``coco``, ``ade20k``, ``cityscapes`` or a `Dataset`.
    :param split: which split of it; None: the one to train on.
    :param subset: ``all`` of the split, or its ``fit`` or ``dev`` part (see `load_dataset`).
    :param root: folder of a dataset that lies in files.
    :param categories: target categories; None: all.
    :param sampling: how they are drawn: ``uniform``, ``balanced``, ``inverse_frequency`` or ``hard``, see `Sampler`.
    :param absent_rate: share of the drawn episodes, 0 to 1, whose category is not on the image, so that the empty mask
        is right; to be learnt, it needs ``allow_stop``.
    :param every_category: an episode that was drawn is followed by one for each other target category on its image, so
        that the image is encoded once for all of them.
    :param lenient: leave out what cannot be used of a COCO folder, rather than refuse it.
    :param segmenter: ``tiny``, or a `Segmenter`.
    :param checkpoint: its weights; None: those that ship with the package.
    :param text_model: for similarity maps: ``tiny``, a folder, a name such as ``openai/clip-vit-base-patch16``, or a
        `ClipSurgery`; None: there are no maps.
    :param device: where the frozen networks run.
    :param cache: folder in which their features of images are kept; None: the user's own cache folder for datasets that
        lie in files, none for drawn ones; False: none.
    :param cache_gb: size in GB that it may grow to.
    :param num_patches: patches a side of the click grid; at most one of this and `patch_size`. None of both: 16.
    :param patch_size: side of a patch in pixels of SAM's padded square.
    :param max_steps: click budget of an episode, from 1 to `MAX_STEPS`.
    :param allow_stop: adds the *stop* action.
    :param target: ``category``: all instances together; ``instance``: one at a time, found ones excluded.
    :param rewards: weights by term, see `RewardWeights`.
    :param score: ``iou`` or ``dice``, what gains and final scores are measured in.
    :param gain_against: ``last`` or ``best``, see `gain_term`.
    :param answer: ``best_predicted`` or ``last``, see `ClickEpisode`.
    :param observation_keys: which observations to send; None: `DEFAULT_KEYS`.
    :param render_mode: ``rgb_array`` or None.
    :param render_size: side in pixels of each of a frame's three pictures.
    :raises InputError: a value cannot be used; the message names it.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 1}

    def __init__(
        self,
        *,
        dataset: str | Dataset = "shapes",
        split: str | None = None,
        subset: Subset = "all",
        root: str | Path | None = None,
        categories: Sequence[str] | str | None = None,
        sampling: Rule = "uniform",
        absent_rate: float = 0.0,
        every_category: bool = False,
        lenient: bool = False,
        segmenter: str | Path | Segmenter = "tiny",
        checkpoint: str | None = None,
        text_model: str | Path | ClipSurgery | None = None,
        device: str = "cpu",
        cache: str | Path | bool | None = None,
        cache_gb: float = 20.0,
        num_patches: int | None = None,
        patch_size: int | None = None,
        max_steps: int = DEFAULT_MAX_STEPS,
        allow_stop: bool = False,
        target: Target = "category",
        rewards: Mapping[str, float] | None = None,
        score: Score = "iou",
        gain_against: GainAgainst = "last",
        answer: AnswerRule = "best_predicted",
        observation_keys: Sequence[str] | None = None,
        render_mode: str | None = None,
        render_size: int = 320,
    ) -> None:
        check_choice("target", target, get_args(Target))
        check_choice("score", score, get_args(Score))
        check_choice("gain_against", gain_against, get_args(GainAgainst))
        check_choice("answer", answer, get_args(AnswerRule))
        check_choice("render_mode", render_mode, (None, "rgb_array"))
        check_whole("max_steps", max_steps, 1, MAX_STEPS)
        check_whole("render_size", render_size, 32, 2048)
        self.dataset = (
            load_dataset(dataset, split, subset=subset, root=root, categories=categories, lenient=lenient)
            if isinstance(dataset, str)
            else dataset
        )
        self.sampler = Sampler(self.dataset, sampling, absent_rate)
        if every_category and sampling == "hard":
            raise InputError("every_category goes with any sampling but 'hard', which weighs single episodes")
        self.every_category = every_category
        self.read: Read = samples_of_draw if every_category else one_sample
        """Gives the samples, all of the same image, of the episodes that a draw stands for."""
        if isinstance(segmenter, str | Path):
            segmenter = shared_segmenter(str(segmenter), checkpoint, device)
        self.segmenter: Segmenter = segmenter
        if num_patches is None and patch_size is None:
            num_patches = DEFAULT_NUM_PATCHES
        size = self.segmenter.image_size
        self.grid = ClickGrid(size, num_patches=num_patches, patch_size=patch_size, allow_stop=allow_stop)
        self.max_steps = max_steps
        self.target, self.score_kind, self.gain_against, self.answer_rule = target, score, gain_against, answer
        self.weights = RewardWeights.from_mapping(rewards)
        clip = shared_text_model(str(text_model), device) if isinstance(text_model, str | Path) else text_model
        store = open_cache(cache, cache_gb, getattr(self.dataset, "in_files", False))
        self.features = FrozenFeatures(self.segmenter, clip, self.dataset.categories, store)
        self.observations = Observations(
            self.segmenter.embedding_shape,
            size,
            self.grid,
            self.dataset.categories,
            max_steps,
            observation_keys,
            self.features.maps,
        )
        self.observation_space: spaces.Dict = self.observations.space()
        self.action_space = spaces.Discrete(self.grid.num_actions)
        self.render_mode, self.render_size = render_mode, render_size
        self._episode: ClickEpisode | None = None
        self._waiting: list[ClickEpisode] = []
        self._turn: Turn | None = None
        self._steps = 0
        self._reward = 0.0

    @property
    def episode(self) -> ClickEpisode:
        """The running episode. :raises RuntimeError: before the first reset."""
        if self._episode is None:
            raise RuntimeError("call reset() first")
        return self._episode

    @property
    def steps(self) -> int:
        """Actions taken in the running episode."""
        return self._steps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode; see the class for `options`.

        With ``target: instance``, an episode whose answer found an instance is followed by one for the next instance
        of the same image; with `every_category`, by those for the image's other categories.
        """
        super().reset(seed=seed)
        if seed is not None:
            self.sampler.restart()
        state = (options or {}).get("state")
        if state is not None:
            self.restore_draws(state)
            self.restore(state, self._episodes(state["episode"]["index"], self.read))
            return self.observe(), self.info()
        episodes = [] if seed is not None or options else self.following_episodes()
        if not episodes:
            index = (options or {}).get("index")
            if index is None:
                episodes = self._episodes(self.sampler.draw(self.np_random), self.read)
            else:
                episodes = [self.fixed_episode(index)]
            self.sampler.begin(drawn=index is None)
        self.begin(episodes)
        return self.observe(), self.info()

    def step(self, action: np.int64) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Place one click or stop. Ends when the budget is used; nothing is ever truncated."""
        click_together([self.episode], [self.choose(action)], self.segmenter)
        reward, terminated, info = self.settle()
        return self.observe(), reward, terminated, False, info

    def following_episodes(self) -> list[ClickEpisode]:
        """Those that are left on the same image, with ``target: instance`` the next instance's first; empty: another
        image is due."""
        found = None if self._episode is None else self._episode.next_object()
        return self._waiting if found is None else [found, *self._waiting]

    def fixed_episode(self, index: int) -> ClickEpisode:
        """The dataset's fixed episode `index`, or one that was drawn, fresh; the running one goes on untouched."""
        return self._episodes(index, one_sample)[0]

    def _episodes(self, index: int, read: Read) -> list[ClickEpisode]:
        """Those of the samples that `read` gives for an index, fresh."""
        samples = read(self.dataset, index)
        features = self.features.of(samples[0].image)
        return [self.new_episode(sample, features, index) for sample in samples]

    def new_episode(
        self,
        sample: Sample,
        features: ImageFeatures,
        index: int | None = None,
        kind: type[ClickEpisode] = ClickEpisode,
    ) -> ClickEpisode:
        """A fresh episode by this environment's rules.

        :param features: of the sample's image. :param index: the sample's in the dataset; None: it is not of it.
        :param kind: its class.
        """
        similarity = None
        if features.tokens is not None and self.features.maps is not None:
            side = self.segmenter.embedding_shape[1]
            similarity = self.features.maps.maps(features.tokens, sample.image.shape[:2], sample.category, side)
        return kind(
            sample,
            features.embedding,
            self.target,
            self.answer_rule,
            self.score_kind,
            tokens=features.tokens,
            similarity=similarity,
            index=index,
        )

    def begin(self, episodes: Sequence[ClickEpisode]) -> None:
        """Make the first of some fresh episodes of an image the running one; the others follow it."""
        self._episode, *self._waiting = episodes
        self._turn = None
        self._steps, self._reward = 0, 0.0

    def state_dict(self) -> dict[str, Any]:
        """The running episode and the draws to come, as mappings, lists, numbers and arrays; between two steps."""
        episode = episode_state(self.episode)
        draws = self.np_random.bit_generator.state
        return {
            "draws": draws,
            "sampler": self.sampler.state_dict(),
            "steps": self._steps,
            "reward": self._reward,
            "category_id": self.episode.sample.category_id,
            "waiting": len(self._waiting),
            "episode": episode,
        }

    def restore_draws(self, state: Mapping[str, Any]) -> None:
        """Draw the same episodes from here on as the environment that gave `state`."""
        self.np_random.bit_generator.state = state["draws"]
        if "sampler" in state:  # Checkpoints of 0.1 have none.
            self.sampler.load_state_dict(state["sampler"])

    def take_share(self, part: int, parts: int, rank: int = 0, world_size: int = 1) -> None:
        """Draw only images that no other environment of any rank draws, see `Sampler.take_share`; before a reset."""
        self.sampler.take_share(part, parts, rank, world_size)

    def restore(self, state: Mapping[str, Any], episodes: Sequence[ClickEpisode]) -> None:
        """Go on with the episode of a `state_dict`. :param episodes: those that its draw stands for, fresh."""
        # Earlier checkpoints name no category: they had one episode a draw.
        category_id = state.get("category_id", episodes[0].sample.category_id)
        place = [episode.sample.category_id for episode in episodes].index(category_id)
        restore_episode(episodes[place], state["episode"], self.segmenter.device)
        self.begin(episodes[place : place + 1 + state.get("waiting", 0)])
        self._steps, self._reward = int(state["steps"]), float(state["reward"])

    def choose(self, action: np.int64) -> Click | None:
        """The first half of `step`, for those who segment several environments' clicks at once.

        :return: the click to place by `click_together`; None where the action places none.
        """
        self._steps += 1
        self._turn = Turn.of(self.episode, self.grid, int(action), bool(self.action_masks()[int(action)]))
        return self._turn.click

    def settle(self) -> tuple[float, bool, dict[str, Any]]:
        """The second half of `step`: reward, whether the episode is over, and info, once the click has its mask."""
        if self._turn is None:
            raise RuntimeError("call choose() first")
        turn, score = self._turn, self.episode.answer.score
        terminated = turn.stopped or self._steps >= self.max_steps
        terms = turn.settle(score, terminated, self.gain_against)
        if terminated and self.episode.index is not None:
            self.sampler.note(self.episode.index, score)
        self._turn, self._reward = None, self.weights.total(terms)
        return self._reward, terminated, self.info() | {"reward_terms": terms}

    def twin(self) -> SamSegEnv:
        """Another environment of the same keywords that shares dataset and frozen networks, before its first reset."""
        twin = copy.copy(self)
        twin.sampler = self.sampler.fresh()
        twin._episode = twin._turn = None
        twin._waiting = []
        twin._steps, twin._reward = 0, 0.0
        twin._np_random = twin._np_random_seed = None
        return twin

    def observe(self) -> dict[str, Any]:
        """The observation of the running episode; every array is new."""
        return self.observations.of(self.episode, self._steps)

    def action_masks(self) -> np.ndarray:
        """Which actions do something now, (num_actions,) bool; the name sb3-contrib's MaskablePPO looks for."""
        return self.action_masks_of(self.episode)

    def action_masks_of(self, episode: ClickEpisode) -> np.ndarray:
        """Which actions do something in an episode of this environment's kind, (num_actions,) bool."""
        clicked = np.zeros((self.grid.num_patches, self.grid.num_patches), bool)
        for click in episode.clicks:
            clicked[self.grid.patch(click, *episode.image_size)] = True
        return self.grid.action_mask(clicked, *episode.image_size)

    def render(self) -> np.ndarray | None:
        """One frame, see `render_step`; None without ``render_mode="rgb_array"``."""
        if self.render_mode is None:
            return None
        return render_step(self.episode, self._steps, self.max_steps, self._reward, self.render_size)

    def info(self) -> dict[str, Any]:
        """What is known of the running episode, see the class."""
        return self.episode.info()
