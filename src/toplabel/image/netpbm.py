"""Netpbm: PBM, PGM and PPM as text or bytes, PAM and PFM in, RGB out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from toplabel.errors import ImageError
from toplabel.image.decoded_image import Pixels, check_pixels
from toplabel.image.failures import cut_short
from toplabel.image.options import ReadOptions
from toplabel.image.ranges import full_scale, invisible, unfilled

_HEADER_BYTES = 1 << 16
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_SIZE = rb"%b(\d{1,9})%b(\d{1,9})" % (_GAP, _GAP)
_BITS = re.compile(rb"P([14])%b(?=\s)" % _SIZE)
_LEVELS = re.compile(rb"P([2356])%b%b(\d{1,9})(?=\s)" % (_SIZE, _GAP))
_FLOATS = re.compile(rb"P([Ff])\s+(\d{1,9})\s+(\d{1,9})\s+([-+]?[0-9.eE+-]{1,40})(?=\s)")
_PAM = re.compile(rb"P7\s.*?^ENDHDR\n", re.S | re.M)
_PAM_KINDS = {  # names of the channels, which may be missing
    1: ("", "BLACKANDWHITE", "GRAYSCALE"),
    2: ("", "BLACKANDWHITE_ALPHA", "GRAYSCALE_ALPHA"),
    3: ("", "RGB"),
    4: ("", "RGB_ALPHA"),
}
_TEXT_BYTES = 12  # of a sample and what is between it and the next
_MOST_COMMENTS = 100_000
_COMMENT = re.compile(rb"#[^\r\n]*")


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the samples.

    `kind` is the second character of the file, `white` the largest sample (0 for floats), `start`
    where the samples begin, `little` the byte order of floats.
    """

    kind: str
    width: int
    height: int
    channels: int
    white: int
    start: int
    little: bool = False

    @property
    def is_text(self) -> bool:
        """Whether samples are written as decimal numbers."""
        return self.kind in "123"

    @property
    def bytes_of_sample(self) -> int:
        """Held at once, at most."""
        if self.is_text:
            return 2 * _TEXT_BYTES + 8
        return {255: 1, 0: 12}.get(self.white, 5)


def begins_netpbm(head: bytes) -> bool:
    """Whether a file that starts so is one of these; what is text has to have a whole header."""
    if re.match(rb"P[4567][\s#]", head):
        return True
    return any(pattern.match(head) for pattern in (_BITS, _LEVELS, _FLOATS))


def decode_netpbm(file: BinaryIO, options: ReadOptions) -> tuple[Pixels, tuple[str, ...]]:
    """RGB pixels (H, W, 3) and what is doubtful about them.

    Raises:
        ImageError: `too_large`, `truncated`, `unsupported_format`, `non_finite`.
        ValueError: The header or the samples are damaged.
    """
    file.seek(0)
    header = _read_header(file.read(_HEADER_BYTES))
    if header.height < 1 or header.width < 1:
        raise ValueError(f"its header gives a size of {header.width} x {header.height}")
    check_pixels(
        header.height,
        header.width,
        max_pixels=options.max_pixels,
        bytes_per_pixel=3 + header.channels * header.bytes_of_sample,
    )
    file.seek(header.start)
    samples, warnings = _read_samples(file, header, options.allow_truncated)
    if not header.white:
        white, doubts = full_scale(float(samples.min()), float(samples.max()), floats=True)
        levels = np.clip(samples[::-1] / np.float32(white), 0, 1) * 255
        return _rgb(np.rint(levels).astype(np.uint8), header), warnings + doubts
    if header.white > 255:
        warnings += unfilled(float(samples.max()), header.white)
    if header.white != 255:
        samples = np.minimum(samples, header.white)  # beyond it is white, too
        levels = np.rint(np.arange(header.white + 1) / header.white * 255)
        samples = levels.astype(np.uint8)[samples]
    if header.channels in (2, 4):
        warnings += invisible(float(samples[:, :, -1].max()))
    return _rgb(samples.astype(np.uint8, copy=False), header), warnings


def _read_header(head: bytes) -> Header:
    if head[:2] == b"P7":
        return _read_pam_header(head)
    if found := _BITS.match(head):
        return Header(found[1].decode(), int(found[2]), int(found[3]), 1, 1, found.end() + 1)
    if found := _LEVELS.match(head):
        kind, width, height, white = found[1].decode(), *map(int, found.groups()[1:])
        if not 1 <= white <= 65_535:
            raise ValueError(f"its largest sample is {white}")
        return Header(kind, width, height, 3 if kind in "36" else 1, white, found.end() + 1)
    if found := _FLOATS.match(head):
        channels = 3 if found[1] == b"F" else 1
        little = float(found[4]) < 0
        return Header("F", int(found[2]), int(found[3]), channels, 0, found.end() + 1, little)
    if len(head) < _HEADER_BYTES:
        raise cut_short("PPM")
    raise ValueError("its header has no size")


def _read_pam_header(head: bytes) -> Header:
    found = _PAM.match(head)
    if found is None:
        raise cut_short("PAM") if len(head) < _HEADER_BYTES else ValueError("a header without end")
    lines = (line.split(None, 1) for line in found[0].splitlines() if line[:1] != b"#")
    fields = {line[0]: line[1] for line in lines if len(line) == 2}
    names = (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
    width, height, depth, white = (int(fields.get(name, b"0")) for name in names)
    if not 1 <= white <= 65_535 or depth < 1:
        raise ValueError(f"its depth is {depth} and its largest sample {white}")
    kind = fields.get(b"TUPLTYPE", b"").strip().decode("latin-1")
    if depth > 4 or kind not in _PAM_KINDS[depth]:
        raise ImageError(
            "unsupported_format",
            f"it is a PAM of {depth} channels{f' called {kind[:40]!r}' if kind else ''};"
            " convert it to PNG or JPEG",
        )
    return Header("7", width, height, depth, white, found.end())


def _read_samples(
    file: BinaryIO, header: Header, allow_truncated: bool
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Samples (H, W, channels) as stored; zero, and a word of it, where some are missing."""
    shape = header.height, header.width, header.channels
    count = header.height * header.width * header.channels
    if header.is_text:
        samples = _text_samples(file.read(_HEADER_BYTES + count * _TEXT_BYTES), header, count)
    elif header.kind == "4":
        row = -(-header.width // 8)
        content = np.frombuffer(file.read(header.height * row), np.uint8)
        content = np.pad(content, (0, (short := header.height * row - len(content))))
        bits = np.unpackbits(content.reshape(-1, row), axis=1, count=header.width)
        samples = 1 - bits.reshape(-1)[: count - min(count, short * 8)]
    else:
        floats = "<f4" if header.little else ">f4"
        dtype: np.dtype[Any] = np.dtype(
            floats if not header.white else "u1" if header.white <= 255 else ">u2"
        )
        stored = file.read(count * dtype.itemsize)
        samples = np.frombuffer(stored[: len(stored) // dtype.itemsize * dtype.itemsize], dtype)
    if len(samples) == count:
        return samples.reshape(shape), ()
    if not allow_truncated:
        raise cut_short("PPM")
    samples = np.pad(samples, (0, count - len(samples)))
    return samples.reshape(shape), ("the PPM data ends early; the rest is missing",)


def _text_samples(text: bytes, header: Header, count: int) -> NDArray[Any]:
    """The first `count` numbers of a text. Bits need no spaces between them, and 1 is black."""
    if text.count(b"#") > _MOST_COMMENTS:  # each would cost a piece of memory
        raise ValueError(f"more than {_MOST_COMMENTS:,} comments")
    text = _COMMENT.sub(b" ", text)
    if header.kind == "1":
        digits = np.frombuffer(text, np.uint8)
        digits = digits[(digits > 0x20)][:count]
        if ((digits != 0x30) & (digits != 0x31)).any():
            raise ValueError("samples that are neither 0 nor 1")
        return 0x31 - digits
    if re.search(rb"[^0-9\s]", text):
        raise ValueError("samples that are no numbers")
    numbers = np.fromstring(text.decode("ascii"), np.int64, sep=" ")[:count]
    if numbers.max(initial=0) > 65_535:
        raise ValueError("samples above 65535")
    return numbers


def _rgb(samples: NDArray[np.uint8], header: Header) -> Pixels:
    pixels = np.empty((header.height, header.width, 3), np.uint8)
    if header.channels in (1, 3):
        pixels[...] = samples
        return pixels
    cover = samples[:, :, -1:].astype(np.uint16)
    colours = samples[:, :, :-1].astype(np.uint16)
    pixels[...] = (colours * cover + 255 * (255 - cover) + 127) // 255
    return pixels
