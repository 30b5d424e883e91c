"""Fetch: the http or https URL of an image in, its bytes out, or an `ImageError`."""

from __future__ import annotations

from toplabel.errors import ErrorCode, ImageError
from toplabel.image.files import check_bytes


def fetch(url: str, *, timeout_seconds: float, max_bytes: int) -> bytes:
    """The body that a URL answers with; redirects are followed.

    Args:
        url: http or https.
        timeout_seconds: From now to the last byte, redirects and all.
        max_bytes: Largest body.

    Raises:
        ImageError: `timeout`, `too_large`, or `fetch_failed` with the status or the reason.
    """
    # It costs 60 ms to import, and only URLs need it.
    from toplabel._internal.http import FetchOptions, HttpError, get

    options = FetchOptions(
        timeout_seconds=timeout_seconds,
        stall_seconds=timeout_seconds,
        max_bytes=max_bytes,
        accept="image/*",
    )
    try:
        return get(url, options)
    except HttpError as error:
        if error.problem == "too_large":
            check_bytes(max_bytes + 1, max_bytes=max_bytes)
        raise _image_error(error.problem, str(error), timeout_seconds) from error


def _image_error(problem: str, reason: str, timeout_seconds: float) -> ImageError:
    code: ErrorCode = "timeout" if problem == "timeout" else "fetch_failed"
    if problem == "timeout":
        reason = f"the URL took longer than {timeout_seconds:g} seconds (timeout_seconds)"
    elif problem == "failed":
        reason = f"the URL cannot be fetched: {reason}"
    return ImageError(code, reason)
