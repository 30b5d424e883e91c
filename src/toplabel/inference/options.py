"""Running: how a model is to be run. The options that `load` and `wrap` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypedDict, get_args

from toplabel.errors import UsageError
from toplabel.image.options import ReadOptions

EngineChoice = Literal["auto", "onnxruntime", "torch"]
Dtype = Literal["float32", "bfloat16", "float16"]
Notify = Callable[[str], None]


def _silent(text: str) -> None:
    """Tell nobody."""


def _warn(text: str) -> None:
    """Warn as Python does."""
    import warnings  # only where there is something to say

    warnings.warn(text, stacklevel=5)  # where the predictor was called


class Options(TypedDict, total=False):
    """Keyword arguments of `load` and `wrap`; what each means stands at `Running`."""

    engine: EngineChoice
    device: str
    dtype: Dtype
    threads: int | None
    batch_size: int | None
    exact: bool
    read: ReadOptions
    notify: Notify


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How a model is to be run.

    Args:
        engine: What computes: "onnxruntime", "torch", or "auto": ONNX Runtime, except on a GPU,
            in another dtype, or where a model could not be compiled.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto" is the CPU.
        dtype: What PyTorch computes in; lower precision than float32 can change labels.
        threads: Images worked on at once; None: one for each processor of this process.
        batch_size: Images in one call of the engine; None: 2 on a CPU, 64 on a GPU.
        exact: Never decode a large JPEG at a reduced scale first. Labels are the same either
            way; with it, scores too equal those of the library's own preprocessing.
        read: Limits and choices in reading images.
        notify: Called with one line of text when there is something to tell: what a short name
            became, progress of a compile, why a model stays in PyTorch.

    Raises:
        UsageError: A value is not accepted, or two contradict each other.
    """

    engine: EngineChoice = "auto"
    device: str = "auto"
    dtype: Dtype = "float32"
    threads: int | None = None
    batch_size: int | None = None
    exact: bool = False
    read: ReadOptions = field(default_factory=ReadOptions)
    notify: Notify = _silent

    def __post_init__(self) -> None:
        _check_choice("engine", self.engine, get_args(EngineChoice))
        _check_choice("dtype", self.dtype, get_args(Dtype))
        if self.engine == "onnxruntime" and self._beyond_onnxruntime:
            raise UsageError(
                f"got engine 'onnxruntime' with device {self.device!r} and dtype {self.dtype!r};"
                " it runs on the CPU in float32; for others use engine 'torch'"
            )

    @property
    def _beyond_onnxruntime(self) -> bool:
        return self.device not in ("auto", "cpu") or self.dtype != "float32"

    @property
    def warn(self) -> Notify:
        """Where warnings of usual mistakes go: to `notify`, or to Python's where there is none."""
        return _warn if self.notify is _silent else lambda text: self.notify(f"warning: {text}")

    @property
    def needs_torch(self) -> bool:
        """Whether only PyTorch can do what is asked for."""
        return self.engine == "torch" or self._beyond_onnxruntime


def _check_choice(name: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise UsageError(f"got {name} {value!r}; expected one of {', '.join(accepted)}")
