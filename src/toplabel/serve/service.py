"""Service: what the routes of one server share."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Response

from toplabel.serve.api_error import ApiError
from toplabel.serve.request_body import Upload, parse, parse_multipart, shown_name, uploads_of_json

if TYPE_CHECKING:
    from starlette.requests import Request

    from toplabel.serve.metrics import Metrics
    from toplabel.serve.models import Answer, ServedModels
    from toplabel.serve.options import ServeOptions
    from toplabel.serve.remote import Remote
    from toplabel.serve.request_body import BodyReader
    from toplabel.serve.work import Labeller


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the routes of one server share; `state` is that of the middleware."""

    models: ServedModels
    bodies: BodyReader
    labeller: Labeller
    options: ServeOptions
    metrics: Metrics
    remote: Remote | None
    state: Callable[[], str]

    def check_ready(self) -> None:
        """Refuse where requests should go elsewhere.

        Raises:
            ApiError: 503.
        """
        if self.state() != "ready":
            raise ApiError(503, "not_ready", f"the server is {self.state()}")

    @asynccontextmanager
    async def uploads(self, request: Request) -> AsyncIterator[list[Upload]]:
        """The images that a request brings, in whatever form.

        Raises:
            ApiError: They cannot be had.
        """
        async with self.bodies.read(request) as body:
            kind = request.headers.get("content-type", "")
            yield await self._images(body, kind)

    async def _images(self, body: bytes, kind: str) -> list[Upload]:
        media, most = media_type(kind), self.options.max_images
        given: Sequence[Upload | str]
        if not body:
            raise ApiError(400, "empty", EMPTY)
        if media == "application/json":
            given = await parse(body, lambda: uploads_of_json(body, max_images=most))
        elif media == "multipart/form-data":
            given = await parse(body, lambda: parse_multipart(body, kind, max_files=most))
        else:  # curl --data-binary calls it a form, and many clients send no type
            given = [Upload("", body)]
        if not given:
            raise ApiError(422, "no_image", "the form has no file; send images as files")
        return [await self._upload(one, place) for place, one in enumerate(given)]

    async def _upload(self, given: Upload | str, place: int) -> Upload:
        if isinstance(given, Upload):
            return Upload(shown_name(given.name, place), given.content)
        if self.remote is None:
            text = "this server does not fetch URLs; send the image itself"
            raise ApiError(403, "url_not_allowed", text)
        content = await self.remote.fetch(given)
        return Upload(shown_name(given, place), content)


EMPTY = "the request has no body; send the bytes of an image file"


def media_type(content_type: str) -> str:
    """The media type of a Content-Type, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def as_json(value: Any, headers: dict[str, str] | None = None) -> Response:
    """A JSON response; FastAPI's own way through its models would cost a millisecond."""
    return Response(json.dumps(value), media_type="application/json", headers=headers)


def warning_headers(texts: Sequence[str]) -> dict[str, str]:
    """What was assumed or noticed, as JSON in a header, for answers that have no place for it."""
    return {"X-Warnings": json.dumps([*dict.fromkeys(texts)])} if texts else {}


def note(request: Request, **facts: Any) -> None:
    """Put facts into the request's line of the access log."""
    request.scope["state"].setdefault("facts", {}).update(facts)


def failures(answers: Sequence[Answer]) -> dict[str, Any]:
    """What the access log has of answers: how many failed, and why; no content."""
    failed = [a.prediction.error for a in answers if a.prediction.error is not None]
    return {"failed": len(failed), "errors": sorted({e.code for e in failed})} if failed else {}
