"""Ordinary images: those that are surely decoded in a moment, told by how their file begins.

All others may keep a decoder busy, or take much memory: bombs, but large photos, too. Who reads
files of strangers lets another process do it.
"""

from __future__ import annotations

import struct

from toplabel.errors import ImageError
from toplabel.image.files import HEAD_BYTES, sniff

_HEADER_BYTES = 1 << 18  # where a JPEG has said all but its pixels
_JPEG_PIXELS = 16_000_000
_PASSES = 8  # of a progressive JPEG; editors write ten scans, each of a part of the samples
_MOST_SCANS = 24
_PNG_PIXELS = 2_000_000
_PNG_CHUNKS = 512
_PNG_KINDS = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"bKGD", b"pHYs", b"gAMA", b"cHRM", b"sRGB")
    + (b"sBIT", b"tEXt", b"tIME", b"iCCP", b"eXIf")
)
_PNG_OTHERS = 16  # chunks that are not pixels
_WEBP_PIXELS = 1_000_000


def is_ordinary(content: bytes) -> bool:
    """Whether an image file is decoded, or refused, in a few hundredths of a second."""
    try:
        kind = sniff(content[:HEAD_BYTES])
        if kind == "JPEG":
            return _is_ordinary_jpeg(content)
        if kind == "PNG":
            return _is_ordinary_png(content)
        return kind == "WEBP" and _is_ordinary_webp(content)
    except ImageError:  # it is refused as quickly when it is read
        return True


def _is_ordinary_jpeg(content: bytes) -> bool:
    from toplabel.image.jpeg import read_header

    header = read_header(content[:_HEADER_BYTES])
    if header is None or not header.scan_start or not header.decoded_at_once:
        return False
    cost = header.height * header.width
    if header.progressive:
        if content.count(b"\xff\xda", header.scan_start) > _MOST_SCANS:
            return False
        cost *= _PASSES
    return cost <= _JPEG_PIXELS


def _is_ordinary_png(content: bytes) -> bool:
    if len(content) < 33:
        return True
    width, height, bits = struct.unpack_from(">IIB", content, 16)
    if width * height > _PNG_PIXELS or bits > 8:
        return False
    position, others = 8, 0
    for _ in range(_PNG_CHUNKS):
        kind = content[position + 4 : position + 8]
        if kind == b"IEND" or len(kind) < 4:
            return True
        others += kind != b"IDAT"
        if kind not in _PNG_KINDS or others > _PNG_OTHERS:
            return False
        position += 12 + int.from_bytes(content[position : position + 4], "big")
    return False


def _is_ordinary_webp(content: bytes) -> bool:
    """A single image, whose size stands in its first chunk."""
    kind, body = content[12:16], content[20:30]
    if len(body) < 10:
        return True
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", body, 6))
    elif kind == b"VP8L":
        (sides,) = struct.unpack_from("<I", body, 1)
        width, height = (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
    else:
        return False  # animations, profiles, transparency
    return width * height <= _WEBP_PIXELS and len(content) <= 4 * _WEBP_PIXELS
