"""Samples: strips and tiles of a TIFF in, arrays (H, W, samples) out.

Decompression is libtiff's, through Pillow: a part of a file is handed to it as if its bytes were
grey pixels. What the bytes mean (predictor, byte order, bits, planes) is worked out here.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from toplabel.image.failures import cut_short
from toplabel.image.tiff.directory import Directory, read_at
from toplabel.image.tiff.layout import FLOAT, INT, RAW, Layout

_BAND_BYTES = 1 << 24
_KINDS = {INT: "i", FLOAT: "f"}
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], 1)

Samples = NDArray[Any]


def read_samples(
    tags: Directory, layout: Layout, wanted: Sequence[int], *, allow_truncated: bool
) -> tuple[Samples, tuple[str, ...]]:
    """The wanted samples of each pixel as (H, W, len(wanted)), as stored; and warnings.

    Args:
        tags: Of the image.
        layout: Of the image; not subsampled.
        wanted: Indices of samples within a pixel.
        allow_truncated: Zero where the file ends early.

    Raises:
        ImageError: `truncated`.
        OSError: The compressed data is damaged.
        ValueError: Strips or tiles are missing.
    """
    offsets, sizes = _places(tags, layout)
    whole = replace(layout, bits=layout.bits[:1]) if layout.planar else layout
    if (one := in_slices(whole)) is not whole:
        step = one.chunk_height * _row_bytes(one)
        offsets = tuple(start + step * at for start in offsets for at in range(one.down))
        sizes = (0,) * len(offsets)
    samples: Samples | None = None
    missing = False
    for plane in wanted if layout.planar else (None,):
        first = (plane or 0) * one.across * one.down
        for top, rows, chunks in _bands(one):
            places = [(offsets[first + at], sizes[first + at]) for at in chunks]
            raw, ended = _raw_rows(tags, one, rows, places, allow_truncated)
            missing |= ended
            values = _values(raw, one, tags.order)[:, : layout.width]
            if samples is None:
                shape = (layout.height, layout.width, len(wanted))
                samples = np.zeros(shape, values.dtype.newbyteorder("="))
            target = samples[top : top + rows]
            if plane is None:
                chosen = slice(None) if len(wanted) == layout.samples else list(wanted)
                target[...] = values[: len(target), :, chosen]
            else:
                target[:, :, wanted.index(plane)] = values[: len(target), :, 0]
    assert samples is not None
    return samples, ("the TIFF data ends early; the rest is missing",) if missing else ()


def _places(tags: Directory, layout: Layout) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Offset and number of bytes of each strip or tile."""
    tag = 324 if 324 in tags.entries else 273
    offsets, sizes = tags.values(tag), tags.values(tag + (1 if tag == 324 else 6))
    needed = layout.across * layout.down * (layout.samples if layout.planar else 1)
    if not sizes and layout.compression == RAW:
        sizes = (0,) * len(offsets)
    if len(offsets) < needed or len(sizes) < needed:
        raise ValueError(f"{len(offsets)} strips or tiles of {needed}")
    return offsets, sizes


def _row_bytes(layout: Layout) -> int:
    """Of a row of one strip or tile, padded to whole bytes."""
    return -(-layout.chunk_width * sum(layout.bits) // 8)


def in_slices(layout: Layout) -> Layout:
    """The same layout; one strip of the whole image, as bytes lie in the file, in many."""
    if layout.compression != RAW or layout.tiled or layout.down > 1:
        return layout
    rows = max(1, _BAND_BYTES // _row_bytes(layout))
    return layout if rows >= layout.height else replace(layout, chunk_height=rows)


def band_bytes(layout: Layout) -> int:
    """Bytes of the strips or tiles that are decoded at once."""
    of_one = _row_bytes(layout) * layout.across * layout.chunk_height
    return of_one * _strips_at_once(layout)


def _strips_at_once(layout: Layout) -> int:
    """How many strips, or rows of tiles."""
    of_one = _row_bytes(layout) * layout.across * layout.chunk_height
    return 1 if layout.tiled else min(layout.down, max(1, _BAND_BYTES // of_one))


def _bands(layout: Layout) -> Iterator[tuple[int, int, range]]:
    """(top, number of rows, indices of the strips or tiles) of parts of bounded size."""
    step = _strips_at_once(layout)
    for start in range(0, layout.down, step):
        end = min(start + step, layout.down)
        rows = (end - start) * layout.chunk_height
        top = start * layout.chunk_height
        if not layout.tiled:
            rows = min(rows, layout.height - top)
        yield top, rows, range(start * layout.across, end * layout.across)


def _raw_rows(
    tags: Directory,
    layout: Layout,
    rows: int,
    places: list[tuple[int, int]],
    allow_truncated: bool,
) -> tuple[NDArray[np.uint8], bool]:
    """Bytes of the rows as (rows, tiles across, bytes), and whether some are missing."""
    width = _row_bytes(layout)
    if layout.compression != RAW:
        contents = [_content(tags, offset, size) for offset, size in places]
        decoded = _decompress(layout, rows, width, contents)
        return decoded.reshape(rows, layout.across, width), False
    parts, left, missing = [], rows, False
    for offset, _ in places:
        height = layout.chunk_height if layout.tiled else min(layout.chunk_height, left)
        left -= height
        content = read_at(tags.file, offset, height * width)
        if len(content) < height * width:
            if not allow_truncated:
                raise cut_short("TIFF")
            content, missing = content.ljust(height * width, b"\0"), True
        parts.append(np.frombuffer(content, np.uint8).reshape(height, width))
    raw = np.stack(parts, axis=1) if layout.tiled else np.concatenate(parts)[:, None]
    if layout.fill_order == 2:
        raw = _REVERSED[:, 0][raw]
    return raw, missing


def _content(tags: Directory, offset: int, size: int) -> bytes:
    if offset + size > tags.size:
        raise cut_short("TIFF")
    tags.file.seek(offset)
    return tags.file.read(size)


def _decompress(
    layout: Layout, rows: int, row_bytes: int, contents: list[bytes]
) -> NDArray[np.uint8]:
    """The bytes (rows, all tiles' row bytes) of strips or tiles that lie beside each other."""
    width = row_bytes * layout.across
    places = (322, [row_bytes]), (323, [layout.chunk_height]), (324, 0), (325, 0)
    if not layout.tiled:
        places = (278, [layout.chunk_height]), (273, 0), (279, 0)  # type: ignore[assignment]
    numbers: dict[int, Any] = {256: [width], 257: [rows], 258: [8], 259: [layout.compression]}
    numbers |= {262: [1], 266: [layout.fill_order], 277: [1]} | dict(places)
    start = 8 + 2 + 12 * len(numbers) + 4
    starts = np.cumsum([start + 8 * len(contents), *(len(c) for c in contents)])[:-1]
    numbers[324 if layout.tiled else 273] = starts.tolist()
    numbers[325 if layout.tiled else 279] = [len(content) for content in contents]
    directory, tail = b"", b""
    for tag, values in sorted(numbers.items()):
        data = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            place, tail = start + len(tail), tail + data
            data = struct.pack("<I", place)
        directory += struct.pack("<HHI", tag, 4, len(values)) + data
    head = struct.pack("<2sHIH", b"II", 42, 8, len(numbers)) + directory + bytes(4) + tail
    head = head.ljust(start + 8 * len(contents), b"\0")
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(b"".join([head, *contents])), "")
    image.load()
    return np.asarray(image)


def _values(raw: NDArray[np.uint8], layout: Layout, order: str) -> Samples:
    """Samples (rows, columns of all tiles, samples) of raw bytes (rows, tiles, bytes)."""
    rows, across, _ = raw.shape
    shape = rows, across, layout.chunk_width, layout.samples
    bits = layout.bits[0]
    if bits not in (8, 16, 32, 64) or len(set(layout.bits)) > 1:
        return _unpacked(raw, layout, order).reshape(rows, -1, layout.samples)
    dtype = np.dtype(f"{order}{_KINDS.get(layout.formats[0], 'u')}{bits // 8}")
    if layout.predictor == 3:
        raw = _float_unpredicted(raw, layout)
        dtype = dtype.newbyteorder(">")
    values: Samples = np.ascontiguousarray(raw).view(dtype).reshape(shape)
    if layout.predictor == 2:
        counted = values.view(f"{dtype.byteorder}u{dtype.itemsize}".replace("|", ""))
        native = counted.astype(counted.dtype.newbyteorder("="))
        values = np.cumsum(native, axis=2, dtype=native.dtype)
        values = values.view(dtype.newbyteorder("="))
    return values.reshape(rows, -1, layout.samples)


def _float_unpredicted(raw: NDArray[np.uint8], layout: Layout) -> NDArray[np.uint8]:
    """Undo predictor 3: bytes differ from those one pixel before, and lie apart by significance."""
    rows, across, _ = raw.shape
    size = layout.bits[0] // 8
    steps = raw.reshape(rows, across, -1, layout.samples)
    summed = np.cumsum(steps, axis=2, dtype=np.uint8).reshape(rows, across, size, -1)
    return np.ascontiguousarray(summed.swapaxes(2, 3)).reshape(rows, across, -1)


def _unpacked(raw: NDArray[np.uint8], layout: Layout, order: str) -> Samples:
    """Samples of any number of bits, rows padded to bytes, the most significant bit first."""
    total = sum(layout.bits)
    if order == "<" and set(layout.bits) <= {24, 40, 48, 56}:
        size = layout.bits[0] // 8
        raw = raw.reshape(*raw.shape[:2], -1, size)[..., ::-1].reshape(raw.shape)
    dtype = np.dtype(np.uint16 if max(layout.bits) <= 16 else np.uint32)
    if max(layout.bits) > 32:
        dtype = np.dtype(np.uint64)
    shape = (*raw.shape[:2], layout.chunk_width, layout.samples)
    samples = np.zeros(shape, dtype)
    step = max(1, _BAND_BYTES // max(1, raw.shape[1] * raw.shape[2] * 8))
    for top in range(0, len(raw), step):
        one = np.unpackbits(raw[top : top + step], axis=2, count=layout.chunk_width * total)
        one = one.reshape(*one.shape[:2], layout.chunk_width, total)
        at = 0
        for sample, bits in enumerate(layout.bits):
            target = samples[top : top + step, :, :, sample]
            for bit in range(at, at + bits):
                target <<= 1
                target |= one[..., bit]
            at += bits
    return samples
