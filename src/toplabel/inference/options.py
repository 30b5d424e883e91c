"""Options of inference: how a model is run. `load` and `wrap` share them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from toplabel._internal.options import option
from toplabel.errors import UsageError
from toplabel.image.options import ReadOptions

EngineChoice = Literal["auto", "onnxruntime", "torch"]
Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceOptions:
    """How a model is run.

    Raises:
        UsageError: A value is not accepted, or two contradict each other.
    """

    engine: EngineChoice = option(
        "auto",
        choices=get_args(EngineChoice),
        help="Engine to run the model with. auto is ONNX Runtime, except on a GPU, in another"
        " dtype, or if a model could not be compiled.",
    )
    device: str = option(
        "auto", metavar="DEVICE", help="cpu, cuda, cuda:1 or mps; auto is the CPU."
    )
    dtype: Dtype = option(
        "float32",
        choices=get_args(Dtype),
        help="Data type in PyTorch; lower precision than float32 can change labels.",
    )
    threads: int | None = option(
        None,
        minimum=1,
        metavar="N",
        help="Images processed at once. By default one per available processor.",
    )
    batch_size: int | None = option(
        None,
        minimum=1,
        metavar="N",
        help="Images in one call of the engine. By default 2 on a CPU, 64 on a GPU.",
    )
    exact: bool = option(
        False,
        help="Always decode large JPEGs at full size. Labels are the same either way; with it,"
        " scores also equal those of the library's own preprocessing.",
    )
    read: ReadOptions = option(
        factory=ReadOptions, shell=False, help="Limits and choices in reading images."
    )

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
    def needs_torch(self) -> bool:
        """Whether only PyTorch can do what is asked for."""
        return self.engine == "torch" or self._beyond_onnxruntime


def _check_choice(name: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise UsageError(f"got {name} {value!r}; expected one of {', '.join(accepted)}")
