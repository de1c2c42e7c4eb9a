"""Requests that wait are played side by side, on the one thread that runs the networks."""

from __future__ import annotations

import io
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sb3_alignsam.datasets.photographs import BROWSER_FORMATS, read_upright_stream
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.run_lengths import encode_mask
from sb3_alignsam.inference.annotator import Annotator, Result
from sb3_alignsam.inference.click_files import DIGITS, click_entry, parse_clicks
from sb3_alignsam.inference.serve.limits import Limits
from sb3_alignsam.perception.clicks import Click

IMAGE = "'image'"
"""What messages call an upload: its name is the client's own text."""
MOST_WAIT = 30
"""Seconds after which a client that found no room is asked to come again at the latest."""
_log = logging.getLogger("uvicorn.error")


class Closed(Exception):  # noqa: N818 it is no error
    """The server ends before a request was worked on."""


@dataclass(frozen=True, eq=False)
class Job:
    """One request.

    :param content: of an image file whose header was checked. :param pixels: as the header states them.
    :param categories: for each an episode is played. :param clicks: given with the request, as JSON; None: none.
    :param budget: clicks of each episode in all; None: that of training, or as many as are given.
    """

    content: bytes
    pixels: int
    categories: tuple[str, ...]
    clicks: str | None = None
    budget: int | None = None
    answer: Future[list[dict[str, Any]]] = field(default_factory=Future)


@dataclass(frozen=True)
class Episode:
    """What one episode starts from. :param image: (H, W, 3) uint8 RGB. :param clicks: given with the request."""

    image: np.ndarray
    category: str
    clicks: Sequence[Click]
    budget: int


class Batcher:
    """Plays what `submit` is given, as many requests at once as wait and as `limits` allow.

    The thread also decodes the images, so that no more of them are in memory than are worked on, and it runs all of the
    networks: two threads that did would slow each other down.
    """

    def __init__(self, annotator: Annotator, limits: Limits) -> None:
        self.annotator, self.limits = annotator, limits
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds = 1.0  # that the latest batch took
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._warm: Future[None] = Future()

    def start(self) -> None:
        """Returns once the networks are warm. :raises Exception: they do not run."""
        self._thread.start()
        self._warm.result()

    def submit(self, job: Job) -> None:
        """Play it; its `answer` will hold for each category what `_entry` gives, or `InputError`, or `Closed`."""
        with self._changed:
            if not self._closed:
                self._waiting.append(job)
                job.answer.add_done_callback(lambda _: self._forget(job))
                self._changed.notify()
                return
        _fail(job, Closed())

    def _forget(self, job: Job) -> None:
        """Let go of a job that is over before its turn has come: another may have taken its place at the door."""
        with self._changed, suppress(ValueError):
            self._waiting.remove(job)

    def close(self) -> None:
        """Work on nothing more but what is being worked on; `join` waits for that."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = self._waiting, deque()
            self._changed.notify()
        for job in waiting:
            if job.answer.set_running_or_notify_cancel():
                _fail(job, Closed())

    def join(self) -> None:
        """Wait for the thread's end."""
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def wait(self) -> int:
        """In about how many seconds there will be room again, which is when the batch now played is done."""
        return min(max(1, math.ceil(self._seconds)), MOST_WAIT)

    def _work(self) -> None:
        try:
            self.annotator.warm_up()
        except BaseException as error:
            self._warm.set_exception(error)
            return
        self._warm.set_result(None)
        while jobs := self._next():
            start = time.monotonic()
            self._answer(jobs)
            self._seconds = time.monotonic() - start

    def _next(self) -> list[Job]:
        """What is played side by side next; empty once there will be nothing any more."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            jobs: list[Job] = []
            episodes = pixels = 0
            while self._waiting:
                job = self._waiting[0]
                episodes, pixels = episodes + len(job.categories), pixels + job.pixels * len(job.categories)
                if jobs and (episodes > self.limits.batch or pixels > self.limits.batch_pixels):
                    break
                jobs.append(self._waiting.popleft())
            return jobs

    def _answer(self, jobs: Sequence[Job]) -> None:
        """Answer each job, with what is wrong with it where something is."""
        begun: list[tuple[Job, list[Episode]]] = []
        for job in jobs:
            if not job.answer.set_running_or_notify_cancel():
                continue  # The client was told that it took too long.
            try:
                begun.append((job, self._episodes(job)))
            # Whatever it is: this thread answers every client, and must outlive the fault of one.
            except Exception as error:
                _fail(job, error)
        try:
            self._play(begun)
        except Exception as error:  # likewise
            if len(begun) == 1:
                _fail(begun[0][0], error)
                return
            for one in begun:  # One of them was at fault; the others get their answers.
                try:
                    self._play([one])
                except Exception as own:
                    _fail(one[0], own)

    def _episodes(self, job: Job) -> list[Episode]:
        """:raises InputError: what the job brings cannot be used."""
        image = read_upright_stream(io.BytesIO(job.content), IMAGE, BROWSER_FORMATS)
        clicks = [] if job.clicks is None else parse_clicks(job.clicks, "'clicks'", image.shape[:2])
        budget = max(self.annotator.budget, len(clicks)) if job.budget is None else job.budget
        if not max(len(clicks), 1) <= budget <= self.limits.clicks:
            raise InputError(
                f"'budget' counts all clicks of an episode: it must be from {max(len(clicks), 1)}, those given, to "
                f"{self.limits.clicks}; got {budget}"
            )
        for category in job.categories:
            self.annotator.check_category(category)
        return [Episode(image, category, clicks, budget) for category in job.categories]

    def _play(self, begun: Sequence[tuple[Job, list[Episode]]]) -> None:
        """Play the episodes of some jobs, at most `Limits.batch` side by side, and answer the jobs."""
        episodes = [episode for _, own in begun for episode in own]
        pixels = max((episode.image.shape[0] * episode.image.shape[1] for episode in episodes), default=1)
        size = max(1, min(self.limits.batch, self.limits.batch_pixels // pixels))
        entries: list[dict[str, Any]] = []
        for start in range(0, len(episodes), size):
            entries += self._play_together(episodes[start : start + size])
        for job, own in begun:
            job.answer.set_result(entries[: len(own)])
            del entries[: len(own)]

    def _play_together(self, episodes: Sequence[Episode]) -> list[dict[str, Any]]:
        masks: list[list[dict[str, Any]]] = [[] for _ in episodes]
        results = self.annotator.segment_batch(
            [episode.image for episode in episodes],
            [episode.category for episode in episodes],
            [episode.clicks for episode in episodes],
            [episode.budget for episode in episodes],
            lambda row, mask: masks[row].append(encode_mask(mask)),
        )
        return [_entry(*each) for each in zip(episodes, results, masks, strict=True)]


def _entry(episode: Episode, result: Result, masks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An episode's answer as `schemas.Segmented` describes it. :param masks: of each click."""
    return {
        "category": episode.category,
        "width": episode.image.shape[1],
        "height": episode.image.shape[0],
        "score": round(result.score, DIGITS),
        "area": int(np.count_nonzero(result.mask)),
        "stopped": result.stopped,
        "segmentation": encode_mask(result.mask),
        "clicks": [
            {**click_entry(placed), "segmentation": mask} for placed, mask in zip(result.clicks, masks, strict=True)
        ],
    }


def _fail(job: Job, error: Exception) -> None:
    if not isinstance(error, InputError | Closed):
        _log.error("a request could not be answered", exc_info=error)
    job.answer.set_exception(error)
