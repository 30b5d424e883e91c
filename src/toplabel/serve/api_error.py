"""Errors of the API: why a request is refused, as a status and a JSON body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from toplabel._internal.text import ascii_json

if TYPE_CHECKING:
    from toplabel.errors import ErrorCode, ImageError
    from toplabel.inference.prediction import Failure

RETRY_SECONDS = 1
"""The `Retry-After` of a busy server."""

_STATUS: dict[ErrorCode, int] = {
    "not_an_image": 415,
    "unsupported_format": 415,
    "too_large": 413,
    "out_of_memory": 503,
    "internal": 500,
}
INTERNAL = "internal error; see the server's log"
_HIDDEN = "the model failed on this image; see the server's log"


class ApiError(Exception):
    """A request that is refused, or failed.

    Args:
        status: HTTP's.
        code: One word for programs: a code of `ERROR_CODES`, or one of the server's own.
        message: For people: what was got, what is accepted. Never a path, never a traceback.
        headers: More headers of the answer.
    """

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        if status == 503:
            self.headers.setdefault("Retry-After", str(RETRY_SECONDS))

    @property
    def body(self) -> bytes:
        """The answer's body: {"error": {"code", "message"}}."""
        return ascii_json({"error": {"code": self.code, "message": self.message}}).encode()

    @classmethod
    def of_image(cls, error: ImageError | Failure) -> ApiError:
        """What a request for one image gets where that image has no label."""
        return cls(_STATUS.get(error.code, 422), error.code, message_of(error))


def message_of(error: ImageError | Failure) -> str:
    """The message of an image's failure, for clients: those of libraries stay in the log."""
    return _HIDDEN if error.code == "internal" else error.message


def busy(what: str) -> ApiError:
    """The error of an overloaded server."""
    return ApiError(503, "busy", f"{what}; try again in a moment")


def too_large(max_bytes: int) -> ApiError:
    """The error of a body beyond the limit, the rest of which is not read."""
    return ApiError(
        413,
        "too_large",
        f"the body is larger than the limit of {max_bytes:,} bytes; send a smaller image",
    )


def headers_too_large() -> ApiError:
    """The error of a request's line and headers beyond the limit."""
    return ApiError(431, "headers_too_large", "the request's headers are too large")
