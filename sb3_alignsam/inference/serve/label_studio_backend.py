"""The server as a model that Label Studio is connected to.

The addresses, bodies and answers are those of its SDK for such servers (label-studio-ml). Label Studio asks ``/health``
for its HTTP status, tells ``/setup`` of a project's labelling interface, and asks ``/predict`` for tasks. Nothing of a
project is kept from one request to the next, and its access token is not read.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from binascii import Error as NoBase64
from collections.abc import Sequence
from dataclasses import dataclass
from reprlib import repr as short
from typing import Annotated, Any, Literal, TypeVar
from uuid import uuid4

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field, ValidationError

from sb3_alignsam.evaluation.run_lengths import decode_mask
from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.inference.brush import brush_region
from sb3_alignsam.inference.serve.batching import Job
from sb3_alignsam.inference.serve.forms import stated_pixels
from sb3_alignsam.inference.serve.gate import Gate, Visit
from sb3_alignsam.inference.serve.label_config import Brush, read_label_config
from sb3_alignsam.inference.serve.limits import Limits
from sb3_alignsam.inference.serve.schemas import (
    PREDICT_BODY,
    REFUSALS,
    SETUP_BODY,
    WEBHOOK_BODY,
    Ignored,
    ModelVersion,
    Predictions,
    json_body,
)

EMBEDDED = re.compile(r"data:image/[\w.+-]{1,40};base64,")
NO_TRAINING = "this server does not train; train an agent with 'sb3-alignsam train' and serve that"
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1, le=2**20)]
Body = TypeVar("Body", bound=BaseModel)


class _Place(BaseModel):
    x: Percent
    y: Percent
    keypointlabels: list[str] = Field(min_length=1)


class _KeyPoint(BaseModel):
    """A click of a person with the smart tool."""

    type: Literal["keypointlabels"]
    original_width: Side
    original_height: Side
    is_positive: bool = True
    value: _Place


class _Context(BaseModel):
    result: list[_KeyPoint] = []


class _Parameters(BaseModel):
    context: _Context | None = None


class _Task(BaseModel):
    data: dict[str, Any]


class _Predict(BaseModel):
    tasks: list[_Task]
    label_config: str
    params: _Parameters | None = None


class _Setup(BaseModel):
    label_config: str = Field(alias="schema")


class _Webhook(BaseModel):
    action: str


@dataclass(frozen=True)
class _Drawing:
    """What is asked for of one task's picture. :param brush: that the answers are drawn with."""

    brush: Brush
    job: Job


def add_label_studio(app: FastAPI, gate: Gate, limits: Limits) -> None:
    """Serve them."""
    annotator = gate.batcher.annotator
    # Label Studio asks anew for predictions of another version than the one it has.
    version = f"{annotator.zip_path.stem}-{hashlib.sha256(annotator.zip_path.read_bytes()).hexdigest()[:8]}"

    @app.post("/setup", response_model=ModelVersion, responses=REFUSALS, openapi_extra=json_body(SETUP_BODY))
    async def setup(request: Request) -> Any:
        """Label Studio: whether the agent can work with a project's labelling interface."""
        async with gate.visit(request) as visit:
            _brushes(_read(_Setup, await visit.json()).label_config, annotator, limits)
        return ModelVersion(model_version=version)

    @app.post("/predict", response_model=Predictions, responses=REFUSALS, openapi_extra=json_body(PREDICT_BODY))
    async def predict(request: Request) -> Any:
        """Label Studio: a mask for each task and label, as brush; pictures must lie in the tasks."""
        async with gate.visit(request) as visit:
            # Hundreds of milliseconds for a body as long as is allowed; others are answered meanwhile.
            tasks = await asyncio.to_thread(_drawings, await visit.json(), annotator, limits)
            # One after another, so that the requests of others are played between them.
            results = [{"model_version": version, **await _prediction(visit, drawings)} for drawings in tasks]
        return {"results": results, "model_version": version}

    @app.post(
        "/webhook",
        response_model=Ignored,
        responses={**REFUSALS, 501: {**REFUSALS[422], "description": "Training is asked for."}},
        openapi_extra=json_body(WEBHOOK_BODY),
    )
    async def webhook(request: Request) -> Any:
        """Label Studio: an annotation was made or changed, from which the agent learns nothing."""
        async with gate.visit(request) as visit:
            if _read(_Webhook, await visit.json()).action == "START_TRAINING":
                raise HTTPException(501, NO_TRAINING)
        return Ignored(status="ignored", detail=NO_TRAINING)

    @app.post("/train", include_in_schema=False)
    async def train(request: Request) -> Any:
        """What older versions of Label Studio ask for."""
        async with gate.visit(request):
            raise HTTPException(501, NO_TRAINING)


async def _prediction(visit: Visit, drawings: Sequence[_Drawing]) -> dict[str, Any]:
    """One task's answer, without labels whose mask is empty."""
    regions: list[dict[str, Any]] = []
    for drawing in drawings:
        entries = await visit.answer(drawing.job)
        regions += await asyncio.to_thread(_regions, drawing.brush, entries)
    # Tasks can be sorted by it, so that the one with the least sure mask comes first.
    return {"result": regions, "score": min((region["score"] for region in regions), default=0.0)}


def _regions(brush: Brush, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """:param entries: as the batcher answers, one a label."""
    tags = (brush.name, brush.image)
    return [
        # Names are drawn at random: a person may keep a region and ask again.
        brush_region(decode_mask(entry["segmentation"]), entry["category"], entry["score"], tags, uuid4().hex[:10])
        for entry in entries
        if entry["area"]
    ]


def _drawings(body: bytes, annotator: Annotator, limits: Limits) -> list[list[_Drawing]]:
    """What is asked for of each task's pictures. All is checked before anything is worked on.

    :raises HTTPException: 413, 415 or 422. :raises InputError: the labelling interface cannot be used.
    """
    asked = _read(_Predict, body)
    brushes = _brushes(asked.label_config, annotator, limits)
    points = asked.params.context.result if asked.params and asked.params.context else []
    return [_task_drawings(number, task, brushes, points, limits) for number, task in enumerate(asked.tasks, 1)]


def _task_drawings(
    number: int, task: _Task, brushes: Sequence[Brush], points: Sequence[_KeyPoint], limits: Limits
) -> list[_Drawing]:
    """:param number: what messages call the task. :param points: of a person; they are of one label."""
    pictures: dict[str, tuple[bytes, int]] = {}
    for key in {brush.key: None for brush in brushes}:  # once each: many tags may draw on one picture
        where = f"task {number}: '{key}'"
        content = _picture(where, task.data.get(key))
        pictures[key] = content, stated_pixels(content, where, limits)
    return [_drawing(*pictures[brush.key], brush, points) for brush in brushes]


def _drawing(content: bytes, pixels: int, brush: Brush, points: Sequence[_KeyPoint]) -> _Drawing:
    if not points:
        return _Drawing(brush, Job(content, pixels, brush.labels))
    label = points[-1].value.keypointlabels[0]
    clicks = [_click(point) for point in points if point.value.keypointlabels[0] == label]
    size = {"width": points[-1].original_width, "height": points[-1].original_height}
    return _Drawing(brush, Job(content, pixels, (label,), json.dumps({**size, "clicks": clicks})))


def _picture(where: str, value: Any) -> bytes:
    """The content of an embedded picture. :raises HTTPException: 422, it is none, but a path or an address, say."""
    head = EMBEDDED.match(value) if isinstance(value, str) else None
    if head is None:
        raise HTTPException(
            422,
            f"{where} is {short(value)}, and this server opens no file and no address; import tasks that hold their "
            "pictures, as data:image/png;base64,..., or the file that 'sb3-alignsam annotate --format label-studio' "
            "writes",
        )
    try:
        return base64.b64decode(value[head.end() :], validate=True)
    except (NoBase64, ValueError) as error:
        raise HTTPException(422, f"{where} is no valid base64 ({error}); embed the picture anew") from error


def _click(point: _KeyPoint) -> dict[str, Any]:
    """As `parse_clicks` takes it. A place is in percent of the picture's sides."""
    width, height = point.original_width, point.original_height
    x, y = int(point.value.x * width / 100), int(point.value.y * height / 100)
    return {"x": min(x, width - 1), "y": min(y, height - 1), "positive": point.is_positive}


def _brushes(text: str, annotator: Annotator, limits: Limits) -> list[Brush]:
    """The tags that the agent's masks are drawn with, with the labels that it knows, as a project may have others.

    :raises HTTPException: 422, there are too many labels. :raises InputError: it cannot be used, or none is known.
    """
    brushes = []
    for brush in read_label_config(text):
        known = [name for name in brush.labels if not annotator.reads_category or name in annotator.categories]
        if not known:
            annotator.check_category(brush.labels[0])
        brushes.append(Brush(brush.name, brush.image, brush.key, tuple(known)))
    total = sum(len(brush.labels) for brush in brushes)
    if total > limits.categories:
        raise HTTPException(
            422, f"the labelling interface has {total} labels; the agent looks for at most {limits.categories} a task"
        )
    return brushes


def _read(kind: type[Body], body: bytes) -> Body:
    """:raises HTTPException: 422, the body is no JSON or not of this kind."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise HTTPException(
            422, f"{where or 'the body'}: {first['msg']}; it must be as Label Studio sends it"
        ) from error
