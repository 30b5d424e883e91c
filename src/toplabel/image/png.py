"""PNG beyond what Pillow gives: Xcode's variant, and all 16 bits of colour samples."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import PngImagePlugin

from toplabel.errors import ImageError
from toplabel.image.decoded_image import Pixels, check_pixels
from toplabel.image.failures import cut_short
from toplabel.image.options import ReadOptions
from toplabel.image.ranges import invisible, on_white, to_bytes, unfilled

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PASSES = (  # of interlacing: left, top, and the steps to the right and down
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_BAND_PIXELS = 1 << 20
_MAX_CHUNKS = 10_000  # before the pixels
_ALL_CHUNKS, _PROFILES = 1 << 16, 64  # real files have some hundreds, and one profile
_COUNTED_BYTES = 1 << 19  # smaller files cannot hold what takes long


@dataclass(frozen=True, slots=True)
class PngHeader:
    """What stands before a PNG's pixels.

    `significant` are the bits of each sample that carry something, where the file says so (sBIT);
    `key` is the colour that is transparent, where there is one; `is_apple` is Xcode's variant.
    """

    width: int
    height: int
    bits: int
    colour: int
    interlaced: bool
    is_apple: bool
    significant: tuple[int, ...]
    key: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Samples a pixel."""
        return _CHANNELS[self.colour]


def read_header(file: BinaryIO) -> PngHeader | None:
    """The header, or None where it is damaged: Pillow says how."""
    chunks: dict[bytes, bytes] = {}
    try:
        for count, (kind, content) in enumerate(_chunks(file, before_pixels=True)):
            if kind == b"IDAT" or count == _MAX_CHUNKS:
                break
            chunks[kind] = content
        width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    except (ImageError, KeyError, ValueError, struct.error):
        return None
    if colour not in _CHANNELS:
        return None
    key = chunks.get(b"tRNS", b"") if colour in (0, 2) else b""
    return PngHeader(
        width,
        height,
        bits,
        colour,
        bool(interlaced),
        b"CgBI" in chunks,
        tuple(chunks.get(b"sBIT", b"")),
        struct.unpack(f">{len(key) // 2}H", key[: len(key) // 2 * 2]),
    )


def check_chunks(file: BinaryIO) -> None:
    """Refuse bombs of many chunks, each of which costs Pillow some microseconds, or more.

    Raises:
        ImageError: `corrupt`.
    """
    size = file.seek(0, io.SEEK_END)
    if size < _COUNTED_BYTES:
        return
    position, count, profiles = len(_SIGNATURE), 0, 0
    while position + 12 <= size:
        file.seek(position)
        head = file.read(8)
        count += 1
        profiles += head[4:] == b"iCCP"
        if count > _ALL_CHUNKS or profiles > _PROFILES:
            raise ImageError("corrupt", "the PNG has more chunks than any program writes")
        position += 12 + int.from_bytes(head[:4], "big")


def standard_form(file: BinaryIO, header: PngHeader) -> bytes:
    """Xcode's variant as a PNG that all can read; its pixels stay blue, green, red, alpha.

    Raises:
        ImageError: `truncated`.
        ValueError, zlib.error: The data is damaged.
    """
    rows = _inflated(file, header, raw=True)
    others = [
        _chunk(kind, content)
        for kind, content in _chunks(file)
        if kind not in (b"CgBI", b"IDAT", b"IEND")
    ]
    pixels = _chunk(b"IDAT", zlib.compress(rows, 1)) + _chunk(b"IEND", b"")
    return _SIGNATURE + b"".join(others) + pixels


def pixels_of_apple(samples: NDArray[np.uint8]) -> Pixels:
    """RGB on white of Xcode's pixels (H, W, 3 or 4): blue, green, red, alpha, premultiplied."""
    rgb = np.ascontiguousarray(samples[:, :, 2::-1])
    if samples.shape[2] == 4:
        white = 255 - samples[:, :, 3:]
        rgb = np.minimum(rgb, 255 - white) + white
    return rgb


def exact_samples(file: BinaryIO, header: PngHeader) -> NDArray[np.uint16]:
    """All 16 bits of the samples, (H, W, channels); Pillow drops the lower 8 of colours.

    Filters work on bytes a pixel apart: the higher and the lower bytes are two images of 8 bits
    with the same filters, which Pillow decodes.

    Raises:
        ImageError: `truncated`.
        ValueError, zlib.error: The data is damaged.
    """
    content = np.frombuffer(_inflated(file, header, raw=False), np.uint8)
    samples = np.zeros((header.height, header.width, header.channels), np.uint16)
    for half in (0, 1):
        parts, at = [], 0
        for rows, row_bytes in _passes(header):
            lines = content[at : at + rows * (1 + row_bytes)].reshape(rows, -1)
            parts.append(np.hstack([lines[:, :1], lines[:, 1 + half :: 2]]).tobytes())
            at += rows * (1 + row_bytes)
        size = struct.pack(">II", header.width, header.height)
        layout = struct.pack("BBBBB", 8, header.colour, 0, 0, header.interlaced)
        data = _chunk(b"IHDR", size + layout) + _chunk(b"IDAT", zlib.compress(b"".join(parts), 1))
        image = PngImagePlugin.PngImageFile(
            io.BytesIO(_SIGNATURE + data + _chunk(b"IEND", b"")), ""
        )
        image.load()
        samples <<= 8
        samples |= np.asarray(image).reshape(samples.shape)
    return samples


def exact_pixels(
    file: BinaryIO, header: PngHeader, options: ReadOptions
) -> tuple[Pixels, tuple[str, ...]]:
    """RGB pixels (H, W, 3) of a PNG of 16 bits, and what is doubtful about them.

    Where the file says that fewer bits are significant, and the samples stay below, these are all.

    Raises:
        ImageError: `too_large`, `truncated`.
        ValueError, zlib.error: The data is damaged.
    """
    held = 10 * header.channels  # bytes: packed and inflated, both halves, and the samples
    check_pixels(header.height, header.width, max_pixels=options.max_pixels, bytes_per_pixel=held)
    samples = exact_samples(file, header)
    colours = header.channels - (header.channels in (2, 4))
    high = int(samples[:, :, :colours].max())
    white = min(65_535, (1 << max(header.significant[:colours], default=16)) - 1)
    if white < 1 or high > white:
        white = 65_535
    warnings = unfilled(high, white)
    cover = samples[:, :, colours:]
    if header.key:
        seen = (samples != np.array(header.key, np.uint16)).any(axis=2, keepdims=True)
        cover = seen.astype(np.uint16) * np.uint16(65_535)
    if cover.size:
        warnings += invisible(cover.max() / 257)
    pixels = np.empty((header.height, header.width, 3), np.uint8)
    step = max(1, _BAND_PIXELS // header.width)
    for top in range(0, header.height, step):
        values = samples[top : top + step, :, :colours] * np.float32(255 / white)
        if cover.size:
            values = on_white(values, cover[top : top + step] * np.float32(1 / 65_535))
        pixels[top : top + step] = to_bytes(values)
    return pixels, warnings


def _chunks(file: BinaryIO, *, before_pixels: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of each chunk; with `before_pixels` pixels come without their content."""
    file.seek(len(_SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IDAT" and before_pixels:
            yield kind, b""
            return
        content, check = file.read(length), file.read(4)
        if len(content) < length or len(check) < 4:
            raise cut_short("PNG")
        if int.from_bytes(check, "big") != zlib.crc32(kind + content) and kind != b"CgBI":
            raise ValueError(f"the checksum of its chunk {kind!r} is wrong")
        yield kind, content
        if kind == b"IEND":
            return


def _inflated(file: BinaryIO, header: PngHeader, *, raw: bool) -> bytes:
    """All filtered rows; no more of them than the size says, whatever the file holds."""
    size = sum(rows * (1 + row_bytes) for rows, row_bytes in _passes(header))
    packed = b"".join(content for kind, content in _chunks(file) if kind == b"IDAT")
    rows = zlib.decompressobj(-15 if raw else 15).decompress(packed, size)
    if len(rows) < size:
        raise cut_short("PNG")
    return rows


def _passes(header: PngHeader) -> Iterator[tuple[int, int]]:
    """(rows, bytes of a row) of each interlacing pass, or of the whole image."""
    bits = header.bits * header.channels
    if not header.interlaced:
        yield header.height, -(-header.width * bits // 8)
        return
    for left, top, right, down in _PASSES:
        rows, columns = -(-(header.height - top) // down), -(-(header.width - left) // right)
        if rows > 0 and columns > 0:
            yield rows, -(-columns * bits // 8)


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check
