"""Decoders: files of strangers in, pixels out, from processes that can be killed.

Ordinary photos never come here (`toplabel.image.ordinary`). What does may be a bomb: it gets so
much processor time and memory, and the server's own threads wait for nothing but its answer.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.child import start_child
from toplabel.errors import ImageError
from toplabel.image.decoded_image import DecodedImage
from toplabel.image.reading import ReadsItself
from toplabel.preprocess.preprocess import Preprocess
from toplabel.serve.decoder import OUT_OF_MEMORY, WAITS_FOR_TURN, Decoded, Limits, Request

if TYPE_CHECKING:
    import subprocess
    from multiprocessing.connection import Connection

    from toplabel.image.decoded_image import ResizedSize
    from toplabel.image.options import ReadOptions
    from toplabel.preprocess.custom import AnyPreprocess

_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class IsolatedImage(ReadsItself):
    """An image file that is read in another process.

    Args:
        content: The file.
        decoders: Whose processes read it.
        deadline: By `time.monotonic`, when its process is killed.
        preprocess: Where given, its process makes what a model sees of it, too.
    """

    content: bytes
    decoders: Decoders
    deadline: float
    preprocess: AnyPreprocess | None = None

    def read_image(self, *, options: ReadOptions, resized_size: ResizedSize | None) -> DecodedImage:
        """Its pixels.

        Raises:
            ImageError: It could not be read within the limits, or at all.
        """
        kept = self.preprocess if isinstance(self.preprocess, Preprocess) else None
        if not isinstance(getattr(resized_size, "__self__", None), Preprocess):
            resized_size = None  # code of the operator's; the whole image always serves
        request = Request(options, resized_size, kept)
        return self.decoders.read(self.content, request, deadline=self.deadline)


class Decoders:
    """Processes that decode, started when they are needed and kept.

    Args:
        limits: Of each image.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._idle: list[_Decoder] = []
        self._lock = threading.Lock()
        self._large = threading.Lock()  # held while a large image is decoded

    def read(self, content: bytes, request: Request, *, deadline: float) -> DecodedImage:
        """The image in a file, as `read_image` gives it, or what a model sees of it.

        Raises:
            ImageError: It could not be read within the limits, or at all.
        """
        with self._lock:
            decoder = self._idle.pop() if self._idle else None
        decoder = decoder or _Decoder(self._limits)
        try:
            decoded = decoder.ask(request, content, deadline=deadline, large=self._large)
        except BaseException:
            decoder.end()
            raise
        with self._lock:
            self._idle.append(decoder)
        if isinstance(decoded, ImageError):
            raise decoded
        return decoded

    def close(self) -> None:
        """End those that have nothing to do."""
        with self._lock:
            while self._idle:
                self._idle.pop().end()


class _Decoder:
    """One process, for one image at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes]
        self._connection: Connection
        try:
            self._process, self._connection = start_child(
                "toplabel.serve.decoder", environment=_ENVIRONMENT
            )
        except OSError as error:
            raise ImageError(
                "out_of_memory", "the server has no room for another decoder; try again later"
            ) from error
        with suppress(OSError):  # that it is dead shows when its answer is awaited
            self._connection.send(limits)

    def ask(
        self, request: Request, content: bytes, *, deadline: float, large: threading.Lock
    ) -> DecodedImage | ImageError:
        """The image, or why there is none.

        Raises:
            ImageError: The process died of it, or there was no more time or memory; end it.
        """
        with suppress(OSError):
            self._connection.send(request)
            self._connection.send_bytes(content)
        has_turn = False
        try:
            while True:
                answer = self._next(deadline)
                if answer != WAITS_FOR_TURN:
                    break
                seconds = max(0.0, deadline - time.monotonic())
                has_turn = has_turn or large.acquire(timeout=seconds)
                if not has_turn:
                    raise _late()
                with suppress(OSError):
                    self._connection.send(True)
            if answer == OUT_OF_MEMORY:
                most = f"{self._limits.memory // 2**20} MiB"
                raise ImageError("too_large", f"decoding the image takes more than {most}")
            if isinstance(answer, Decoded):
                return self._receive(answer)
            assert isinstance(answer, ImageError)
            return answer
        finally:
            if has_turn:
                large.release()

    def end(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _next(self, deadline: float) -> object:
        if not self._connection.poll(max(0.0, deadline - time.monotonic())):
            raise _late()
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error

    def _receive(self, decoded: Decoded) -> DecodedImage:
        pixels = np.empty(decoded.shape, np.uint8)
        left = memoryview(pixels.reshape(-1).data)
        while left:  # not by the connection's own way, which holds all of it twice
            try:
                count = os.readv(self._connection.fileno(), [left])
            except OSError as error:
                raise self._died() from error
            if not count:
                raise self._died()
            left = left[count:]
        height, width = decoded.size
        return DecodedImage(
            pixels,
            height=height,
            width=width,
            scale=decoded.scale,
            warnings=decoded.warnings,
            is_cropped=decoded.is_cropped,
        )

    def _died(self) -> ImageError:
        if -self._process.wait() == signal.SIGXCPU:
            return _late(f"{self._limits.seconds} s of processor time")
        return ImageError("worker_crash", "the decoder crashed on this image; convert it to PNG")


def _late(most: str = "the request may take") -> ImageError:
    return ImageError("timeout", f"decoding the image took more than {most}; send a simpler file")
