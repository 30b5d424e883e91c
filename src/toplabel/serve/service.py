"""Service: what the routes of one server share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from toplabel.serve.api_error import Refusal
from toplabel.serve.multipart import parse_multipart
from toplabel.serve.uploads import Link, Upload, shown_name, uploads_of_json

if TYPE_CHECKING:
    from starlette.requests import Request

    from toplabel.serve.labelling import Labelling
    from toplabel.serve.lifecycle import Lifecycle
    from toplabel.serve.limits import Limits
    from toplabel.serve.metrics import Metrics
    from toplabel.serve.models import ServedModels
    from toplabel.serve.remote import Remote
    from toplabel.serve.request_body import Bodies

Parsed = TypeVar("Parsed")

_PARSED_AT_ONCE = 1 << 18
"""Bodies up to this size are parsed on the event loop: the way to a thread costs more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the routes of one server share."""

    models: ServedModels
    bodies: Bodies
    labelling: Labelling
    limits: Limits
    lifecycle: Lifecycle
    metrics: Metrics
    remote: Remote | None

    @asynccontextmanager
    async def uploads(self, request: Request) -> AsyncIterator[list[Upload]]:
        """The pictures that a request brings, in whatever form.

        Raises:
            Refusal: They cannot be had.
        """
        async with self.bodies.read(request) as body:
            kind = request.headers.get("content-type", "")
            yield await self._pictures(body, kind)

    async def _pictures(self, body: bytes, kind: str) -> list[Upload]:
        media = kind.partition(";")[0].strip().lower()
        given: Sequence[Upload | Link]
        if not body:
            raise Refusal(400, "empty", "the request has no body; send a picture's bytes")
        if media == "application/json":
            given = await parse(body, lambda: uploads_of_json(body, max_images=self.limits.images))
        elif media == "multipart/form-data":
            given = await parse(
                body, lambda: parse_multipart(body, kind, max_files=self.limits.images)
            )
        else:  # curl --data-binary says it is a form, and many clients say nothing
            given = [Upload("", body)]
        if not given:
            raise Refusal(422, "no_image", "the form has no file; send pictures as files")
        return [await self._upload(one, place) for place, one in enumerate(given)]

    async def _upload(self, given: Upload | Link, place: int) -> Upload:
        if isinstance(given, Upload):
            return Upload(shown_name(given.name, place), given.content)
        if self.remote is None:
            raise Refusal(
                403, "url_not_allowed", "this server fetches no URLs; send the picture itself"
            )
        content = await self.remote.fetch(given.url)
        return Upload(shown_name(given.url, place), content)


async def parse(body: bytes, parser: Callable[[], Parsed]) -> Parsed:
    """What `parser` makes of a body; of a large one in a thread, so that others do not wait."""
    if len(body) <= _PARSED_AT_ONCE:
        return parser()
    return await asyncio.get_running_loop().run_in_executor(None, parser)


def milliseconds(seconds: float) -> float:
    """For people and JSON."""
    return round(1000 * seconds, 3)


def note(request: Request, **facts: Any) -> None:
    """Put facts into the request's line of the journal."""
    request.scope["state"].setdefault("facts", {}).update(facts)
