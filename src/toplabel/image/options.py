"""Options of reading images."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How sources are read.

    Args:
        max_pixels: Largest picture, as stored, in pixels; checked before anything is decoded.
        max_bytes: Largest file, URL or standard input, in bytes.
        timeout_seconds: For URLs, from the first packet to the last.
        allow_truncated: Read what there is of a file that ends early, and warn, instead of
            failing. JPEG, PNG, GIF, BMP, PPM and most TIFF; the others cannot be read in part.
        srgb: Convert pictures with an embedded colour profile to sRGB. Training pipelines leave
            profiles alone, and so does the default.
        bgr: Arrays and tensors have their channels in the order blue, green, red.
        channels: Arrays and tensors of so many channels are no photos and pass through as they
            are; a predictor says so for a model whose recipe has a number of channels.
    """

    max_pixels: int = 120_000_000
    max_bytes: int = 512 * 2**20
    timeout_seconds: float = 30.0
    allow_truncated: bool = False
    srgb: bool = False
    bgr: bool = False
    channels: int | None = None
