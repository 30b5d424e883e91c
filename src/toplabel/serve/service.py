"""Service: what the routes of one server share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Response

from toplabel._internal.text import ascii_json
from toplabel.serve.api_error import ApiError, busy
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
        self.labeller.check_ready()

    @asynccontextmanager
    async def uploads(self, request: Request) -> AsyncIterator[list[Upload]]:
        """The images that a request brings, in whatever form.

        Raises:
            ApiError: They cannot be had.
        """
        async with self.bodies.read(request) as body:
            kind = request.headers.get("content-type", "")
            given = await self._given(body, kind)
            whole = [one for one in given if isinstance(one, Upload)]
            if len(whole) < len(given):
                async with self._in_time(request):
                    whole = await _all(self._fetched(one) for one in given)
            yield [Upload(shown_name(one.name, n), one.content) for n, one in enumerate(whole)]

    @asynccontextmanager
    async def _in_time(self, request: Request) -> AsyncIterator[None]:
        """End what takes longer than the request may.

        Raises:
            ApiError: 503.
        """
        left = request.scope["state"]["deadline"] - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left)):
                yield
        except TimeoutError as error:
            seconds = self.options.request_timeout
            raise busy(f"the request was not answered within {seconds:g} seconds") from error

    async def _given(self, body: bytes, kind: str) -> Sequence[Upload | str]:
        """The images and URLs in a body."""
        media, most = media_type(kind), self.options.max_images
        if not body:
            raise ApiError(400, "empty", EMPTY)
        if media == "application/json":
            return await parse(body, lambda: uploads_of_json(body, max_images=most))
        if media != "multipart/form-data":
            return [Upload("", body)]  # curl --data-binary calls it another form; many say nothing
        files = await parse(body, lambda: parse_multipart(body, kind, max_files=most))
        if not files:
            raise ApiError(422, "no_image", "the form has no file; send images as files")
        return files

    async def _fetched(self, given: Upload | str) -> Upload:
        if isinstance(given, Upload):
            return given
        if self.remote is None:
            text = "this server does not fetch URLs; send the image itself"
            raise ApiError(403, "url_not_allowed", text)
        return Upload(given, await self.remote.fetch(given))


async def _all(works: Iterable[Awaitable[Upload]]) -> list[Upload]:
    """The results of all, which go on at once; the first that fails ends the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


EMPTY = "the request has no body; send the bytes of an image file"


def media_type(content_type: str) -> str:
    """The media type of a Content-Type, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def as_json(value: Any, headers: dict[str, str] | None = None) -> Response:
    """A JSON response; FastAPI's own way through its models would cost a millisecond."""
    return Response(ascii_json(value), media_type="application/json", headers=headers)


def warning_headers(texts: Sequence[str]) -> dict[str, str]:
    """What was assumed or noticed, as JSON in a header, for answers that have no place for it."""
    return {"X-Warnings": ascii_json([*dict.fromkeys(texts)])} if texts else {}


def unknown_header(flags: Sequence[bool | None]) -> dict[str, str]:
    """Which images are unknown, as JSON in a header, for answers that have no place for it."""
    return {} if None in flags else {"X-Unknown": ascii_json([*flags])}


def precision_header(precision: str | None) -> dict[str, str]:
    """That an answer is a reduced program's, for answers that have no place for it."""
    return {} if precision is None else {"X-Precision": precision}


def note(request: Request, **facts: Any) -> None:
    """Put facts into the request's line of the access log."""
    request.scope["state"].setdefault("facts", {}).update(facts)


def failures(answers: Sequence[Answer]) -> dict[str, Any]:
    """What the access log has of answers: how many failed, and why; no content."""
    failed = [a.prediction.error for a in answers if a.prediction.error is not None]
    return {"failed": len(failed), "errors": sorted({e.code for e in failed})} if failed else {}
