"""Limits: how large an image may be, and how many large ones are decoded at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from toplabel.errors import ImageError

MAX_SIDE = 65_535
"""Longest side in pixels; what JPEG and GIF can hold. Longer ones are bombs or slides."""

LARGE_PIXELS = 25_000_000
"""Images above this are decoded one at a time, so that threads do not multiply the peak."""

USUAL_BYTES = 7.5
"""Peak memory of decoding, in bytes for each pixel, that `max_pixels` counts on."""


def check_pixels(
    height: int, width: int, *, max_pixels: int, bytes_per_pixel: float = USUAL_BYTES
) -> None:
    """Refuse an image by the size in its header.

    Args:
        height: In pixels.
        width: In pixels.
        max_pixels: The limit for kinds of images that decode with usual memory.
        bytes_per_pixel: Peak memory of decoding this kind; those that need more have a limit
            that is lower in proportion.

    Raises:
        ImageError: `too_large`.
    """
    allowed = int(max_pixels * min(1.0, USUAL_BYTES / bytes_per_pixel))
    if height * width > allowed:
        raise ImageError(
            "too_large",
            f"the image has {width} x {height} = {height * width:,} pixels; the limit for this kind"
            f" is {allowed:,} (max_pixels {max_pixels:,}); make it smaller or raise the limit",
        )
    if max(height, width) > MAX_SIDE:
        raise ImageError(
            "too_large",
            f"the image is {width} x {height} pixels; the longest accepted side is {MAX_SIDE:,};"
            " cut it into parts",
        )


@contextmanager
def turn(pixels: int) -> Iterator[None]:
    """Wait for one's turn to decode `pixels` pixels; small images never wait."""
    if pixels <= LARGE_PIXELS:
        yield
        return
    with _LARGE:
        yield


_LARGE = threading.Lock()
if hasattr(os, "register_at_fork"):
    # A child must not wait for a thread that only its parent has.
    os.register_at_fork(after_in_child=_LARGE._at_fork_reinit)  # type: ignore[attr-defined]
