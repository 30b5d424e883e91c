"""Request bodies: a request in, its images' bytes out. None of its fields is ever a path.

A body is read within the limits of one request and of all together. It is an image, a multipart
form or JSON with base64; nothing of it is written to the disk.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from toplabel._internal.text import printable
from toplabel.serve.api_error import ApiError, busy, too_large

if TYPE_CHECKING:
    from starlette.requests import Request

    from toplabel.serve.options import ServeOptions

Parsed = TypeVar("Parsed")

MAX_FIELDS = 64
"""Parts of a form that are not files; browsers and libraries send a few."""

MAX_PART_HEADER_BYTES = 4096

_PARSED_AT_ONCE = 1 << 18
"""Bodies up to this size are parsed on the event loop: the way to a thread costs more."""

_MAX_NAME = 255
_DATA_URL = re.compile(r"data:[\w.+/-]*(;[\w=.+-]*)*;base64,", re.ASCII)


@dataclass(frozen=True, slots=True)
class Upload:
    """One image of a request.

    Args:
        name: What its record calls it: the file's name in a form, only to be shown.
        content: The bytes of an image file.
    """

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """One image that a request names by its URL."""

    url: str


class BodyReader:
    """Reads bodies, and counts the bytes of those that are held at a time.

    Belongs to one event loop.
    """

    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        self.held_bytes = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The request's body, which counts as held until the end of the `async with`.

        Raises:
            ApiError: 400, 413, 415, or 503 where all requests together hold too much.
        """
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise ApiError(
                415,
                "unsupported_encoding",
                "the body is compressed (Content-Encoding); send it uncompressed",
            )
        held = 0
        try:
            chunks: list[bytes] = []
            async for chunk in request.stream():
                held += len(chunk)
                self.held_bytes += len(chunk)
                self._check(held)
                chunks.append(chunk)
            body = b"".join(chunks)
            chunks.clear()
            yield body
        finally:
            self.held_bytes -= held

    def _check(self, held: int) -> None:
        if held > self._options.max_body:
            raise too_large(self._options.max_body)
        if self.held_bytes > self._options.max_held:
            raise busy("the server holds as many bytes of request bodies as it may")


async def parse(body: bytes, parser: Callable[[], Parsed]) -> Parsed:
    """What `parser` makes of a body; of a large one in a thread, so that others do not wait."""
    if len(body) <= _PARSED_AT_ONCE:
        return parser()
    return await asyncio.get_running_loop().run_in_executor(None, parser)


def parse_json(body: bytes) -> dict[str, Any]:
    """A request's JSON object.

    Raises:
        ApiError: 400, it is none, or nested too deeply.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "bad_json", "the body is no JSON that can be read") from error
    if not isinstance(value, dict):
        raise ApiError(400, "bad_json", f"the body is a JSON {_kind(value)}; expected an object")
    return value


def decode_base64(value: object, where: str) -> bytes:
    """The bytes that base64 text stands for; a data: URL of base64 is taken, too.

    Raises:
        ApiError: 422, it is no base64.
    """
    if not isinstance(value, str):
        raise ApiError(422, "bad_base64", f"{where} is {_kind(value)}; expected base64 as text")
    text = value
    if text.startswith("data:") and (prefix := _DATA_URL.match(text[:200])) is not None:
        text = text[prefix.end() :]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(
            422, "bad_base64", f"{where} is no base64; expected an image's bytes as base64"
        ) from error


def uploads_of_json(body: bytes, *, max_images: int) -> list[Upload | Link]:
    """The images of {"image": ...}, {"images": [...]}, {"url": ...} or {"urls": [...]}.

    Raises:
        ApiError: 400, 413 or 422.
    """
    value = parse_json(body)
    if unknown := sorted(set(value) - {"image", "images", "url", "urls"}):
        raise ApiError(
            422,
            "unknown_field",
            f"the body has the field {unknown[0][:40]!r}; expected image, images, url or urls",
        )
    if len(value) != 1:
        raise ApiError(
            422, "no_image", f"the body has {len(value)} fields; expected one: image or images"
        )
    ((key, given),) = value.items()
    if key in ("images", "urls"):
        if not isinstance(given, list) or not given:
            raise ApiError(422, "no_image", f"{key} is {_kind(given)}; expected a list of some")
        many = given
    else:
        many = [given]
    if len(many) > max_images:
        raise ApiError(
            413, "too_many_images", f"got {len(many)} images; accepted are {max_images} a request"
        )
    if key in ("url", "urls"):
        return [_link(one) for one in many]
    return [
        Upload(f"<image {place}>", decode_base64(one, f"image {place}"))
        for place, one in enumerate(many)
    ]


def shown_name(name: str, place: int) -> str:
    """What a record calls an image: its file's name, made printable, or its place."""
    return printable(name)[:_MAX_NAME] or f"<image {place}>"


def _link(value: object) -> Link:
    if not isinstance(value, str):
        raise ApiError(422, "bad_url", f"the URL is {_kind(value)}; expected text")
    return Link(value)


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    if value == []:
        return "an empty list"
    return "null" if value is None else kinds.get(type(value), "a number")


def parse_multipart(body: bytes, content_type: str, *, max_files: int) -> list[Upload]:
    """The files of a multipart form, in order. Other parts are left out.

    Args:
        body: Of the request.
        content_type: The request's header, which holds the boundary.
        max_files: Of one request.

    Raises:
        ApiError: 400 for what is no such form; 413 for too many parts.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise ApiError(400, "bad_multipart", "the form's Content-Type names no boundary")
    form = _Form(max_files)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.begin,
                "on_header_field": form.header_name,
                "on_header_value": form.header_value,
                "on_header_end": form.header_end,
                "on_headers_finished": form.headers_end,
                "on_part_data": form.data,
                "on_end": form.end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise ApiError(400, "bad_multipart", "the body is no multipart form") from error
    if not form.ended:
        raise ApiError(400, "bad_multipart", "the form ends before its closing boundary")
    return [Upload(part.name, bytes(part.content)) for part in form.files if part.name is not None]


@dataclass(slots=True)
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str | None = None  # the file's; None: no file
    content: bytearray = field(default_factory=bytearray)


class _Form:
    """What the parser's callbacks fill in."""

    def __init__(self, max_files: int) -> None:
        self._max_files = max_files
        self._fields = 0
        self._header_bytes = 0
        self._part = _Part()
        self._name = b""
        self._value = b""
        self.files: list[_Part] = []
        self.ended = False

    def begin(self) -> None:
        self._part = _Part()
        self._header_bytes = 0

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += self._counted(data[start:end])

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._counted(data[start:end])

    def header_end(self) -> None:
        self._part.headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def headers_end(self) -> None:
        disposition = self._part.headers.get(b"content-disposition", b"")
        _, options = parse_options_header(disposition)
        name = options.get(b"filename")
        if name is None:
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise ApiError(413, "too_many_parts", f"the form has more than {MAX_FIELDS} fields")
            return
        self._part.name = name.decode("utf-8", "replace")
        self.files.append(self._part)
        if len(self.files) > self._max_files:
            raise ApiError(
                413, "too_many_images", f"the form has more than {self._max_files} files"
            )

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._part.name is not None:
            self._part.content += data[start:end]

    def end(self) -> None:
        self.ended = True

    def _counted(self, piece: bytes) -> bytes:
        self._header_bytes += len(piece)
        if self._header_bytes > MAX_PART_HEADER_BYTES:
            raise ApiError(400, "bad_multipart", "a part of the form has too large headers")
        return piece
