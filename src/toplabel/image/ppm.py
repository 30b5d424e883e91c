"""PPM: portable bitmaps, greymaps and pixmaps (P4, P5, P6) in, RGB out, by NumPy.

Pillow reads those with an unusual maximum one sample at a time, in Python.
"""

from __future__ import annotations

import re

import numpy as np

from toplabel.errors import ImageError
from toplabel.image.failures import cut_short, from_decoder
from toplabel.image.limits import check_pixels
from toplabel.image.options import ReadOptions
from toplabel.image.picture import Picture, Pixels

_GAP = rb"(?:[\s]|#[^\r\n]*[\r\n])+"
_HEADER = re.compile(rb"P([456])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})")
_MAXIMUM = re.compile(_GAP + rb"(\d{1,5})")


def decode_ppm(data: bytes, *, options: ReadOptions) -> Picture:
    """The first picture of a binary PBM, PGM or PPM file; samples scaled by the stated maximum.

    Raises:
        ImageError: It is too large, truncated or corrupt.
    """
    try:
        return _decode(data, options=options)
    except Exception as error:
        raise from_decoder(error, format_name="PPM") from error


def _decode(data: bytes, *, options: ReadOptions) -> Picture:
    kind, width, height, maximum, start = _header(data)
    check_pixels(height, width, max_pixels=options.max_pixels)
    channels = 3 if kind == 6 else 1
    row = -(-width // 8) if kind == 4 else width * channels * (2 if maximum > 255 else 1)
    body, warnings = data[start : start + row * height], ()
    if len(body) < row * height:
        if not options.allow_truncated:
            raise cut_short("PPM")
        body += bytes(row * height - len(body))
        warnings = ("the PPM data ends early; the rest is missing",)  # type: ignore[assignment]
    pixels = np.empty((height, width, 3), np.uint8)
    if kind == 4:
        bits = np.unpackbits(np.frombuffer(body, np.uint8).reshape(height, row), axis=1)
        pixels[...] = (255 * (1 - bits[:, :width]))[:, :, None]
    else:
        pixels[...] = _samples(body, maximum).reshape(height, width, channels)
    return Picture(pixels, height, width, 1, warnings)


def _header(data: bytes) -> tuple[int, int, int, int, int]:
    """Kind 4 to 6, width, height, the sample value of white, and where the samples begin."""
    match = _HEADER.match(data)
    if match is None:
        raise cut_short("PPM") if len(data) < 64 else _damaged("its header has no size")
    kind, width, height = (int(group) for group in match.groups())
    end, maximum = match.end(), 1
    if kind != 4:
        stated = _MAXIMUM.match(data, end)
        if stated is None:
            raise cut_short("PPM") if len(data) < end + 8 else _damaged("it states no maximum")
        end, maximum = stated.end(), int(stated[1])
    if not width or not height or not 0 < maximum < 65_536:
        raise _damaged(f"its header states {width} x {height} and a maximum of {maximum}")
    return kind, width, height, maximum, end + 1


def _samples(body: bytes, maximum: int) -> Pixels:
    """Samples scaled to 0..255."""
    samples = np.frombuffer(body, ">u2" if maximum > 255 else np.uint8)
    if maximum == 255:
        return samples
    # A table has at most 65,536 entries; samples above the maximum are white.
    table = np.minimum(np.arange(int(samples.max(initial=0)) + 1, dtype=np.float64) / maximum, 1)
    return np.asarray(np.rint(table * 255).astype(np.uint8)[samples])


def _damaged(reason: str) -> ImageError:
    return ImageError("corrupt", f"the PPM data is damaged ({reason}); get the file again")
