"""A decoder: the process that reads one image file after the other for the server.

Through its socket it gets `Limits`, and for each image a `Request` and the file's bytes. It
replies with `Decoded` and the pixels' bytes, or with an `ImageError`.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.platform import trim_memory
from toplabel.image import decoded_image
from toplabel.image.reading import read_image
from toplabel.inference.batch import image_error

if TYPE_CHECKING:
    from toplabel.image.decoded_image import DecodedImage, ResizedSize
    from toplabel.image.options import ReadOptions
    from toplabel.preprocess.preprocess import Preprocess

WAITS_FOR_TURN = "large"
"""The message of a process that is about to decode a large image; it waits for an answer."""

OUT_OF_MEMORY = "memory"
"""The message of a process that had not enough for an image, and should be replaced."""

_NICE = 5  # those who send ordinary photos go first


@dataclass(frozen=True, slots=True)
class Limits:
    """What one image may take: seconds of processor time, and bytes of memory."""

    seconds: int
    memory: int


@dataclass(frozen=True, slots=True)
class Request:
    """How to read an image, as `read_image` takes it.

    With `preprocess`, the pixels that come back are what `resize_and_crop` makes of them: a large
    image is nowhere else in memory, and what is sent back is small.
    """

    options: ReadOptions
    resized_size: ResizedSize | None
    preprocess: Preprocess | None


@dataclass(frozen=True, slots=True)
class Decoded:
    """What is known of an image beside its pixels, whose bytes follow."""

    shape: tuple[int, ...]
    size: tuple[int, int]
    scale: int
    warnings: tuple[str, ...]
    is_cropped: bool


def main(descriptor: int) -> None:
    """Decode until the other end closes; then exit at once."""
    os.dup2(2, 1)  # whatever a library prints is no answer
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):
        limits: Limits = connection.recv()
        os.nice(_NICE)
        warnings.simplefilter("ignore")  # of libraries, by the thousand
        _limit("RLIMIT_CORE", 0)
        _limit("RLIMIT_DATA", limits.memory)
        decoded_image.take_turns_at(lambda: _turn(connection))
        while True:
            _answer(connection, limits)
            trim_memory()
    os._exit(0)


def _answer(connection: Connection, limits: Limits) -> None:
    """Read one image."""
    request: Request = connection.recv()
    content = connection.recv_bytes()
    _limit("RLIMIT_CPU", ceil(time.process_time()) + limits.seconds)
    try:
        image = read_image(content, options=request.options, resized_size=request.resized_size)
        if request.preprocess is not None:
            image = _cropped(image, request.preprocess, request.options)
    except Exception as error:
        failure = image_error(error)
        connection.send(OUT_OF_MEMORY if failure.code == "out_of_memory" else failure)
        return
    connection.send(_described(image))
    left = memoryview(image.pixels.reshape(-1).data)
    while left:
        left = left[os.write(connection.fileno(), left) :]


def _cropped(image: DecodedImage, preprocess: Preprocess, options: ReadOptions) -> DecodedImage:
    seen = preprocess.resize_and_crop(
        image.pixels,
        original_size=(image.height, image.width),
        scale=image.scale,
        max_pixels=options.max_pixels,
    )
    return replace(image, pixels=np.ascontiguousarray(seen), is_cropped=True)


def _described(image: DecodedImage) -> Decoded:
    size = image.height, image.width
    return Decoded(image.pixels.shape, size, image.scale, image.warnings, image.is_cropped)


@contextlib.contextmanager
def _turn(connection: Connection) -> Iterator[None]:
    """A large image's turn among all decoders; the other end knows when it is over."""
    connection.send(WAITS_FOR_TURN)
    connection.recv()
    yield


def _limit(name: str, amount: int) -> None:
    import resource  # which Windows does not have

    kind = getattr(resource, name)
    _, hard = resource.getrlimit(kind)
    most = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
    with contextlib.suppress(OSError, ValueError):  # not every system has every limit
        resource.setrlimit(kind, (most, hard))
