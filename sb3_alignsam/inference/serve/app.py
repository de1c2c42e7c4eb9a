"""The server's addresses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

import sb3_alignsam
from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.inference.serve.batching import Batcher, Job
from sb3_alignsam.inference.serve.forms import missing
from sb3_alignsam.inference.serve.gate import Gate
from sb3_alignsam.inference.serve.label_studio_backend import add_label_studio
from sb3_alignsam.inference.serve.limits import Limits
from sb3_alignsam.inference.serve.pages import add_pages
from sb3_alignsam.inference.serve.schemas import (
    ANNOTATE_BODY,
    REFUSALS,
    SEGMENT_BODY,
    Categories,
    CocoResult,
    Health,
    Segmented,
    multipart,
)

ABOUT = "An agent places clicks on a photograph, and a frozen Segment Anything Model turns them into a mask."


def make_app(annotator: Annotator, limits: Limits) -> FastAPI:
    """An ASGI application; it runs the agent from its start-up to its shut-down.

    :param annotator: belongs to the application from here on.
    """
    limits = replace(limits, clicks=max(limits.clicks, annotator.budget))
    batcher = Batcher(annotator, limits)
    gate = Gate(batcher, limits)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(batcher.start)
        yield
        batcher.close()
        await asyncio.to_thread(batcher.join)

    app = FastAPI(
        title="sb3-alignsam",
        version=sb3_alignsam.__version__,
        description=ABOUT,
        lifespan=running,
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere.
        redoc_url=None,
    )
    app.state.batcher = batcher
    _add_problems(app)
    _add_answers(app, gate, limits)
    _add_state(app, gate, limits)
    add_label_studio(app, gate, limits)
    add_pages(app)
    return app


def _add_answers(app: FastAPI, gate: Gate, limits: Limits) -> None:
    @app.post("/segment", response_model=Segmented, responses=REFUSALS, openapi_extra=multipart(SEGMENT_BODY))
    async def segment(request: Request) -> Any:
        """One image and one category: the agent's clicks, or those it adds to the clicks given, and the mask."""
        async with gate.visit(request) as visit:
            form = await visit.form(("category", "clicks", "budget"))
            category, budget = form.needed("category"), form.whole("budget")
            return (await visit.answer(Job(form.image, form.pixels, (category,), form.one("clicks"), budget)))[0]

    @app.post("/annotate", response_model=list[CocoResult], responses=REFUSALS, openapi_extra=multipart(ANNOTATE_BODY))
    async def annotate(request: Request) -> Any:
        """One image and several categories: a COCO results list, without those whose mask is empty."""
        async with gate.visit(request) as visit:
            form = await visit.form(("categories", "image_id"))
            categories, image_id = form.texts.get("categories", []), form.whole("image_id")
            if not categories:
                raise missing("categories")
            if len(categories) > limits.categories:
                raise HTTPException(
                    422, f"{len(categories)} fields 'categories' came; send at most {limits.categories} a request"
                )
            entries = await visit.answer(Job(form.image, form.pixels, tuple(categories)))
        about = {"image_id": 1 if image_id is None else image_id}
        return [{**entry, **about, "category_id": place} for place, entry in enumerate(entries, 1) if entry["area"]]


def _add_state(app: FastAPI, gate: Gate, limits: Limits) -> None:
    annotator = gate.batcher.annotator

    @app.get("/categories", response_model=Categories)
    async def categories() -> Any:
        """What the agent can be asked for, and what a request may hold."""
        return Categories(
            categories=list(annotator.categories),
            any_name=not annotator.reads_category,
            budget=annotator.budget,
            max_clicks=limits.clicks,
            max_categories=limits.categories,
            max_upload_bytes=limits.upload_bytes,
            max_pixels=limits.pixels,
        )

    @app.get("/health", response_model=Health, responses={503: REFUSALS[503]})
    async def health() -> Any:
        """Whether the server can answer."""
        if not gate.batcher.alive:
            raise HTTPException(503, "the agent's thread has ended; start the server anew, its log says why")
        return Health(
            status="ok", version=sb3_alignsam.__version__, in_progress=gate.slots.taken, room_for=limits.waiting
        )


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> JSONResponse:
        detail = {
            404: f"there is nothing at {request.url.path[:80]}; see /docs",
            405: f"{request.method} is not for {request.url.path[:80]}; see /docs",
        }.get(error.status_code, error.detail)
        return JSONResponse({"detail": " ".join(str(detail).split())}, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return JSONResponse({"detail": "the upload ended too early; send it anew"}, 400)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "the server failed at this request; its log says why"}, 500)
