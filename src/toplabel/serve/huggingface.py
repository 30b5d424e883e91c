"""Hugging Face's dialect of image classification, as `huggingface_hub.InferenceClient` speaks it.

The image is the body, or base64 in {"inputs": ..., "parameters": {...}}; the answer is a list of
labels with scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import APIRouter, Request, Response

from toplabel.inference.scoring import probabilities
from toplabel.serve.api_error import ApiError
from toplabel.serve.openapi import HUGGINGFACE_BODY, ScoreBody, errors
from toplabel.serve.request_body import decode_base64, json_of_images, parse, parse_json
from toplabel.serve.service import (
    EMPTY,
    Service,
    as_json,
    failures,
    media_type,
    note,
    precision_header,
    unknown_header,
    warning_headers,
)
from toplabel.serve.work import RequestOptions, refuse_failed

if TYPE_CHECKING:
    from toplabel.bundle.model import Activation
    from toplabel.serve.models import Answer, ServedModel

DEFAULT_TOP_K = 5
_FUNCTIONS = ("softmax", "sigmoid", "none")
_DIGITS = 6


def huggingface_routes(service: Service) -> APIRouter:
    """The routes: `/` for the default model, `/models/NAME` for each."""
    router = APIRouter(tags=["Hugging Face"])
    documented: dict[str, Any] = {
        "response_model": list[ScoreBody],
        "responses": errors(400, 401, 404, 408, 413, 415, 422, 431, 500, 503),
        "openapi_extra": HUGGINGFACE_BODY,
    }

    @router.post("/", summary="Label an image with the default model", **documented)
    async def default(request: Request) -> Response:
        """For `InferenceClient(model="http://127.0.0.1:8000")`."""
        return await answer(request, service.models.default)

    @router.post("/models/{name:path}", summary="Label an image", **documented)
    async def named(request: Request, name: str) -> Response:
        """For `InferenceClient(model="http://127.0.0.1:8000/models/NAME")`."""
        return await answer(request, service.models.find(name))

    async def answer(request: Request, model: ServedModel) -> Response:
        _refuse_query(request)
        async with service.bodies.read(request) as body:
            content, parameters = await parse(body, lambda: _read(body, request))
            answers, _ = await service.labeller.label(
                request, model, [content], RequestOptions(top_k=1)
            )
        note(request, model=model.name, images=1, **failures(answers))
        refuse_failed(answers[0], request)
        scores, found = _scores(answers[0], model, parameters), answers[0].prediction
        headers = warning_headers(found.warnings) | unknown_header([found.unknown])
        return as_json(scores, headers=headers | precision_header(found.precision))

    return router


def _refuse_query(request: Request) -> None:
    for name in request.query_params:
        raise ApiError(
            422,
            "unknown_field",
            f"got {name[:40]!r} after the question mark; expected top_k or function_to_apply among"
            " the parameters of a JSON body, or an image for /v1/classify?top_k=...",
        )


def _read(body: bytes, request: Request) -> tuple[bytes, dict[str, Any]]:
    """The image's bytes and the parameters."""
    if not body:
        raise ApiError(400, "empty", EMPTY)
    if media_type(request.headers.get("content-type", "")) != "application/json":
        return body, {}
    value = parse_json(body, json_of_images(1))
    if "inputs" not in value:
        raise ApiError(422, "no_image", "the body has no field inputs; expected base64 in it")
    parameters = value.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise ApiError(422, "invalid_parameter", "parameters must be an object")
    if unknown := sorted(set(parameters) - {"top_k", "function_to_apply"}):
        raise ApiError(
            422,
            "unknown_field",
            f"got the parameter {unknown[0][:40]!r}; expected top_k or function_to_apply",
        )
    return decode_base64(value["inputs"], "inputs"), parameters


def _scores(answer: Answer, model: ServedModel, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The best classes by the function that was asked for; by default the model's own."""
    top_k = parameters.get("top_k")
    top_k = DEFAULT_TOP_K if top_k is None else top_k
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise ApiError(422, "invalid_parameter", "top_k must be an integer of at least 1")
    classifier = model.predictor.classifier
    function: Activation = parameters.get("function_to_apply") or classifier.activation
    if function not in _FUNCTIONS:
        raise ApiError(
            422,
            "invalid_parameter",
            f"function_to_apply must be one of {', '.join(_FUNCTIONS)}",
        )
    logits = answer.prediction.logits
    assert logits is not None
    own = function == classifier.activation
    scores = classifier.scores(logits) if own else probabilities(logits, function)
    order = np.argsort(-logits, kind="stable")[:top_k]
    return [
        {"label": classifier.labels[int(i)], "score": round(float(scores[i]), _DIGITS)}
        for i in order
    ]
