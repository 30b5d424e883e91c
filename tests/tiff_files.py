"""TIFF files of any layout, written sample by sample for the tests of reading."""

import struct
import zlib
from typing import Any

import numpy as np

_TYPES = {3: "H", 4: "I", 12: "d", 18: "Q"}


def packed(samples: np.ndarray, bits: int) -> bytes:
    """Samples (rows, numbers) of `bits` bits, the highest first, rows padded to bytes."""
    lines = []
    for row in samples:
        text = "".join(f"{int(value):0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        lines.append(int(text, 2).to_bytes(len(text) // 8, "big"))
    return b"".join(lines)


def tiff(array: np.ndarray, **options: Any) -> bytes:
    """A TIFF of one image; options as for `page`."""
    return tiff_of_pages([page(array, **options)], order=options.get("order", "<"))


def page(
    array: np.ndarray,
    *,
    photometric: int = 1,
    order: str = "<",
    planar: bool = False,
    tile: tuple[int, int] | None = None,
    rows: int | None = None,
    deflate: bool = False,
    predictor: int = 1,
    bits: int | None = None,
    extra: tuple[int, ...] | None = None,
    tags: dict[int, list[int]] | None = None,
) -> tuple[dict[int, list[int]], list[bytes]]:
    """Tags and strips or tiles of an image (H, W) or (H, W, samples)."""
    if array.ndim == 2:
        array = array[:, :, None]
    height, width, samples = array.shape
    kind = {"u": 1, "b": 1, "i": 2, "f": 3, "c": 6}[array.dtype.kind]
    numbers = {254: [0], 256: [width], 257: [height], 262: [photometric], 277: [samples]}
    numbers |= {258: [bits or array.dtype.itemsize * 8] * samples, 339: [kind] * samples}
    numbers |= {259: [8 if deflate else 1], 284: [2 if planar else 1], 317: [predictor]}
    if extra is not None:
        numbers[338] = list(extra)
    chunk_height, chunk_width = tile or (rows or height, width)
    names = (324, 325) if tile else (273, 279)
    numbers |= {322: [chunk_width], 323: [chunk_height]} if tile else {278: [chunk_height]}
    chunks = []
    for plane in [array[:, :, k : k + 1] for k in range(samples)] if planar else [array]:
        for top in range(0, height, chunk_height):
            for left in range(0, width, chunk_width):
                part = plane[top : top + chunk_height, left : left + chunk_width]
                if tile:
                    rest = [(0, size - have) for size, have in zip(tile, part.shape, strict=False)]
                    part = np.pad(part, [*rest, (0, 0)])
                content = _stored(part, order=order, predictor=predictor, bits=bits)
                chunks.append(zlib.compress(content) if deflate else content)
    numbers |= {names[0]: [-1] * len(chunks), names[1]: [len(chunk) for chunk in chunks]}
    return numbers | (tags or {}), chunks


def _stored(part: np.ndarray, *, order: str, predictor: int, bits: int | None) -> bytes:
    if bits is not None:
        return packed(part.reshape(len(part), -1), bits)
    size = part.dtype.itemsize
    if predictor == 2:
        values = part.view(f"u{size}") if part.dtype.kind == "i" else part
        part = np.concatenate([values[:, :1], values[:, 1:] - values[:, :-1]], axis=1)
    if predictor == 3:
        rows, columns, samples = part.shape
        planes = part.astype(f">f{size}").view(np.uint8).reshape(rows, columns * samples, size)
        pixels = planes.swapaxes(1, 2).reshape(rows, -1, samples)
        return np.concatenate([pixels[:, :1], pixels[:, 1:] - pixels[:, :-1]], axis=1).tobytes()
    return part.astype(part.dtype.newbyteorder(order)).tobytes()


def tiff_of_pages(
    pages: list[tuple[dict[int, list[int]], list[bytes]]],
    *,
    order: str = "<",
    big: bool = False,
    inside: dict[int, int] | None = None,
) -> bytes:
    """A file of several images; `inside` maps those in a sub-directory to the image that has it."""
    inside = inside or {}
    number, entry, link, length = ("Q", "HHQ", "Q", 20) if big else ("H", "HHI", "I", 12)
    room = struct.calcsize(order + link)
    content = bytearray(b"II" if order == "<" else b"MM")
    content += struct.pack(order + "H", 43 if big else 42)
    content += struct.pack(order + "HHQ", 8, 0, 0) if big else bytes(4)
    previous, starts = len(content) - room, {}
    wanted = [k for k in range(len(pages)) if k in inside]
    for at in wanted + [k for k in range(len(pages)) if k not in inside]:
        numbers, chunks = pages[at]
        numbers = dict(numbers)
        places = []
        for chunk in chunks:
            places.append(len(content))
            content += chunk
        for tag in (273, 324):
            if numbers.get(tag, [0])[0] == -1:
                numbers[tag] = places
        if below := [starts[k] for k in wanted if inside[k] == at]:
            numbers[330] = below
        entries = b""
        for tag, values in sorted(numbers.items()):
            kind = 4 if tag not in (258, 338, 339, 320) else 3
            data = struct.pack(f"{order}{len(values)}{_TYPES[kind]}", *values)
            if len(data) > room:
                place = struct.pack(order + link, len(content))
                content += data
                data = place
            entries += struct.pack(order + entry, tag, kind, len(values)) + data.ljust(room, b"\0")
        starts[at] = len(content)
        if at not in inside:
            content[previous : previous + room] = struct.pack(order + link, len(content))
            previous = len(content) + struct.calcsize(order + number) + length * len(numbers)
        content += struct.pack(order + number, len(numbers)) + entries + bytes(room)
    return bytes(content)
