"""`/health/live`, `/health/ready` and `/metrics`: for those who watch over the server."""

from __future__ import annotations

from fastapi import APIRouter, Response

from toplabel.serve.api_error import Refusal
from toplabel.serve.classify import as_json
from toplabel.serve.metrics import CONTENT_TYPE
from toplabel.serve.openapi import errors
from toplabel.serve.schemas import StateBody
from toplabel.serve.service import Service


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
        check_ready(service)
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


def check_ready(service: Service) -> None:
    """Refuse where requests should go elsewhere.

    Raises:
        Refusal: 503.
    """
    if not service.lifecycle.is_ready:
        raise Refusal(503, "not_ready", f"the server is {service.lifecycle.state}")
