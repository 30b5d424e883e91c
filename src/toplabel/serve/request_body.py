"""Request bodies: a request in, its images' bytes out. None of its fields is ever a path.

A body is read within the limits of one request and of all together. It is an image, a multipart
form or JSON with base64; nothing of it is written to the disk.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar, cast

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import (
    Field,
    File,
    FormParser,
    MultipartParser,
    parse_options_header,
)

from toplabel._internal.text import number_of, printable
from toplabel.errors import ImageError
from toplabel.image.files import is_data_uri, read_data_uri
from toplabel.serve.api_error import ApiError, busy, too_large

if TYPE_CHECKING:
    from starlette.requests import Request

    from toplabel.serve.options import ServeOptions

Parsed = TypeVar("Parsed")

MAX_FIELDS = 64
"""Parts of a form that are not files; browsers and libraries send a few."""

_FIELDS_OF_BROWSERS = ("_charset_",)

_PARSED_AT_ONCE = 1 << 18
"""Bodies up to this size are parsed on the event loop: the way to a thread costs more."""

_MAX_NAME = 255
_MOST_DIGITS = 32
_SLICE = 1 << 22  # of base64: four characters are three bytes


@dataclass(frozen=True, slots=True)
class Upload:
    """One image of a request.

    Args:
        name: What its record calls it: the file's name in a form, only to be shown.
        content: The bytes of an image file.
    """

    name: str
    content: bytes


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
    """What `parser` makes of a body; of a large one in a thread, so that others do not wait.

    One at a time: parsers take several times a body's memory.
    """
    if len(body) <= _PARSED_AT_ONCE:
        return parser()
    return await asyncio.get_running_loop().run_in_executor(_PARSING, parser)


_PARSING = ThreadPoolExecutor(1, thread_name_prefix="toplabel-parse")


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """How many values a request's JSON may have.

    Python's parser holds all other threads while it works: ten million empty lists in 30 MB took
    it eight seconds and 800 MB. Counting their marks first takes milliseconds. Those in text count
    too; base64 has none.

    Args:
        names: Colons and opening braces: fields and objects.
        values: Commas.
        lists: Opening brackets.
    """

    names: int
    values: int
    lists: int

    def check(self, body: bytes) -> None:
        """Refuse what has more.

        Raises:
            ApiError: 413.
        """
        most = ((b":{", self.names), (b",", self.values), (b"[", self.lists))
        if any(sum(map(body.count, _each(marks))) > limit for marks, limit in most):
            raise ApiError(
                413,
                "too_many_values",
                f"the JSON has more than {self.values:,} values, {self.lists:,} lists or"
                f" {self.names:,} fields; send images as base64 or binary",
            )


def _each(marks: bytes) -> list[bytes]:
    return [bytes([mark]) for mark in marks]


def json_of_images(max_images: int) -> JsonLimits:
    """The limits of JSON that holds images as base64, with a few words on them."""
    most = 64 + 8 * max_images
    return JsonLimits(names=most, values=most, lists=most)


def parse_json(body: bytes, limits: JsonLimits) -> dict[str, Any]:
    """A request's JSON object.

    Raises:
        ApiError: 400, it is none, or nested too deeply; 413, it has too many values.
    """
    limits.check(body)
    try:
        # With functions of Python's for numbers it gives other threads their turn meanwhile.
        value = json.loads(body, parse_int=_integer, parse_float=lambda text: float(text))
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "bad_json", "the body is not valid JSON") from error
    if not isinstance(value, dict):
        raise ApiError(400, "bad_json", f"the body is {_kind(value)}; expected a JSON object")
    return value


def _integer(text: str) -> float:
    """A number; of many digits, which take time in the square of these, a float."""
    return int(text) if len(text) <= _MOST_DIGITS else float(text)


def decode_base64(value: object, where: str) -> bytes:
    """The bytes that base64 text stands for, or a data URI.

    Raises:
        ApiError: 422, it is not base64.
    """
    if not isinstance(value, str):
        raise ApiError(422, "bad_base64", f"{where} is {_kind(value)}; expected base64 as text")
    try:
        if is_data_uri(value):
            return read_data_uri(value, max_bytes=len(value))
        return _decoded_in_slices(value)
    except (ImageError, binascii.Error, ValueError) as error:
        raise ApiError(
            422,
            "bad_base64",
            f"{where} is not valid base64; expected the bytes of an image file as base64",
        ) from error


def _decoded_in_slices(text: str) -> bytes:
    """The same as at once, but other threads have their turn in between."""
    parts = []
    for start in range(0, len(text), _SLICE):
        piece = text[start : start + _SLICE]
        if piece.endswith("=") and start + _SLICE < len(text):
            raise ValueError("padding before the end")
        parts.append(base64.b64decode(piece, validate=True))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def uploads_of_json(body: bytes, *, max_images: int) -> list[Upload | str]:
    """The images or URLs of {"image": ...}, {"images": [...]}, {"url": ...} or {"urls": [...]}.

    Raises:
        ApiError: 400, 413 or 422.
    """
    value = parse_json(body, json_of_images(max_images))
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
            raise ApiError(
                422, "no_image", f"{key} is {_kind(given)}; expected a list with at least one"
            )
        many = given
    else:
        many = [given]
    if len(many) > max_images:
        raise ApiError(
            413,
            "too_many_images",
            f"got {len(many)} images; expected at most {max_images} per request",
        )
    if key in ("url", "urls"):
        for one in many:
            if not isinstance(one, str):
                raise ApiError(422, "bad_url", f"a URL is {_kind(one)}; expected text")
        return many
    return [
        Upload(f"<image {place}>", decode_base64(one, f"image {place}"))
        for place, one in enumerate(many)
    ]


def shown_name(name: str, place: int) -> str:
    """What a record calls an image: its file's name, made printable, or its place."""
    return printable(name)[:_MAX_NAME] or f"<image {place}>"


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    if value == []:
        return "an empty list"
    return "null" if value is None else kinds.get(type(value), "a number")


def parse_multipart(body: bytes, content_type: str, *, max_files: int) -> list[Upload]:
    """The files of a multipart form, in order. Other fields are refused: nothing would read them.

    Starlette's own reader of forms is not used: it writes larger files to the disk, works on the
    event loop, and takes a form that ends early for a whole one.

    Args:
        body: Of the request.
        content_type: The request's header, which holds the boundary.
        max_files: Of one request.

    Raises:
        ApiError: 400 for what is not such a form; 413 for too many parts; 422 for other fields.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise ApiError(400, "bad_multipart", "the form's Content-Type has no boundary")
    files: list[Upload] = []
    fields, ended = 0, False

    def take_file(file: File) -> None:
        if len(files) == max_files:
            text = f"the form has more than {number_of(max_files, 'file')}"
            raise ApiError(413, "too_many_images", text)
        name = (file.file_name or b"").decode("utf-8", "replace")
        files.append(Upload(name, cast(BytesIO, file.file_object).getvalue()))

    def count_field(field: Field) -> None:
        nonlocal fields
        fields += 1
        if fields > MAX_FIELDS:
            raise ApiError(413, "too_many_parts", f"the form has more than {MAX_FIELDS} fields")
        name = printable((field.field_name or b"").decode("utf-8", "replace"))[:40]
        if name not in _FIELDS_OF_BROWSERS:
            raise ApiError(
                422,
                "unknown_field",
                f"the form has the field {name!r}; expected files only: parameters stand in the"
                f" URL, as ?{name or 'top_k'}=...",
            )

    def end() -> None:
        nonlocal ended
        ended = True

    in_memory = {"MAX_MEMORY_FILE_SIZE": len(body)}
    try:
        parser = FormParser(
            "multipart/form-data", count_field, take_file, end, boundary, config=in_memory
        )
        _name_files_plainly(parser)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise ApiError(400, "bad_multipart", "the body is not a valid multipart form") from error
    if not ended:
        raise ApiError(400, "bad_multipart", "the form ends before its closing boundary")
    return files


def _name_files_plainly(parser: FormParser) -> None:
    """Have the parser take parts for files that are named in the extended form only."""
    multipart = cast(MultipartParser, parser.parser)
    take_value = cast(Any, multipart.callbacks)["on_header_value"]

    def take_plain_value(data: bytes, start: int, end: int) -> None:
        value = _with_plain_name(data[start:end])
        take_value(value, 0, len(value))

    multipart.set_callback("header_value", take_plain_value)


def _with_plain_name(value: bytes) -> bytes:
    """A header's value; with `filename=` where it has `filename*=` alone, as old clients write."""
    if b"filename*" not in value.lower() or b"filename" in parse_options_header(value)[1]:
        return value
    message = Message()
    message["Content-Disposition"] = value.decode("latin-1")
    name = printable(message.get_filename() or "").replace("\\", "\\\\").replace('"', '\\"')
    return value + f'; filename="{name}"'.encode()
