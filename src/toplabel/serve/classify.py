"""`/v1/classify` and `/v1/models`: toplabel's own way to ask."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from toplabel.serve.api_error import told
from toplabel.serve.labelling import Labelled, Wish, refuse_failed
from toplabel.serve.openapi import errors, picture_body
from toplabel.serve.schemas import Classify, ClassifyBody, LabelsBody, ModelsBody
from toplabel.serve.service import Service, milliseconds, note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toplabel.serve.models import Answer, ServedModel
    from toplabel.serve.uploads import Upload


def classify_routes(service: Service) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["toplabel"])

    @router.post(
        "/v1/classify",
        summary="Label pictures",
        response_model=ClassifyBody,
        responses=errors(400, 401, 403, 404, 408, 413, 415, 422, 431, 500, 503),
        openapi_extra=picture_body(many=True),
    )
    async def classify(request: Request, query: Classify) -> Response:
        """A record for each picture.

        The body is a picture's bytes, a form with one file or several, or JSON with base64. Where
        the one picture cannot be labelled the answer is an error; of several, its record says so.
        """
        started = time.perf_counter()
        model = service.models.find(query.model)
        wish = Wish(top_k=query.top_k, threshold=query.threshold)
        async with service.uploads(request) as uploads:
            contents = [upload.content for upload in uploads]
            labelled = await service.labelling.label(request, model, contents, wish)
        note(request, model=model.name, images=len(uploads), **facts(labelled.answers))
        if len(uploads) == 1:
            refuse_failed(labelled.answers[0])
        return as_json(
            {
                "model": {"name": model.name, "sha256": model.sha256},
                "predictions": _records(uploads, labelled),
                "timings_ms": {
                    "queue": milliseconds(labelled.queue_seconds),
                    "read": milliseconds(labelled.read_seconds),
                    "model": milliseconds(labelled.model_seconds),
                    "total": milliseconds(time.perf_counter() - started),
                },
            }
        )

    @router.get(
        "/v1/models", summary="The served models", response_model=ModelsBody, responses=errors(401)
    )
    async def models() -> Response:
        """All served models; the first answers where none is named."""
        default = service.models.default
        every = [_described(m, m is default) for m in service.models.all]
        return as_json({"models": every})

    @router.get(
        "/v1/models/{name:path}/labels",
        summary="A model's class names",
        response_model=LabelsBody,
        responses=errors(401, 404),
    )
    async def labels(name: str) -> Response:
        """The class names, in the order of their indices."""
        model = service.models.find(name)
        return as_json({"name": model.name, "labels": list(model.predictor.labels)})

    return router


def as_json(value: Any, *, status: int = 200) -> Response:
    """A JSON answer; FastAPI's own way through its models would cost a millisecond."""
    return Response(json.dumps(value), status_code=status, media_type="application/json")


def facts(answers: Sequence[Answer]) -> dict[str, Any]:
    """What the journal says of answers: how many failed, and why; no content."""
    failed = [a.prediction.error for a in answers if a.prediction.error is not None]
    return {"failed": len(failed), "errors": sorted({e.code for e in failed})} if failed else {}


def _records(uploads: Sequence[Upload], labelled: Labelled) -> list[dict[str, Any]]:
    records = []
    for upload, answer in zip(uploads, labelled.answers, strict=True):
        prediction = answer.prediction
        if (error := prediction.error) is not None:
            prediction = replace(prediction, error=replace(error, message=told(error)))
        records.append({**prediction.to_dict(), "source": upload.name})
    return records


def _described(model: ServedModel, default: bool) -> dict[str, Any]:
    return {
        "name": model.name,
        "sha256": model.sha256,
        "classes": len(model.predictor.labels),
        "input_size": list(model.predictor.preprocess.input_size),
        "default": default,
        "engine": f"{model.engine.name} on {model.engine.device}",
        "labels_url": f"/v1/models/{quote(model.name, safe='/')}/labels",
    }
