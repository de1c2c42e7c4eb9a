"""What every request passes that makes the agent work: a client's rate, the server's room, and the time it has."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

from sb3_alignsam.errors import InputError
from sb3_alignsam.inference.serve.batching import Batcher, Closed, Job
from sb3_alignsam.inference.serve.forms import Form, read_form, read_json
from sb3_alignsam.inference.serve.limits import Limits, Slots, TokenBuckets

DRAIN_SECONDS = 30.0
"""How long a refused client may go on sending."""

Value = TypeVar("Value")


class Gate:
    """Lets requests in, up to `limits`."""

    def __init__(self, batcher: Batcher, limits: Limits) -> None:
        self.batcher, self.limits = batcher, limits
        self.slots = Slots(limits.waiting)
        self._buckets = TokenBuckets(limits.per_minute, limits.burst)

    @asynccontextmanager
    async def visit(self, request: Request) -> AsyncIterator[Visit]:
        """A request's stay in the server. :raises HTTPException: it is refused, at the door or later."""
        try:
            self._take_token(request)
            if not self.slots.take():
                raise self.busy(f"the server is busy with {self.slots.taken} requests; wait and try again")
            try:
                yield Visit(self, request)
            finally:
                self.slots.give_back()
        except HTTPException as error:
            if error.status_code != 408:
                await _drain(request, self.limits.upload_bytes)
            raise
        except InputError as error:
            raise HTTPException(422, str(error)) from error
        except Closed:
            raise self.busy("the server ends; come again once it runs anew") from None

    def busy(self, detail: str) -> HTTPException:
        """What a request is answered for which there is no room or time."""
        return HTTPException(503, detail, {"Retry-After": str(self.batcher.wait)})

    def _take_token(self, request: Request) -> None:
        wait = self._buckets.take(request.client.host if request.client else "")
        if wait:
            raise HTTPException(
                429,
                f"more than {self.limits.per_minute:g} requests a minute; wait and try again",
                {"Retry-After": str(math.ceil(wait))},
            )


class Visit:
    """One request that was let in; its time runs."""

    def __init__(self, gate: Gate, request: Request) -> None:
        self._gate, self._request, limits = gate, request, gate.limits
        self._end = asyncio.get_running_loop().time() + limits.seconds
        self._late = f"the request took more than {limits.seconds:g} seconds; try again, or send a smaller image"

    async def form(self, fields: Collection[str]) -> Form:
        """What the request holds. :param fields: that it may have beside ``image``."""
        reading = read_form(self._request, self._gate.limits, fields)
        return await self._in_time(reading, HTTPException(408, self._late))

    async def json(self) -> bytes:
        """The body of a request of JSON."""
        reading = read_json(self._request, self._gate.limits)
        return await self._in_time(reading, HTTPException(408, self._late))

    async def answer(self, job: Job) -> list[dict[str, Any]]:
        """Let the agent work on it."""
        self._gate.batcher.submit(job)
        return await self._in_time(asyncio.wrap_future(job.answer), self._gate.busy(self._late))

    async def _in_time(self, waited_for: Awaitable[Value], late: HTTPException) -> Value:
        try:
            async with asyncio.timeout_at(self._end):
                return await waited_for
        except TimeoutError:
            raise late from None


async def _drain(request: Request, most: int) -> None:
    """Read what is left of a body and forget it: a client that still sends does not read the answer.

    :param most: bytes; where more come the connection ends with the answer.
    """
    # RuntimeError: it was read to its end.
    with suppress(RuntimeError, TimeoutError, ClientDisconnect):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in request.stream():
                most -= len(chunk)
                if most < 0:
                    return
