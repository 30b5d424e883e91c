"""The PyTorch engine: eager, on the CPU, CUDA or Apple's GPU; the reference, and for GPUs."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from toplabel._internal.text import first_line
from toplabel.errors import EngineError, ToplabelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.model import Model
    from toplabel.inference.engines import EngineName

_PLAIN = torch.contiguous_format
_TF32, _before = threading.Lock(), list[tuple[bool, bool]]()
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchEngine:
    """Runs a model in eager PyTorch.

    Weights stay float32 and on the CPU in the model itself: for another device a copy is made.
    With dtype bfloat16 or float16, products and convolutions are computed in it (autocast), the
    rest in float32; scores then differ in the third digit, and a close label may change.

    Args:
        model: What to run.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto" is the CPU.
        dtype: "float32", "bfloat16" or "float16".
        threads: Threads that one call on the CPU computes with; None: as torch is set.

    Raises:
        EngineError: The device or dtype is not to be had here; says what is.
    """

    name: EngineName = "torch"

    def __init__(
        self,
        model: Model,
        *,
        device: str = "auto",
        dtype: str = "float32",
        threads: int | None = None,
    ) -> None:
        self._device = find_device(device)
        self._dtype = _find_dtype(dtype)
        self._threads = threads
        self._module = _place(model.module, self._device)
        # On the CPU channels-last was 0 to 10 % faster: too little for modules that cannot take it.
        self._layout = torch.channels_last if self._device.type == "cuda" else _PLAIN
        self._largest_batch: int | None = None
        self.device = str(self._device)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of shape (N, K), float32, for a batch of shape (N, C, H, W), float32.

        A batch that memory has no room for is run in halves, and later ones in pieces of the size
        that fitted.

        Raises:
            EngineError: PyTorch failed.
            MemoryError: There was no room for a single image.
        """
        if self._device.type == "cpu" and self._threads not in (None, torch.get_num_threads()):
            torch.set_num_threads(self._threads)  # counts for the calling thread
        pixels = torch.from_numpy(np.require(batch, np.float32, ["C", "W"]))
        size = min(len(batch), self._largest_batch or len(batch))
        while True:
            try:
                starts = range(0, len(pixels), size)
                return np.concatenate([self._run(pixels[at : at + size]) for at in starts])
            except ToplabelError:
                raise
            except Exception as error:
                if not _is_out_of_memory(error):
                    raise EngineError(f"torch failed: {first_line(error)}") from error
                if size == 1:
                    raise MemoryError(f"no room for one image on {self.device}: {error}") from error
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            size = self._largest_batch = (size + 1) // 2

    def _run(self, part: torch.Tensor) -> NDArray[np.float32]:
        try:
            return self._forward(part)
        except RuntimeError as error:
            if self._layout is _PLAIN or "view size is not compatible" not in str(error):
                raise
        self._layout = _PLAIN  # its code counts on it
        return self._forward(part)

    def _forward(self, part: torch.Tensor) -> NDArray[np.float32]:
        with torch.inference_mode(), self._precision():
            on_device = part.to(self._device, non_blocking=True)
            logits: torch.Tensor = self._module(on_device.to(memory_format=self._layout))
            return logits.float().cpu().numpy()

    def _precision(self) -> AbstractContextManager[Any]:
        if self._dtype is not torch.float32:
            return torch.autocast(self._device.type, self._dtype)
        return _full_float32() if self._device.type == "cuda" else nullcontext()


def find_device(device: str) -> torch.device:
    """The device of that name; "auto" is the CPU.

    Raises:
        EngineError: It is not to be had here; says what is.
    """
    available = available_devices()
    names = {"auto": "cpu", "cuda": "cuda:0", "mps:0": "mps"}
    name = names.get(device, device)
    if name not in available:
        raise EngineError(f"got device {device!r}; available here: {', '.join(available)}")
    return torch.device(name)


def available_devices() -> list[str]:
    """The devices that this torch can compute on here: "cpu" first."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *(cuda if torch.cuda.is_available() else []), *mps]


def _find_dtype(dtype: str) -> torch.dtype:
    if dtype not in DTYPES:
        raise EngineError(f"got dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _place(module: nn.Module, device: torch.device) -> nn.Module:
    """The module itself on the CPU; on another device a copy, in the layout that is fast there."""
    if device.type == "cpu":
        return module
    try:
        placed = copy.deepcopy(module).to(device)
    except (RuntimeError, MemoryError) as error:
        raise EngineError(f"cannot put the model on {device}: {first_line(error)}") from error
    return placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    marks = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate")
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or any(
        mark in text for mark in marks
    )


@contextmanager
def _full_float32() -> Iterator[None]:
    """CUDA convolutions and products in float32, without TF32's 10-bit mantissa."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    with _TF32:  # the flags are the process's: what the first thread found, the last one restores
        _before.append((cudnn.allow_tf32, matmul.allow_tf32))
        cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        yield
    finally:
        with _TF32:
            before = _before.pop()
            if not _before:
                cudnn.allow_tf32, matmul.allow_tf32 = before
