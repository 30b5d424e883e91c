"""The application: a service in, FastAPI's application with all routes out."""

from __future__ import annotations

from difflib import get_close_matches
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from toplabel._version import __version__
from toplabel.serve.api_docs import docs_routes
from toplabel.serve.api_error import INTERNAL, ApiError
from toplabel.serve.huggingface import huggingface_routes
from toplabel.serve.inference_protocol import (
    inference_protocol_routes,
    is_protocol_path,
    protocol_error,
)
from toplabel.serve.middleware import CLIENT_GONE
from toplabel.serve.openapi import QUERIES, ClassifyQuery
from toplabel.serve.page import page_routes
from toplabel.serve.routes import api_routes, health_routes
from toplabel.serve.service import Service
from toplabel.serve.work import ClientGone

DESCRIPTION = "What is the predicted label of this image, according to a PyTorch classifier?"


def create_app(service: Service) -> FastAPI:
    """The application that answers for `service`."""
    root_path = service.options.root_path
    app = FastAPI(
        title="toplabel",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # FastAPI's own pages fetch their scripts from a third party
        redoc_url=None,
        openapi_url="/openapi.json",
        servers=[{"url": root_path}] if root_path else None,
    )
    app.include_router(api_routes(service))
    app.include_router(huggingface_routes(service))
    app.include_router(inference_protocol_routes(service))
    app.include_router(health_routes(service))
    app.include_router(page_routes(root_path))
    app.include_router(docs_routes(app, root_path))
    _answer_errors(app)
    return app


def _answer_errors(app: FastAPI) -> None:
    """Every error gets the one form, whoever raises it."""

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        body = error.body
        if is_protocol_path(request.url.path):
            body = protocol_error(error)
        return Response(
            body, status_code=error.status, headers=error.headers, media_type="application/json"
        )

    @app.exception_handler(HTTPException)
    async def not_routed(request: Request, error: HTTPException) -> Response:
        phrase = HTTPStatus(error.status_code).phrase
        code = phrase.lower().replace(" ", "_")
        text = {404: "not found; /docs lists the API", 405: _allowed(error)}
        message = text.get(error.status_code, phrase)
        return await refused(
            request, ApiError(error.status_code, code, message, headers=error.headers)
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return await refused(
            request, ApiError(422, "invalid_parameter", _first_problem(request, error))
        )

    @app.exception_handler(ClientDisconnect)
    @app.exception_handler(ClientGone)
    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=CLIENT_GONE)  # nobody reads it

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return await refused(request, ApiError(500, "internal", INTERNAL))


def _allowed(error: HTTPException) -> str:
    allow = (error.headers or {}).get("Allow", "another method")
    return f"this path does not support this method; it supports {allow}"


def _first_problem(request: Request, error: RequestValidationError) -> str:
    """The first problem in words; what was sent stays out of it, but for a parameter's name."""
    first = error.errors()[0]
    *_, last = first["loc"]
    name = str(last)[:40]
    if first["type"] == "extra_forbidden":
        known = [*QUERIES.get(request.url.path, ClassifyQuery).model_fields]
        close = get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"accepted are {', '.join(known)}"
        return f"unknown parameter {name!r}; {hint}"
    wanted = first["msg"].partition(",")[0].removeprefix("Input should be ")
    number = "a number " if wanted.startswith(("greater", "less")) else ""
    return f"invalid parameter {name!r}; expected {number}{wanted}"
