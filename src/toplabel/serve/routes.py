"""toplabel's own routes: /v1/classify, /v1/explain, /v1/models, health and metrics."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from toplabel._internal.text import ascii_json
from toplabel.analysis.explain.rendering import explain_upload
from toplabel.errors import ImageError, UsageError
from toplabel.serve.api_error import ApiError, message_of
from toplabel.serve.metrics import CONTENT_TYPE
from toplabel.serve.openapi import (
    IMAGE_BODY,
    IMAGES_BODY,
    ClassifyBody,
    ClassifyQuery,
    ExplainQuery,
    ExplanationBody,
    LabelsBody,
    ModelsBody,
    StateBody,
    documented,
    errors,
    read_query,
)
from toplabel.serve.service import Service, as_json, failures, note
from toplabel.serve.work import RequestOptions, refuse_failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toplabel.serve.models import Answer, ServedModel, ServedReduced
    from toplabel.serve.request_body import Upload


def api_routes(service: Service) -> APIRouter:
    """Those of /v1."""
    router = APIRouter(tags=["toplabel"])

    @router.post(
        "/v1/classify",
        summary="Label images",
        response_model=ClassifyBody,
        responses=errors(400, 401, 403, 404, 408, 413, 415, 422, 431, 500, 503),
        openapi_extra=documented("/v1/classify", IMAGES_BODY),
    )
    async def classify(request: Request) -> Response:
        """A record for each image.

        The body is an image's bytes, a form with one file or several, or JSON with base64. Where
        the one image cannot be labelled the answer is an error; of several, its record says so.
        """
        started = time.perf_counter()
        query = read_query(request, ClassifyQuery)
        model = service.models.find(query.model)
        wanted = RequestOptions(
            top_k=query.topk or query.top_k, threshold=query.threshold, exact=query.exact
        )
        async with service.uploads(request) as uploads:
            contents = [upload.content for upload in uploads]
            answers, queue = await service.labeller.label(request, model, contents, wanted)
        note(request, model=model.name, images=len(uploads), **failures(answers))
        if len(uploads) == 1:
            refuse_failed(answers[0], request)
        return as_json(
            {
                "model": {"name": model.name, "sha256": model.sha256},
                "predictions": _records(uploads, answers),
                "timings_ms": {
                    "queue": _ms(queue),
                    "read": _ms(sum(answer.read_seconds for answer in answers)),
                    "model": _ms(sum(answer.model_seconds for answer in answers)),
                    "total": _ms(time.perf_counter() - started),
                },
            }
        )

    @router.get(
        "/v1/models", summary="The served models", response_model=ModelsBody, responses=errors(401)
    )
    async def models() -> Response:
        """All served models; the first answers where none is named."""
        default, root = service.models.default, service.options.root_path
        every = [_described(m, m is default, root) for m in service.models.all]
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

    @router.post(
        "/v1/explain",
        summary="Explain a label",
        response_model=ExplanationBody,
        responses={
            200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
            **errors(400, 401, 403, 404, 408, 413, 415, 422, 431, 500, 503),
        },
        openapi_extra=documented("/v1/explain", IMAGE_BODY),
    )
    async def explain(request: Request) -> Response:
        """The image under a heat map of the evidence for a label, or the map in numbers.

        From gradients where the server has PyTorch, captum and the network (`toplabel[explain]`),
        else by occlusion: a hundred forward passes instead of one.
        """
        query = read_query(request, ExplainQuery)
        model = service.models.find(query.model)
        async with service.uploads(request) as uploads:
            if len(uploads) != 1:
                raise ApiError(
                    422, "too_many_images", f"got {len(uploads)} images; expected one to explain"
                )
            source, _ = service.labeller.source(request, uploads[0].content)
            work = partial(
                explain_upload,
                model.predictor.classifier,
                model.engine,
                source,
                label=query.label,
                format=query.format,
                read=model.read,
            )
            note(request, model=model.name, images=1)
            try:
                _, (rendered,) = await service.labeller.run(request, [(work, "heavy")])
            except ImageError as error:
                raise ApiError.of_image(error) from error
            except UsageError as error:
                raise ApiError(422, "invalid_parameter", str(error)) from error
        return Response(
            rendered.content,
            media_type=_MEDIA_TYPES[query.format],
            headers={"X-Explanation": ascii_json(rendered.facts)},  # beside the image, too
        )

    return router


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)


def _records(uploads: Sequence[Upload], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    records = []
    for upload, answer in zip(uploads, answers, strict=True):
        prediction = answer.prediction
        if (error := prediction.error) is not None:
            prediction = replace(prediction, error=replace(error, message=message_of(error)))
        records.append({**prediction.to_dict(), "source": upload.name})
    return records


def _described(model: ServedModel, default: bool, root: str) -> dict[str, Any]:
    return {
        "name": model.name,
        "sha256": model.sha256,
        "classes": len(model.predictor.labels),
        "input_size": list(model.predictor.preprocess.input_size),
        "default": default,
        "warnings": [*model.predictor.warnings, *_of_last_hour(model)],
        "engine": f"{model.engine.name} on {model.engine.device}",
        **({} if model.reduced is None else {"reduced": _reduced_facts(model.reduced)}),
        "labels_url": f"{root}/v1/models/{quote(model.name, safe='/')}/labels",
    }


def _reduced_facts(reduced: ServedReduced) -> dict[str, Any]:
    program, use = reduced.way.use.program, reduced.way.use
    return {
        "precision": program.precision,
        "margin": use.logits,
        "bound": program.margin.bound,
        **asdict(reduced.counts),
    }


def _of_last_hour(model: ServedModel) -> list[str]:
    """That many of its images are unknown, where that is so."""
    drift = None if model.last_hour is None else model.last_hour.drift
    return [f"in the last hour {drift}"] if drift is not None and drift.is_significant else []


_MEDIA_TYPES = {"png": "image/png", "json": "application/json"}


def health_routes(service: Service) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["operation"])

    @router.get("/health/live", summary="Is it there", response_model=StateBody)
    async def live() -> Response:
        """200 as long as the process answers."""
        return as_json({"status": "live"})

    @router.get(
        "/health/ready",
        summary="Should requests come here",
        response_model=StateBody,
        responses=errors(503),
    )
    async def ready() -> Response:
        """200 from the models' first forward on, until the server is told to stop; else 503."""
        service.check_ready()
        return as_json({"status": "ready"})

    @router.get(
        "/metrics",
        summary="Metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **errors(401)},
    )
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.render(), media_type=CONTENT_TYPE)

    return router
