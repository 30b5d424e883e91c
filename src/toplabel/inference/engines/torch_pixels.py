"""The pixel engine: batches of uint8 pixels in, logits out, for a GPU.

A quarter of the bytes travel, from pinned memory over a stream of their own while the batch before
is computed. They are normalised on the device by the table of 256 values that `Preprocess` has, so
that the network sees the same bits. Batches are padded to a few sizes; for each of them the
launches of all kernels are captured in a CUDA graph, which runs the kernels of eager PyTorch: its
numbers are the same, and it is made in a moment, as a program of `torch.compile` is not.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from toplabel._internal.platform import fork_safe
from toplabel._internal.text import first_line
from toplabel.bundle.reference import compare
from toplabel.errors import EngineError
from toplabel.inference.engines.torch import Pieces, TorchEngine, is_out_of_memory
from toplabel.preprocess.preprocess import Preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.model import Model
    from toplabel.inference.engines import Batch, EngineName

Forward = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
"""Pixels on the device, uint8 (N, h, w, P), in; logits (N, K), and perhaps features, out."""

_CAPTURING = fork_safe(threading.Lock())  # CUDA allows one capture at a time in a process

_WARM_UPS = 2  # forwards before a capture: libraries make their work spaces in the first

logger = logging.getLogger(__name__)


class PixelEngine:
    """Runs a model in PyTorch on pixels that it normalises on the device.

    It may be called by several threads at once: while one's batch is computed, others' travel.
    Tensors are taken, too. Float32 is computed in full, without TF32.

    Args:
        model: What to run; its preprocessing is no code of the user's.
        device: "cuda", "cuda:1"; "cpu", where it does the same without streams and graphs.
        dtype: "float32", "bfloat16" or "float16".
        threads: Threads that one call on the CPU computes with; None: as torch is set.
        features: It is asked for its features, too (`answer`).

    Raises:
        ModelError: It gives no features, and is asked for them.
        EngineError: The device or dtype is not to be had here; says what is.
    """

    name: EngineName = "torch"

    def __init__(
        self,
        model: Model,
        *,
        device: str = "cuda",
        dtype: str = "float32",
        threads: int | None = None,
        features: bool = False,
    ) -> None:
        assert isinstance(model.preprocess, Preprocess), "code of the user's makes tensors"
        self.normalises = model.preprocess
        self._eager = TorchEngine(
            model, device=device, dtype=dtype, threads=threads, features=features
        )
        self.device = self._eager.device
        place = torch.device(self.device)
        self._table = NormalisingTable(model.preprocess, place)
        self._pieces = Pieces(place)
        self._lane = _CudaLane(place) if place.type == "cuda" else _HostLane()
        self._turn = threading.Lock()
        self._label, self._answer = (
            self._forward_of(model.name, features=features) for features in (False, True)
        )

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """Logits of shape (N, K), float32, for pixels, uint8 (N, h, w, P), or tensors.

        A batch that memory has no room for is run in halves, and later ones in pieces of the size
        that fitted.

        Raises:
            EngineError: PyTorch failed.
            MemoryError: There was no room for a single image.
        """
        if batch.dtype != np.uint8:
            with self._turn:
                return self._eager(batch)
        (logits,) = self._run(batch, self._label)
        return logits

    def answer(self, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (N, K) and features (N, D), float32, for such a batch.

        Raises:
            ModelError: It gives no features.
            EngineError, MemoryError: As of a call.
        """
        if batch.dtype != np.uint8:
            with self._turn:
                return self._eager.answer(batch)
        logits, features = self._run(batch, self._answer)
        return logits, features

    def _run(self, batch: Batch, forward: Forward) -> list[NDArray[np.float32]]:
        def run(part: torch.Tensor) -> list[NDArray[np.float32]]:
            given = self._lane.run(part, forward, self._turn)
            return [rows[: len(part)] for rows in given]

        return self._pieces.run(np.require(batch, None, ["C", "W"]), run)

    def _forward_of(self, name: str, *, features: bool) -> Forward:
        compute = partial(self._eager.compute, features=features)

        def forward(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return compute(self._table.normalise(pixels))

        return CapturedForward(forward, name) if self.device != "cpu" else forward


class NormalisingTable:
    """`Preprocess.normalise` on a device, equal to the bit: every value is looked up.

    Args:
        preprocess: Whose.
        device: Where.
    """

    def __init__(self, preprocess: Preprocess, device: torch.device) -> None:
        tables = torch.from_numpy(preprocess.tables().copy())  # float32 (C, 256)
        self._values = tables.reshape(-1).to(device)
        self._begins = 256 * torch.arange(len(tables), dtype=torch.int32, device=device)  # (C,)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Float32 (N, C, h, w), channels last in memory, of uint8 (N, h, w, P)."""
        places = pixels.int() + self._begins  # (N, h, w, C); one plane serves every channel
        rows = torch.index_select(self._values, 0, places.reshape(-1))
        return rows.reshape(places.shape).permute(0, 3, 1, 2)


def padded_size(count: int) -> int:
    """The size that a batch of so many images is padded to: the next power of two."""
    return 1 << (count - 1).bit_length()


def _padded(part: torch.Tensor, *, pinned: bool) -> torch.Tensor:
    """The images with zeros behind them, in memory that a copy to a GPU need not wait for."""
    shape = (padded_size(len(part)), *part.shape[1:])
    if not pinned and shape == part.shape:
        return part
    whole = torch.empty(shape, dtype=part.dtype, pin_memory=pinned)
    whole[: len(part)] = part
    whole[len(part) :] = 0
    return whole


class _HostLane:
    """Batches on the CPU: nothing travels."""

    def run(
        self, part: torch.Tensor, forward: Forward, turn: threading.Lock
    ) -> list[NDArray[np.float32]]:
        """What a forward gives for the batch, which may be padded."""
        whole = _padded(part, pinned=False)
        with turn:
            return [rows.numpy() for rows in forward(whole)]


class _CudaLane:
    """Batches on their way to a GPU, and answers back, of several threads at once.

    Memory of both sides comes from PyTorch's caches, so that it is the same blocks again.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copying: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._computing: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def run(
        self, part: torch.Tensor, forward: Forward, turn: threading.Lock
    ) -> list[NDArray[np.float32]]:
        """What a forward gives for the batch, which may be padded."""
        with torch.cuda.device(self._device):
            whole = _padded(part, pinned=True)
            with torch.cuda.stream(self._copying):
                on_device = whole.to(self._device, non_blocking=True)
                arrived = self._copying.record_event()
            with turn, torch.cuda.stream(self._computing):
                self._computing.wait_event(arrived)
                on_device.record_stream(self._computing)
                rows = [self._fetch(one) for one in forward(on_device)]
                event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
                done = self._computing.record_event(event)
            done.synchronize()  # blocking: a thread that waits leaves its core to others
            return [one.numpy() for one in rows]

    def _fetch(self, rows: torch.Tensor) -> torch.Tensor:
        """Where they will be in the host's memory, once the stream is so far."""
        fetched = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
        return fetched.copy_(rows, non_blocking=True)


class CapturedForward:
    """A forward whose launches are captured in a CUDA graph, one for each shape of its input.

    A graph is used where it gives for other pixels what the forward gives. A network that cannot be
    captured, such as one that looks at its own numbers on the way, goes on without: said once.
    For one thread at a time, in the stream that it computes in.

    Args:
        forward: Of the network.
        name: The model's, for the log.
    """

    def __init__(self, forward: Forward, name: str) -> None:
        self._forward = forward
        self._name = name
        self._captured: dict[torch.Size, Forward] = {}

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the forward gives; of a graph it is overwritten by the next call."""
        known = self._captured.get(pixels.shape)
        if known is None:
            known = self._captured[pixels.shape] = self._capture_or_not(pixels)
        return known(pixels)

    def _capture_or_not(self, pixels: torch.Tensor) -> Forward:
        if any(known is self._forward for known in self._captured.values()):
            return self._forward  # one size could not be captured
        for _ in range(_WARM_UPS):
            self._forward(pixels)  # what fails here is no fault of the capture
        try:
            with _CAPTURING:
                captured = _capture(self._forward, pixels)
            _check_same(self._forward, captured, 255 - pixels)
        except Exception as error:
            if is_out_of_memory(error) and pixels.device.type == "cuda":
                torch.cuda.empty_cache()
            reason = first_line(error)
            logger.info("%s is run without a CUDA graph: %s", self._name, reason)
            return self._forward
        return captured


def _capture(forward: Forward, pixels: torch.Tensor) -> Forward:
    """A forward for this shape that launches all kernels at once."""
    given, graph = pixels.clone(), torch.cuda.CUDAGraph()
    # Other threads copy and allocate meanwhile: only what this one does is captured or forbidden.
    stream: Any = torch.cuda.current_stream(pixels.device)
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        outputs = forward(given)

    def replay(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given.copy_(pixels)
        graph.replay()
        return outputs

    return replay


def _check_same(forward: Forward, captured: Forward, pixels: torch.Tensor) -> None:
    """Refuse a capture that gives other numbers for pixels that it was not made with.

    Raises:
        EngineError: By how much they differ.
    """
    expected = [_as_array(rows) for rows in forward(pixels)]
    for rows, wanted in zip(captured(pixels), expected, strict=True):
        got = _as_array(rows)
        if np.array_equal(got, wanted, equal_nan=True):
            continue
        agreement = compare(wanted, got)
        if not agreement.agrees:
            raise EngineError(f"a captured forward gives other numbers: {agreement.reason}")


def _as_array(rows: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = rows.float().cpu().numpy()
    return array
