"""The application: a service in, what answers on all of its routes out."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from difflib import get_close_matches
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
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

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

DESCRIPTION = "What is the predicted label of this image, according to a PyTorch classifier?"


class Application:
    """FastAPI's application, and a short way to the endpoints that are asked all the time.

    FastAPI's middlewares, dependencies and exit stacks are half of what the event loop does for a
    request. An endpoint that takes nothing but the request needs none of them.

    Args:
        app: Answers where there is no short way, and has the handlers of errors.
        routes: Those of `app`.
    """

    def __init__(self, app: FastAPI, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._direct = {
            (method, route.path): route
            for route in routes
            if isinstance(route, APIRoute) and _takes_the_request_alone(route)
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        route = self._direct.get((scope["method"], scope["path"]))
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            response = await route.endpoint(request)
        except Exception as error:
            response = await self._answer_error(request, error)
        await response(scope, receive, send)

    async def _answer_error(self, request: Request, error: Exception) -> Response:
        """What the error's handler answers; what nobody expected goes on, to be logged."""
        for kind in type(error).__mro__:
            if kind is not Exception and (handler := self._app.exception_handlers.get(kind)):
                answer = handler(request, error)
                return await answer if inspect.isawaitable(answer) else answer
        raise error


def _takes_the_request_alone(route: APIRoute) -> bool:
    return "{" not in route.path and [*inspect.signature(route.endpoint).parameters] == ["request"]


def create_app(service: Service) -> Application:
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
    routers = (
        api_routes(service),
        huggingface_routes(service),
        inference_protocol_routes(service),
        health_routes(service),
        page_routes(root_path),
        docs_routes(app, root_path),
    )
    for router in routers:
        app.include_router(router)
    _answer_errors(app)
    _describe_own_errors(app)
    return Application(app, [route for router in routers for route in router.routes])


def _describe_own_errors(app: FastAPI) -> None:
    """Leave FastAPI's own form of a 422 out of the description: no answer has it."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        description = described()
        for methods in description["paths"].values():
            for operation in methods.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            description["components"]["schemas"].pop(name, None)
        return description

    app.openapi = openapi  # type: ignore[method-assign]


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
