"""OpenAPI: the shapes of what goes in and out, and what FastAPI cannot see in the code.

Answers themselves are made of plain dicts.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from toplabel.errors import ErrorCode

ModelName = Annotated[
    str | None,
    Field(description="Which of the served models; by default the first.", max_length=300),
]


class ClassifyQuery(BaseModel):
    """What a request wants to know."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: ModelName = None
    top_k: Annotated[int, Field(ge=1, le=100_000, description="How many classes to give.")] = 5
    threshold: Annotated[
        float | None,
        Field(ge=0, le=1, allow_inf_nan=False, description="Mark a lower best score as `unsure`."),
    ] = None


class ExplainQuery(BaseModel):
    """What is to be explained, and how."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: ModelName = None
    label: Annotated[
        int | None, Field(ge=0, le=10_000_000, description="A class index; by default the best.")
    ] = None
    format: Annotated[
        Literal["png", "json"], Field(description="The image with the map over it, or numbers.")
    ] = "png"


Classify = Annotated[ClassifyQuery, Query()]
Explain = Annotated[ExplainQuery, Query()]


class ErrorDetail(BaseModel):
    """What went wrong: a word for programs, a sentence for people."""

    code: str
    message: str


class ErrorBody(BaseModel):
    """Every answer that is an error."""

    error: ErrorDetail


class ProtocolError(BaseModel):
    """An error as the Open Inference Protocol has it; `code` is ours."""

    error: str
    code: str


class ImageFailure(BaseModel):
    """Why an image has no label."""

    code: ErrorCode
    message: str


class CandidateBody(BaseModel):
    """One class and its score from 0 to 1."""

    label: str
    index: int
    score: float


class RecordBody(BaseModel):
    """One image's record."""

    source: str
    label: str | None
    index: int | None
    score: float | None
    top: list[CandidateBody] | None
    unsure: bool | None
    warnings: list[str]
    model: str
    error: ImageFailure | None


class ModelIdentity(BaseModel):
    """Which model answered."""

    name: str
    sha256: str


class Timings(BaseModel):
    """Milliseconds: waiting for a worker, reading, the model, and all from the headers on."""

    queue: float
    read: float
    model: float
    total: float


class ClassifyBody(BaseModel):
    """A record for each image, in their order."""

    model: ModelIdentity
    predictions: list[RecordBody]
    timings_ms: Timings


class ServedModelBody(BaseModel):
    """One of the served models."""

    name: str
    sha256: str
    classes: int
    input_size: list[int]
    default: bool
    engine: str
    labels_url: str


class ModelsBody(BaseModel):
    """All served models, the default one first."""

    models: list[ServedModelBody]


class LabelsBody(BaseModel):
    """A model's class names, by index."""

    name: str
    labels: list[str]


class ExplanationBody(BaseModel):
    """A heat map in numbers, how it was made, and how far it can be trusted."""

    label: str
    index: int
    score: float
    method: Literal["gradcam", "occlusion"]
    layer: str
    faithfulness: float
    random_faithfulness: float
    model: str
    width: int
    height: int
    heat: list[list[float]]
    """Rows over the whole upright image, from 0 to 1; at most 128 rows and columns."""


class StateBody(BaseModel):
    """Whether the server is there, or ready."""

    status: str


class ScoreBody(BaseModel):
    """A class and its score, as Hugging Face has it."""

    label: str
    score: float


class ServerMetadataBody(BaseModel):
    """What a server is."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadataBody(BaseModel):
    """What a tensor is."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadataBody(BaseModel):
    """What a model takes and gives; one of its inputs is given at a time."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadataBody]
    outputs: list[TensorMetadataBody]


class OutputBody(BaseModel):
    """One output tensor."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class InferBody(BaseModel):
    """The answer; tensors that were asked for in binary follow the JSON."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputBody]


_TENSOR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"enum": ["image"]},
        "datatype": {"enum": ["BYTES"]},
        "shape": {"type": "array", "items": {"enum": [1]}, "minItems": 1, "maxItems": 1},
        "data": {
            "type": "array",
            "items": {"type": "string", "format": "image-base64"},
            "minItems": 1,
            "maxItems": 1,
        },
    },
    "required": ["name", "datatype", "shape", "data"],
    "additionalProperties": False,
}

INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "inputs": {
                            "type": "array",
                            "items": _TENSOR,
                            "minItems": 1,
                            "maxItems": 1,
                        },
                    },
                    "required": ["inputs"],
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


_MEANINGS = {
    400: "The request cannot be read: bad JSON, a bad form, bad HTTP, an empty body.",
    401: "This server asks for a bearer token, and the request has none or another.",
    403: "The server fetches nothing from this host.",
    404: "No model here has this name.",
    405: "This method is not for this path; the header Allow names those that are.",
    408: "The client took too long to send the request.",
    413: "The body, the image or the number of images is beyond the limit.",
    415: "This is no image, or of a kind that is not read.",
    422: "A parameter, a field or the image itself is not right.",
    431: "The headers are too large.",
    500: "A defect of the server.",
    501: "What this needs is not installed on the server.",
    503: "Too much to do, or not ready; the header Retry-After says when to try again.",
}

_IMAGE = {"type": "string", "format": "binary"}
_BASE64 = {"type": "string", "format": "image-base64", "description": "An image file, base64."}


def errors(*statuses: int, protocol: bool = False) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with; `protocol`: as the Open Inference Protocol's."""
    model = ProtocolError if protocol else ErrorBody
    return {status: {"model": model, "description": _MEANINGS[status]} for status in statuses}


def image_body(*, many: bool) -> dict[str, Any]:
    """The body of a route that takes an image in whatever way clients have it."""
    content: dict[str, Any] = {
        "application/octet-stream": {"schema": _IMAGE},
        "image/*": {"schema": _IMAGE},
    }
    if many:
        content["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "properties": {"file": {"type": "array", "items": _IMAGE, "minItems": 1}},
                "required": ["file"],
            }
        }
        content["application/json"] = {"schema": _json_images()}
    return {"requestBody": {"required": True, "content": content}}


def json_body(schema: dict[str, Any], *, also_raw: bool = False) -> dict[str, Any]:
    """A body of JSON, or of the image alone."""
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if also_raw:
        content["image/*"] = {"schema": _IMAGE}
        content["application/octet-stream"] = {"schema": _IMAGE}
    return {"requestBody": {"required": True, "content": content}}


def _json_images() -> dict[str, Any]:
    one = {
        "type": "object",
        "properties": {"image": _BASE64},
        "required": ["image"],
        "additionalProperties": False,
    }
    several = {
        "type": "object",
        "properties": {"images": {"type": "array", "items": _BASE64, "minItems": 1}},
        "required": ["images"],
        "additionalProperties": False,
    }
    return {"oneOf": [one, several]}


HUGGINGFACE_BODY = {
    "type": "object",
    "properties": {
        "inputs": _BASE64,
        "parameters": {
            "type": "object",
            "properties": {
                "top_k": {"type": "integer", "minimum": 1},
                "function_to_apply": {"enum": ["softmax", "sigmoid", "none"]},
            },
            "additionalProperties": False,
        },
    },
    "required": ["inputs"],
}
