"""What the server takes and gives, as its OpenAPI page tells."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class RunLengths(BaseModel):
    """A mask as COCO's compressed run lengths."""

    size: tuple[int, int] = Field(description="height and width in pixels")
    counts: str = Field(description="what pycocotools' `mask.decode` takes")


class PlacedClick(BaseModel):
    """One click, in the pixels of the image turned upright by its EXIF orientation."""

    x: int = Field(description="column, from the left")
    y: int = Field(description="row, from the top")
    positive: bool = Field(description="the pixel belongs to the target, or does not")
    predicted_iou: float = Field(description="SAM's own estimate for the mask that this click gave")
    by: Literal["given", "agent"]
    segmentation: RunLengths = Field(description="the mask that this click gave")


class Segmented(BaseModel):
    """The answer of one episode."""

    category: str
    width: int
    height: int
    score: float = Field(description="predicted IoU of the answer, no probability that the category is there at all")
    area: int = Field(description="pixels of the answer")
    stopped: bool = Field(description="the agent ended the episode by itself")
    segmentation: RunLengths = Field(description="the answer, by the run's own rule: the best predicted or last mask")
    clicks: list[PlacedClick] = Field(description="in the order in which they were placed, those given first")


class CocoResult(BaseModel):
    """One entry of a list that `COCO.loadRes` takes."""

    image_id: int
    category_id: int = Field(description="place of the category among those asked for, from 1 up")
    category: str
    segmentation: RunLengths
    score: float


class Categories(BaseModel):
    """What the agent can be asked for, and what a request may hold."""

    categories: list[str] = Field(description="what the agent was trained to find")
    any_name: bool = Field(description="it can be asked for any other name too")
    budget: int = Field(description="clicks of an episode where the request does not say")
    max_clicks: int
    max_categories: int
    max_upload_bytes: int
    max_pixels: int


class Health(BaseModel):
    """Whether the server can answer."""

    status: Literal["ok"]
    version: str
    in_progress: int = Field(description="requests in the server")
    room_for: int = Field(description="requests that it takes at once")


class BrushValue(BaseModel):
    """A mask as Label Studio's brush."""

    format: Literal["rle"]
    rle: list[int] = Field(description="bytes of the mask's brush RLE")
    brushlabels: list[str]


class BrushRegion(BaseModel):
    """One region of a prediction, as Label Studio draws it."""

    id: str
    type: Literal["brushlabels"]
    from_name: str = Field(description="name of the BrushLabels tag")
    to_name: str = Field(description="name of the Image tag")
    original_width: int
    original_height: int
    image_rotation: int
    score: float = Field(description="predicted IoU")
    value: BrushValue


class Prediction(BaseModel):
    """The answer for one task."""

    model_version: str
    score: float = Field(description="predicted IoU of the least sure region; 0 where there is none")
    result: list[BrushRegion]


class Predictions(BaseModel):
    """One prediction a task, in their order."""

    results: list[Prediction]
    model_version: str


class ModelVersion(BaseModel):
    """What predictions are attributed to."""

    model_version: str


class Ignored(BaseModel):
    """The server does nothing with it."""

    status: Literal["ignored"]
    detail: str


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str = Field(description="one line: what, where, how to mend it")


STATUS = {
    408: "The upload took too long.",
    413: "The upload has too many bytes, or the image too many pixels.",
    415: "The body is of another type, or the image no image of a kind that can be read.",
    422: "A field is missing, unknown or cannot be used.",
    429: "This client asks too often; Retry-After says when to come again.",
    503: "The server is busy or ends; Retry-After says when to come again.",
}
"""What each status of a request that was not answered means."""
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words} for status, words in STATUS.items()
}

_IMAGE = {"type": "string", "format": "binary", "description": "an image file: BMP, JPEG, PNG or WEBP"}

SEGMENT_BODY = {
    "type": "object",
    "required": ["image", "category"],
    "additionalProperties": False,
    "properties": {
        "image": _IMAGE,
        "category": {"type": "string", "description": "what to look for"},
        "clicks": {
            "type": "string",
            "description": "JSON of clicks that the agent goes on from, as predict writes them and this call answers; "
            'of each only x, y and positive count: {"clicks": [{"x": 120, "y": 80, "positive": true}]}',
        },
        "budget": {"type": "integer", "minimum": 1, "description": "clicks in all, those given included"},
    },
}
ANNOTATE_BODY = {
    "type": "object",
    "required": ["image", "categories"],
    "additionalProperties": False,
    "properties": {
        "image": _IMAGE,
        "categories": {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "description": "what to look for; the field is repeated, once a category",
        },
        "image_id": {"type": "integer", "minimum": 0, "default": 1, "description": "of the entries"},
    },
}
_INTERFACE = {"type": "string", "description": "the project's labelling interface, XML with BrushLabels and Image"}
SETUP_BODY: dict[str, object] = {"type": "object", "required": ["schema"], "properties": {"schema": _INTERFACE}}
PREDICT_BODY: dict[str, object] = {
    "type": "object",
    "required": ["tasks", "label_config"],
    "properties": {
        "tasks": {
            "type": "array",
            "items": {"type": "object", "required": ["data"], "properties": {"data": {"type": "object"}}},
            "description": "each holds its picture in its data, as data:image/png;base64,...",
        },
        "label_config": _INTERFACE,
        "params": {"type": "object", "description": "key points of a person, in context.result, are clicks"},
    },
}
WEBHOOK_BODY: dict[str, object] = {
    "type": "object",
    "required": ["action"],
    "properties": {"action": {"type": "string", "description": "what has happened"}},
}


def multipart(body: dict[str, object]) -> dict[str, object]:
    """An operation's part of the OpenAPI description, for a body that `forms` reads."""
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": body}}}}


def json_body(body: dict[str, object]) -> dict[str, object]:
    """The same for a body of JSON; what else Label Studio sends in it is not read."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}}
