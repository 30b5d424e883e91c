"""Multipart: a form's body in, the files in it out; in memory, never on the disk."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from toplabel.serve.api_error import Refusal
from toplabel.serve.uploads import Upload

MAX_FIELDS = 64
"""Parts that are no files; browsers and libraries send a few."""

MAX_PART_HEADER_BYTES = 4096


@dataclass(slots=True)
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str | None = None  # the file's; None: no file
    content: bytearray = field(default_factory=bytearray)


def parse_multipart(body: bytes, content_type: str, *, max_files: int) -> list[Upload]:
    """The files of a multipart form, in order. Other parts are left out.

    Args:
        body: Of the request.
        content_type: The request's header, which holds the boundary.
        max_files: Of one request.

    Raises:
        Refusal: 400 for what is no such form; 413 for too many parts.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise Refusal(400, "bad_multipart", "the form's Content-Type names no boundary")
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
        raise Refusal(400, "bad_multipart", "the body is no multipart form") from error
    if not form.ended:
        raise Refusal(400, "bad_multipart", "the form ends before its closing boundary")
    return [Upload(part.name, bytes(part.content)) for part in form.files if part.name is not None]


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
                raise Refusal(413, "too_many_parts", f"the form has more than {MAX_FIELDS} fields")
            return
        self._part.name = name.decode("utf-8", "replace")
        self.files.append(self._part)
        if len(self.files) > self._max_files:
            raise Refusal(413, "too_many_images", f"the form has more than {self._max_files} files")

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._part.name is not None:
            self._part.content += data[start:end]

    def end(self) -> None:
        self.ended = True

    def _counted(self, piece: bytes) -> bytes:
        self._header_bytes += len(piece)
        if self._header_bytes > MAX_PART_HEADER_BYTES:
            raise Refusal(400, "bad_multipart", "a part of the form has too large headers")
        return piece
