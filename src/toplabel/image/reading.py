"""Reading: any source of an image in, `DecodedImage` out: upright RGB pixels.

It imports NumPy only; JPEG, Pillow and the network are imported when they are needed.
"""

from __future__ import annotations

import os
import sys
from typing import BinaryIO

import numpy as np

from toplabel._internal.text import first_line
from toplabel.errors import ImageError
from toplabel.image.arrays import image_of_array, image_of_tensor
from toplabel.image.decoded_image import DecodedImage, ResizedSize, check_pixels
from toplabel.image.failures import from_system
from toplabel.image.files import (
    HEAD_BYTES,
    UnknownSource,
    check_bytes,
    fetch,
    is_bare_base64,
    is_data_uri,
    is_url,
    open_file,
    read_data_uri,
    read_standard_input,
    read_stream,
    sniff,
)
from toplabel.image.options import ReadOptions

_DEFAULTS = ReadOptions()
_LONGEST_NAME, _LONGEST_PART = 4096, 255  # of a path on Linux, and of a name in it
_SHOWN = 40  # characters of a name that is none
_HEADER_BYTES = 1 << 17  # where nearly every JPEG has said its size
_LARGE_BYTES = 8 << 20  # of which it pays to look at the first bytes before the others are read


class ReadsItself:
    """A source that knows how it is read: the server's files, which another process decodes."""

    def read_image(self, *, options: ReadOptions, resized_size: ResizedSize | None) -> DecodedImage:
        """As the function of that name."""
        raise NotImplementedError


def read_image(
    source: object, *, options: ReadOptions = _DEFAULTS, resized_size: ResizedSize | None = None
) -> DecodedImage:
    """One image, upright, as RGB pixels of shape (H, W, 3), uint8, 0 to 255.

    Transparency is composited on white; colour profiles are left alone; of animations the first
    frame is read, of a TIFF the first image of full size; samples of 16 and 32 bits are scaled to
    8. What is doubtful (a range that is not filled, nothing to be seen) is in `warnings`.

    Args:
        source: A path; an http, https or data URL; "-" for standard input; the bytes of a file; a
            binary file object; a Pillow image; a NumPy array (H, W, 3), (H, W), (H, W, 1) or
            (H, W, 4) of uint8, uint16, or floats from 0 to 1; a torch tensor (3, H, W).
        options: Limits and choices.
        resized_size: Where given, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size: the
            largest reduction that leaves both sides at twice the size that this returns, or more.

    Raises:
        ImageError: The source could not be read; `.code` says why.
        UnknownSource: A TypeError: the source is none of these things.
    """
    if isinstance(source, ReadsItself):
        return source.read_image(options=options, resized_size=resized_size)
    try:
        return _read(source, options, resized_size)
    except ImageError as error:
        reason = error.message
        if isinstance(source, str) and error.code == "not_found" and is_bare_base64(source):
            reason = "it is an image in base64; write data:;base64, before it, or pass its bytes"
        raise ImageError(error.code, f"cannot read {_describe(source)}: {reason}") from error
    except BaseException as error:
        if isinstance(error, Exception | KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        reason = first_line(error, named=True)  # a library's own, as of those written in Rust
        raise ImageError("internal", f"cannot read {_describe(source)}: {reason}") from error


def source_name(source: object, index: int) -> str:
    """A source's name in records: its path or URL, else its kind and `index`, as "<array 0>"."""
    try:
        if isinstance(source, str):
            return _short(source)
        if isinstance(source, os.PathLike):
            return os.fsdecode(source)
        name = getattr(source, "name", None)
        if hasattr(source, "read") and isinstance(name, str):
            return name
        return f"<{_kind(source)} {index}>"
    except Exception:  # an object whose own __fspath__ or name fails
        return f"<{type(source).__name__} {index}>"


def _short(name: str) -> str:
    """A path or URL as it is; of a data URI, or what is too long for a path, the beginning."""
    is_content = len(name) > _LONGEST_PART and (is_data_uri(name) or is_bare_base64(name))
    if not is_content and (len(name) <= _LONGEST_NAME or is_url(name)):
        return name
    return f"{name[:_SHOWN]}... ({len(name):,} characters)"


def _kind(source: object) -> str:
    if isinstance(source, bytes | bytearray | memoryview):
        return "bytes"
    if isinstance(source, np.ndarray) or is_tensor(source):
        return "array"
    if _is_pillow(source):
        return "image"
    return "file" if hasattr(source, "read") else type(source).__name__


def _describe(source: object) -> str:
    """The source in an error message: quoted and escaped, so that it stays on one line."""
    if isinstance(source, str | os.PathLike):
        return "standard input" if source == "-" else repr(_short(os.fsdecode(source)))
    name = getattr(source, "name", None)
    if hasattr(source, "read") and isinstance(name, str):
        return repr(name)
    return f"the given {_kind(source)}"


def is_tensor(source: object) -> bool:
    """Whether this is a torch tensor; does not import torch."""
    return any(
        base.__module__.split(".")[0] == "torch" and base.__name__ == "Tensor"
        for base in type(source).__mro__
    )


def _is_pillow(source: object) -> bool:
    """Whether this is a Pillow image; if so, Pillow is imported already."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(source, pillow.Image)


def _read(source: object, options: ReadOptions, resized_size: ResizedSize | None) -> DecodedImage:
    if isinstance(source, os.PathLike):
        return _read_path(os.fsdecode(source), options, resized_size)
    if isinstance(source, str) and not (source == "-" or is_url(source) or is_data_uri(source)):
        return _read_path(source, options, resized_size)
    if isinstance(source, np.ndarray):
        return image_of_array(source, options=options)
    if _is_pillow(source):
        from toplabel.image.decode import decode_image

        return decode_image(source, options=options)  # type: ignore[arg-type]
    if is_tensor(source):
        return image_of_tensor(source, options=options)
    content = _content(source, options)
    return _decode(content, sniff(content[:HEAD_BYTES]), options, resized_size)


def _content(source: object, options: ReadOptions) -> bytes:
    """The bytes of a file that is not named by a path."""
    if isinstance(source, str):
        if source == "-":
            return read_standard_input(max_bytes=options.max_bytes)
        if is_data_uri(source):
            return read_data_uri(source, max_bytes=options.max_bytes)
        return fetch(source, timeout_seconds=options.timeout_seconds, max_bytes=options.max_bytes)
    if isinstance(source, bytes | bytearray | memoryview):
        # A copy of what others could change while it is decoded; of bytes there is none.
        content = source.tobytes() if isinstance(source, memoryview) else bytes(source)
        check_bytes(len(content), max_bytes=options.max_bytes)
        return content
    if hasattr(source, "read"):
        if getattr(source, "stored_bytes", 0) > _LARGE_BYTES:
            sniff(read_stream(source, max_bytes=options.max_bytes, head_bytes=HEAD_BYTES))
        return read_stream(source, max_bytes=options.max_bytes)
    raise UnknownSource(
        f"got {type(source).__name__}; expected a path, a URL, bytes, a binary file"
        " object, a Pillow image, a NumPy array or a torch tensor"
    )


def _read_path(path: str, options: ReadOptions, resized_size: ResizedSize | None) -> DecodedImage:
    with open_file(path, max_bytes=options.max_bytes) as file:
        try:
            head = file.read(_HEADER_BYTES)
            format_name = sniff(head[:HEAD_BYTES])
            if format_name != "JPEG":
                return _decode(file, format_name, options, resized_size)
            if len(head) == _HEADER_BYTES:
                _check_jpeg(head, options)
                head += file.read()
        except OSError as error:
            raise from_system(error) from error
    return _decode(head, format_name, options, resized_size)


def _check_jpeg(head: bytes, options: ReadOptions) -> None:
    """Refuse a large file by its header, before the rest is read."""
    from toplabel.image.jpeg import read_header

    if (header := read_header(head)) is not None:
        check_pixels(header.height, header.width, max_pixels=options.max_pixels)


def _decode(
    content: bytes | BinaryIO,
    format_name: str,
    options: ReadOptions,
    resized_size: ResizedSize | None,
) -> DecodedImage:
    if format_name == "JPEG" and isinstance(content, bytes):
        from toplabel.image.jpeg import decode_jpeg

        return decode_jpeg(content, options=options, resized_size=resized_size)
    # Pillow costs 30 ms to import, and ordinary photos do not need it.
    from toplabel.image.decode import decode

    return decode(content, format_name, options=options)
