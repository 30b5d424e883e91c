"""Schemas: the shapes of what goes in and out, for OpenAPI; answers are made of plain dicts."""

from __future__ import annotations

from typing import Annotated, Literal

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
        Literal["png", "json"], Field(description="The picture with the map over it, or numbers.")
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
    """Why a picture has no label."""

    code: ErrorCode
    message: str


class CandidateBody(BaseModel):
    """One class and its score from 0 to 1."""

    label: str
    index: int
    score: float


class RecordBody(BaseModel):
    """One picture's record."""

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
    """A record for each picture, in their order."""

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
    """Rows over the whole upright picture, from 0 to 1; at most 128 rows and columns."""


class StateBody(BaseModel):
    """Whether the server is there, or ready."""

    status: str


class ScoreBody(BaseModel):
    """A class and its score, as Hugging Face has it."""

    label: str
    score: float
