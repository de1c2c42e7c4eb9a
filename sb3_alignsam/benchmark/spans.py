"""When the calls of a function began and ended, while a whole run goes on around them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any


@dataclass(frozen=True)
class Span:
    """Begin and end of a call, in seconds of `time.perf_counter`."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start


@contextmanager
def watched(owner: Any, name: str, finish: Callable[[], object] = lambda: None) -> Iterator[list[Span]]:
    """Note every call of a method of a class, or of one object, until the block ends.

    :param owner: class or object.
    :param finish: waits, within each call, until an accelerator has done what it was given.
    :return: grows by one span a call, also where the call fails.
    """
    original = getattr(owner, name)
    own = name in vars(owner)
    spans: list[Span] = []

    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            finish()
            spans.append(Span(start, time.perf_counter()))

    setattr(owner, name, call)
    try:
        yield spans
    finally:
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)


def seconds_inside(spans: Sequence[Span], outer: Span) -> float:
    """Seconds of those spans that began within another one."""
    return sum(span.seconds for span in spans if outer.start <= span.start < outer.end)
