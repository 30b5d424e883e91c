"""`/v1/explain`: what in a picture spoke for a label."""

from __future__ import annotations

from importlib.util import find_spec

from fastapi import APIRouter, Request, Response

from toplabel.serve.described import errors, picture_body
from toplabel.serve.refusals import Refusal
from toplabel.serve.schemas import Explain, ExplanationBody
from toplabel.serve.service import Service

MISSING = "this server cannot explain; install it with pip install 'toplabel[explain]'"


def can_explain() -> bool:
    """Whether this installation can."""
    return find_spec("toplabel.explaining") is not None


def explain_routes(service: Service) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["toplabel"])

    @router.post(
        "/v1/explain",
        summary="Explain a label",
        response_model=ExplanationBody,
        responses={
            200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
            **errors(400, 401, 404, 408, 413, 415, 422, 431, 500, 501, 503),
        },
        openapi_extra=picture_body(many=False),
    )
    async def explain(request: Request, query: Explain) -> Response:
        """The picture with a heat map of what spoke for a label, or the map in numbers."""
        service.models.find(query.model)
        raise Refusal(501, "not_installed", MISSING)

    return router
