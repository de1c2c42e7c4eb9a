"""Reads an upload into memory, never into a file, and never more of it than is allowed."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException, Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from sb3_alignsam.datasets.photographs import BROWSER_FORMATS, TooManyPixelsError, check_header
from sb3_alignsam.errors import InputError
from sb3_alignsam.inference.serve.batching import IMAGE
from sb3_alignsam.inference.serve.limits import Limits

MOST_FIELDS = 64
FIELD_BYTES = 2**20
"""Of a field that is no file; the clicks of an earlier answer come with their masks."""


class _MemoryParser(MultiPartParser):
    """Starlette's parser; uploads, whose size is bounded here, never become temporary files."""

    spool_max_size = sys.maxsize


@dataclass(frozen=True)
class Form:
    """A request's fields. :param image: content of the image file. :param pixels: as its header states them.
    :param texts: of the other fields, by name; a repeated one has several."""

    image: bytes
    pixels: int
    texts: dict[str, list[str]]

    def one(self, name: str) -> str | None:
        """A field that may be there once. :raises HTTPException: 422, it is there twice."""
        texts = self.texts.get(name, [])
        if len(texts) > 1:
            raise HTTPException(422, f"the field '{name}' came {len(texts)} times; send it once")
        return texts[0] if texts else None

    def needed(self, name: str) -> str:
        """A field that must be there once. :raises HTTPException: 422."""
        text = self.one(name)
        if text is None:
            raise missing(name)
        return text

    def whole(self, name: str) -> int | None:
        """A field that may hold a whole number >= 0. :raises HTTPException: 422."""
        text = self.one(name)
        if text is not None and not re.fullmatch(r"[0-9]{1,9}", text):
            raise HTTPException(422, f"the field '{name}' is {text[:40]!r}; it must be a whole number, 0 or more")
        return None if text is None else int(text)


def missing(name: str) -> HTTPException:
    """What a request without a field is answered."""
    return HTTPException(422, f"the field '{name}' is missing; send it as multipart/form-data, see /docs")


async def read_form(request: Request, limits: Limits, fields: Collection[str]) -> Form:
    """Read a request.

    :param fields: it may have beside ``image``.
    :raises HTTPException: 413, 415 or 422; the message says why.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise HTTPException(
            415, f"the body is {kind[:80] or 'of no type'!r}; it must be multipart/form-data, see /docs"
        )
    charset = parse_options_header(kind)[1].get(b"charset", b"utf-8")
    # The parser would decode with any codec of Python's, of which punycode takes minutes for a megabyte.
    if charset.lower() not in (b"utf-8", b"utf8"):
        raise HTTPException(415, f"the body's charset is {charset[:40].decode('latin-1')!r}; send UTF-8")
    _check_length(request, limits)
    parser = _MemoryParser(
        request.headers,
        _bounded(request, limits),
        max_files=MOST_FIELDS,
        max_fields=MOST_FIELDS,
        max_part_size=FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(422, f"the body is no valid multipart/form-data: {error.message}") from error
    try:
        return await _checked(form.multi_items(), limits, fields)
    finally:
        await form.close()


async def _checked(items: list[tuple[str, Any]], limits: Limits, fields: Collection[str]) -> Form:
    uploads: list[UploadFile] = []
    texts: dict[str, list[str]] = {}
    for name, value in items:
        if name not in (*fields, "image"):
            raise HTTPException(422, f"there is no field {name[:40]!r}; there are image, {', '.join(fields)}")
        if isinstance(value, UploadFile) != (name == "image"):
            raise HTTPException(422, f"the field '{name}' must be {'a file' if name == 'image' else 'text, no file'}")
        if name == "image":
            uploads.append(value)
        else:
            texts.setdefault(name, []).append(value)
    if len(uploads) > 1:
        raise HTTPException(422, f"{len(uploads)} images came; send one a request")
    if not uploads:
        raise missing("image")
    content = await uploads[0].read()
    # Beside the event loop: a header may be long.
    return Form(content, await asyncio.to_thread(stated_pixels, content, IMAGE, limits), texts)


def stated_pixels(content: bytes, name: str, limits: Limits) -> int:
    """Pixels of an image as its header states them. :param name: what messages call it.

    :raises HTTPException: 413, too many; 415, it is no image.
    """
    try:
        return check_header(content, name, BROWSER_FORMATS, limits.pixels)
    except TooManyPixelsError as error:
        raise HTTPException(413, str(error)) from error
    except InputError as error:
        raise HTTPException(415, str(error)) from error


async def read_json(request: Request, limits: Limits) -> bytes:
    """Read the body of a request that says that it is JSON. :raises HTTPException: 413 or 415."""
    kind = request.headers.get("content-type", "")
    # A page of another site can send any other type without asking the server first.
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, f"the body is {kind[:80] or 'of no type'!r}; it must be application/json, see /docs")
    _check_length(request, limits)
    return b"".join([chunk async for chunk in _bounded(request, limits)])


def _check_length(request: Request, limits: Limits) -> None:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.upload_bytes:
        raise _too_long(limits)


async def _bounded(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """A request's body, as long as it is not too long: a client need not state its length, nor rightly."""
    length = 0
    async for chunk in request.stream():
        length += len(chunk)
        if length > limits.upload_bytes:
            raise _too_long(limits)
        yield chunk


def _too_long(limits: Limits) -> HTTPException:
    return HTTPException(413, f"the upload has more than {limits.upload_bytes} bytes; make the image smaller")
