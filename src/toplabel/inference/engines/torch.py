"""The PyTorch engine: eager, on the CPU, CUDA or Apple's GPU; the reference, and for GPUs."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import nn

from toplabel._internal.text import first_line
from toplabel.errors import EngineError, ToplabelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.model import Model
    from toplabel.inference.engines import Batch, EngineName
    from toplabel.inference.engines.torch_features import Layer

Given = TypeVar("Given")

_PLAIN = torch.contiguous_format
_TF32, _before = threading.Lock(), list[list["_Switch"]]()
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
        features: It is asked for its features, too (`answer`).

    Raises:
        ModelError: It gives no features, and is asked for them.
        EngineError: The device or dtype is not to be had here; says what is.
    """

    name: EngineName = "torch"
    normalises = None

    def __init__(
        self,
        model: Model,
        *,
        device: str = "auto",
        dtype: str = "float32",
        threads: int | None = None,
        features: bool = False,
    ) -> None:
        self._device = find_device(device)
        self._dtype = _find_dtype(dtype)
        self._threads = threads
        self._module = _place(model.module, self._device)
        # On the CPU channels-last was 0 to 10 % faster: too little for modules that cannot take it.
        self._layout = torch.channels_last if self._device.type == "cuda" else _PLAIN
        self.device = str(self._device)
        self._pieces = Pieces(self._device)
        self._layer = self._find_layer(model) if features else None

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """Logits of shape (N, K), float32, for a batch of shape (N, C, H, W), float32.

        A batch that memory has no room for is run in halves, and later ones in pieces of the size
        that fitted.

        Raises:
            EngineError: PyTorch failed.
            MemoryError: There was no room for a single image.
        """
        (logits,) = self._run(batch, features=False)
        return logits

    def answer(self, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (N, K) and features (N, D), float32, for a batch (N, C, H, W), float32.

        Raises:
            ModelError: It gives no features.
            EngineError, MemoryError: As of a call.
        """
        logits, features = self._run(batch, features=True)
        return logits, features

    def _run(self, batch: Batch, *, features: bool) -> list[NDArray[np.float32]]:
        def run(part: torch.Tensor) -> list[NDArray[np.float32]]:
            on_device = part.to(self._device, non_blocking=True)
            return [rows.cpu().numpy() for rows in self.compute(on_device, features=features)]

        return self._pieces.run(np.require(batch, np.float32, ["C", "W"]), run)

    def compute(self, batch: torch.Tensor, *, features: bool) -> tuple[torch.Tensor, ...]:
        """Logits (N, K), and features (N, D) where asked for; all on the device, float32.

        Args:
            batch: float32 (N, C, H, W), on the device.
            features: Whether it is asked for these, too.
        """
        forward = self._forward_with_features if features else self._forward_alone
        return self._in_layout(batch, forward)

    def _in_layout(self, batch: torch.Tensor, forward: Callable[[torch.Tensor], Given]) -> Given:
        """What a forward gives for a batch on the device, in the layout that is fast there."""
        if self._device.type == "cpu" and self._threads not in (None, torch.get_num_threads()):
            torch.set_num_threads(self._threads)  # counts for the calling thread
        with torch.inference_mode(), self._precision():
            try:
                return forward(batch.to(memory_format=self._layout))
            except RuntimeError as error:
                if self._layout is _PLAIN or "view size is not compatible" not in str(error):
                    raise
            self._layout = _PLAIN  # its code counts on it
            self._module.to(memory_format=_PLAIN)  # type: ignore[call-overload]
            return forward(batch.contiguous())

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._module(batch)
        return logits

    def _forward_alone(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self._forward(batch).float(),)

    def _forward_with_features(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        from toplabel.inference.engines.torch_features import TakenBy

        assert self._layer is not None, "it was opened without features"
        with TakenBy(self._layer) as taken:
            logits = self._forward(batch)
        return logits.float(), taken.rows(len(batch))

    def _find_layer(self, model: Model) -> Layer:
        """The network's last linear layer, found in a forward of an image without content."""
        from toplabel.inference.engines.torch_features import find_layer  # labels do without

        shape = (1, model.preprocess.num_channels, *model.preprocess.input_size)
        found: list[Layer] = []

        def run(part: torch.Tensor) -> list[NDArray[np.float32]]:
            find = partial(find_layer, self._forward)
            found.append(self._in_layout(part.to(self._device), find))
            return []

        self._pieces.run(np.zeros(shape, np.float32), run)
        return found[-1]

    def _precision(self) -> AbstractContextManager[Any]:
        if self._dtype is not torch.float32:
            return torch.autocast(self._device.type, self._dtype, cache_enabled=False)
        return _full_float32() if self._device.type == "cuda" else nullcontext()


class Pieces:
    """Runs batches at once, or in pieces that memory has room for; remembers what fitted.

    Args:
        device: Whose memory it is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._largest: int | None = None

    def run(
        self, batch: Batch, run: Callable[[torch.Tensor], list[NDArray[np.float32]]]
    ) -> list[NDArray[np.float32]]:
        """What `run` gives for a tensor of the batch: arrays with a row for each image.

        Raises:
            EngineError: PyTorch failed.
            MemoryError: There was no room for a single image.
        """
        whole = torch.from_numpy(batch)
        size = min(len(whole), self._largest or len(whole))
        while True:
            try:
                starts = range(0, len(whole), size)
                pieces = [run(whole[at : at + size]) for at in starts]
                return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
            except ToplabelError:
                raise
            except Exception as error:
                if not is_out_of_memory(error):
                    raise EngineError(f"torch failed: {first_line(error)}") from error
                if size == 1:
                    where = f"no room for one image on {self._device}"
                    raise MemoryError(f"{where}: {error}") from error
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            size = self._largest = (size + 1) // 2


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


def check_cuda() -> None:
    """Refuse to go on without a GPU that this PyTorch can compute on.

    Raises:
        EngineError: Says why, as of a driver that is too old, which PyTorch would warn of.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return
    reason = first_line(told[0].message) if told else "PyTorch finds none"
    raise EngineError(f"no GPU can be used: {reason}")


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch failed for want of memory, on a CPU or a GPU."""
    text = str(error).lower()
    marks = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate")
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or any(
        mark in text for mark in marks
    )


@contextmanager
def _full_float32() -> Iterator[None]:
    """CUDA convolutions and products in float32, without TF32's 10-bit mantissa."""
    with _TF32:  # the flags are the process's: what the first thread found, the last one restores
        _before.append([_Switch.of(name) for name in _SWITCHES])
        for name in _SWITCHES:
            _Switch(name, allowed=False).set()
    try:
        yield
    finally:
        with _TF32:
            before = _before.pop()
            for switch in () if _before else before:
                switch.set()


@dataclass(frozen=True, slots=True)
class _Switch:
    """What may be computed in TF32, by PyTorch's older flag, and by its newer one of each kind.

    They have to agree, or PyTorch refuses to compute.

    Args:
        name: Of those below.
        allowed: The older flag.
        precisions: The newer ones; without them, full float32.
    """

    name: str
    allowed: bool
    precisions: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str) -> _Switch:
        """What it is now."""
        flag, parts = _SWITCHES[name]
        precisions = tuple(part.fp32_precision for part in parts)
        try:
            return cls(name, flag.allow_tf32, precisions)
        except RuntimeError:  # somebody set the newer one alone, and the older one disagrees
            return cls(name, precisions[0] != "tf32", precisions)

    def set(self) -> None:
        """Make it so."""
        flag, parts = _SWITCHES[self.name]
        flag.allow_tf32 = self.allowed
        for part, precision in zip(parts, self.precisions or ["ieee"] * len(parts), strict=True):
            part.fp32_precision = precision


_SWITCHES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "products": (torch.backends.cuda.matmul, (torch.backends.cuda.matmul,)),
    "cuDNN": (
        torch.backends.cudnn,
        tuple(getattr(torch.backends.cudnn, part, None) for part in ("conv", "rnn")),
    ),
}
if None in _SWITCHES["cuDNN"][1]:  # PyTorch before 2.9 has the older flags alone
    _SWITCHES = {name: (flag, ()) for name, (flag, _) in _SWITCHES.items()}
