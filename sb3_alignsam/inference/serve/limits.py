"""What one client, and all of them together, may ask of the server."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from sb3_alignsam.datasets.photographs import MAX_PIXELS
from sb3_alignsam.errors import InputError


@dataclass(frozen=True)
class Limits:
    """Each is checked before anything that costs more than the check.

    :param upload_bytes: of a request's body. :param pixels: of an image (height x width), at most `MAX_PIXELS`.
    :param clicks: of an episode, those given included. :param categories: of one ``/annotate``.
    :param per_minute: requests of one client, in the long run. :param burst: that it may send at once after a pause.
    :param waiting: requests in the server at once, the one being worked on included; one more is answered 503.
    :param seconds: from a request's first byte to its answer.
    :param batch: episodes played side by side. :param batch_pixels: of their images together, unless it is one alone.
    :raises InputError: one cannot be used.
    """

    upload_bytes: int = 20 * 2**20
    pixels: int = 2**24
    clicks: int = 50
    categories: int = 20
    per_minute: float = 120.0
    burst: int = 30
    waiting: int = 32
    seconds: float = 60.0
    batch: int = 8
    batch_pixels: int = 2**24

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < float("inf"):
                raise InputError(f"the limit '{name}' must be a number above 0, got {value}")
        if self.pixels > MAX_PIXELS:
            raise InputError(f"the limit 'pixels' must be at most {MAX_PIXELS}, got {self.pixels}")


class TokenBuckets:
    """How often each client may ask: a bucket of tokens that fills at a steady rate; a request takes one.

    :param per_minute: tokens that flow into each bucket. :param burst: that it holds.
    :param clients: whose buckets are kept, those seen last. :param clock: seconds that only ever grow.
    """

    def __init__(
        self, per_minute: float, burst: int, clients: int = 4096, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clients, self._clock = per_minute / 60, burst, clients, clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when there were that many

    def take(self, client: str) -> float:
        """Take one token. :return: 0, or in how many seconds there will be one."""
        now = self._clock()
        level, then = self._levels.pop(client, (float(self._burst), now))
        level = min(level + (now - then) * self._rate, self._burst)
        wait = 0.0 if level >= 1 else (1 - level) / self._rate
        self._levels[client] = (level if wait else level - 1, now)
        if len(self._levels) > self._clients:
            self._levels.popitem(last=False)
        return wait


class Slots:
    """Requests in the server at once. :param most: of them."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    def take(self) -> bool:
        """Take one if there is one."""
        if self.taken >= self.most:
            return False
        self.taken += 1
        return True

    def give_back(self) -> None:
        """Give one back that was taken."""
        self.taken -= 1
