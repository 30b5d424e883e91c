"""Options of reading images."""

from __future__ import annotations

import math
from dataclasses import dataclass

from toplabel._internal.options import option, suggests_names, tells_options
from toplabel.errors import UsageError


@suggests_names
@tells_options
@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How images are read.

    Raises:
        UsageError: A limit is not a positive number.
    """

    max_pixels: int = option(
        120_000_000,
        minimum=1,
        metavar="N",
        help="Refuse images with more pixels, as stored; checked before anything is decoded.",
    )
    max_bytes: int = option(
        512 * 2**20, shell=False, help="Refuse larger files, URLs and standard input, in bytes."
    )
    timeout_seconds: float = option(
        30.0,
        flags=("--timeout",),
        metavar="SECONDS",
        help="Time limit for each URL, from connecting to the last byte.",
    )
    allow_truncated: bool = option(
        False,
        help="Label the readable part of a truncated file, with a warning, instead of failing."
        " JPEG, PNG, GIF, BMP, PPM and most TIFF; other formats cannot be read in part.",
    )
    srgb: bool = option(
        False,
        help="Convert images with an embedded color profile to sRGB. Training pipelines ignore"
        " profiles, and so does the default.",
    )
    bgr: bool = option(
        False,
        shell=False,
        help="Arrays and tensors have their channels in the order blue, green, red.",
    )
    channels: int | None = option(
        None,
        shell=False,
        help="Arrays and tensors with this many channels are not photos and pass through unchanged;"
        " a predictor sets it for a model whose preprocessing has a number of channels.",
    )

    def __post_init__(self) -> None:
        if not 0 < self.timeout_seconds < math.inf:
            raise UsageError(
                f"got timeout_seconds={self.timeout_seconds!r}; expected a number of seconds"
                " above 0"
            )
