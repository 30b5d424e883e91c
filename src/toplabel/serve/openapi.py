"""OpenAPI: the shapes of what goes in and out, and what FastAPI cannot see in the code.

Answers themselves are made of plain dicts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toplabel.errors import ErrorCode

if TYPE_CHECKING:
    from fastapi import Request

Parameters = TypeVar("Parameters", bound=BaseModel)

ModelName = Annotated[
    str | None,
    Field(description="Which of the served models; by default the first.", max_length=300),
]


class ClassifyQuery(BaseModel):
    """What a request asks for."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: ModelName = None
    top_k: Annotated[int, Field(ge=1, le=100_000, description="How many classes to return.")] = 5
    topk: Annotated[
        int | None, Field(ge=1, le=100_000, deprecated=True, description="The same as `top_k`.")
    ] = None
    threshold: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            allow_inf_nan=False,
            description="Mark a label with a lower score as `unsure`.",
        ),
    ] = None
    exact: Annotated[
        bool,
        Field(description="Compute exactly: in full precision, of the image decoded in full."),
    ] = False


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


QUERIES: dict[str, type[BaseModel]] = {
    "/v1/classify": ClassifyQuery,
    "/v1/explain": ExplainQuery,
}
"""The parameters of each route that has some."""


def read_query(request: Request, wanted: type[Parameters]) -> Parameters:
    """A request's parameters; of one that is given twice, the last.

    Raises:
        RequestValidationError: One is unknown, or not what it must be.
    """
    try:
        return wanted.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


def documented(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The description of a route's parameters, which `read_query` reads, and of its body."""
    parameters = [
        {
            "name": name,
            "in": "query",
            "required": False,
            **{key: schema[key] for key in ("description", "deprecated") if key in schema},
            "schema": schema,
        }
        for name, schema in QUERIES[path].model_json_schema()["properties"].items()
    ]
    return {"parameters": parameters, **body}


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
    unknown: bool | None = Field(
        default=None,
        description="Unlike all that the model was trained on; of models that can tell.",
    )
    precision: Literal["int8", "bfloat16"] | None = Field(
        default=None,
        description="Of an answer in reduced precision; absent where it is exact.",
    )


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


class ReducedBody(BaseModel):
    """How a model answers in reduced precision, and what came of it since the start."""

    precision: Literal["int8", "bfloat16"]
    margin: float
    bound: float
    images: int
    reduced: int
    audited: int
    changed: int
    unaudited: int


class ServedModelBody(BaseModel):
    """One of the served models."""

    name: str
    sha256: str
    classes: int
    input_size: list[int]
    default: bool
    warnings: list[str]
    engine: str
    reduced: ReducedBody | None = Field(
        default=None, description="Of a model that also answers in reduced precision."
    )
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
    warnings: list[str]
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


_MEANINGS = {
    400: "The request is malformed: invalid JSON, form or HTTP, or an empty body.",
    401: "This server requires a bearer token, and the request has none or a wrong one.",
    403: "The server does not fetch from this host.",
    404: "Unknown model.",
    405: "This path does not support this method; the header Allow lists those it does.",
    408: "The client took too long to send the request.",
    413: "The body, the image or the number of images exceeds the limit.",
    415: "This is not an image, or its format is not supported.",
    422: "A parameter or a field is invalid, or the image is damaged.",
    431: "The headers are too large.",
    500: "A bug in the server.",
    501: "What this needs is not installed on the server.",
    503: "Overloaded or not ready; the header Retry-After gives the seconds to wait.",
}

_IMAGE = {"type": "string", "format": "binary"}
_BASE64 = {"type": "string", "format": "image-base64", "description": "An image file, base64."}


def errors(*statuses: int, protocol: bool = False) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with; `protocol`: as the Open Inference Protocol's."""
    model = ProtocolError if protocol else ErrorBody
    return {status: {"model": model, "description": _MEANINGS[status]} for status in statuses}


def _object(*required: str, extra: bool = False, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "additionalProperties": extra}
    return {**schema, "required": list(required)} if required else schema


def _array(items: Any, *, most: int | None = None) -> dict[str, Any]:
    bounds = {"minItems": 1} if most is None else {"minItems": 1, "maxItems": most}
    return {"type": "array", "items": items, **bounds}


def _body(**content: Any) -> dict[str, Any]:
    schemas = {kind: {"schema": schema} for kind, schema in content.items()}
    return {"requestBody": {"required": True, "content": schemas}}


_BYTES = {"application/octet-stream": _IMAGE, "image/*": _IMAGE}

IMAGE_BODY = _body(**_BYTES)
"""The body of a route that takes one image's bytes."""

IMAGES_BODY = _body(
    **_BYTES,
    **{
        "multipart/form-data": _object("file", extra=True, file=_array(_IMAGE)),
        "application/json": {
            "oneOf": [_object("image", image=_BASE64), _object("images", images=_array(_BASE64))]
        },
    },
)
"""The body of a route that takes images in whatever way clients have them."""

HUGGINGFACE_BODY = _body(
    **_BYTES,
    **{
        "application/json": _object(
            "inputs",
            extra=True,
            inputs=_BASE64,
            parameters=_object(
                top_k={"type": "integer", "minimum": 1},
                function_to_apply={"enum": ["softmax", "sigmoid", "none"]},
            ),
        )
    },
)

INFER_BODY = _body(
    **{
        "application/json": _object(
            "inputs",
            extra=True,
            id={"type": "string"},
            inputs=_array(
                _object(
                    *("name", "datatype", "shape", "data"),
                    name={"enum": ["image"]},
                    datatype={"enum": ["BYTES"]},
                    shape=_array({"enum": [1]}, most=1),
                    data=_array({"type": "string", "format": "image-base64"}, most=1),
                ),
                most=1,
            ),
        ),
        "application/octet-stream": _IMAGE,
    }
)
