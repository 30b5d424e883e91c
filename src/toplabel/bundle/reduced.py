"""A reduced program: the same network in fewer bits, faster, and not believed near a boundary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

from toplabel.bundle.margin import Margin
from toplabel.bundle.program import Program
from toplabel.errors import BundleError

REDUCED_NAME = "reduced.onnx"
REDUCED_REFERENCE_NAME = "reduced.npz"

OF_MARGIN = 0.1
"""The share of the margin that another ONNX Runtime or processor may use up: the margin was found
with the logits that the program gave where it was made."""

Precision = Literal["int8", "bfloat16"]
"""What a reduced program computes in; an exact one computes in float32."""

ReducedEngine = Literal["onnxruntime", "openvino"]

_FACTS: dict[str, Any] = {
    "precision": str,
    "engine": str,
    "speedup": float | int,
    "processor": str,
    "images": int,
    "key": str,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReducedProgram:
    """What stands in for an exact program where the answer is clear.

    Its input and output have the names and shapes of the exact program's, and its last linear
    layer is in float32, so that features, class priors and what tells unknown images work alike.

    Args:
        path: The ONNX file.
        reference_path: Reference inputs and the logits that this program gave for them
            (`ReferenceOutputs`); compared when it meets another ONNX Runtime or processor.
        key: What it was made from, as 64 hexadecimal digits.
        precision: What it computes in.
        engine: What runs it.
        margin: How near to a boundary its answer is not believed.
        speedup: How many times as fast as the exact program it was, where it was made.
        processor: Where that was.
        images: How many images it was made with, in all.
    """

    path: Path
    reference_path: Path
    key: str
    precision: Precision
    engine: ReducedEngine
    margin: Margin
    speedup: float
    processor: str
    images: int

    def __post_init__(self) -> None:
        for value, known in ((self.precision, Precision), (self.engine, ReducedEngine)):
            if value not in get_args(known):
                raise BundleError(f"got a reduced program of {value!r}; expected {get_args(known)}")

    def as_program(self, exact: Program) -> Program:
        """The program for an engine: as the exact one, with its own file and reference outputs."""
        return replace(
            exact,
            path=self.path,
            reference_path=self.reference_path,
            key=self.key,
            agreement={},
            tolerance=OF_MARGIN * self.margin.logits,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; not where its files are."""
        return {**{name: getattr(self, name) for name in _FACTS}, "margin": self.margin.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], folder: Path) -> Self:
        """The reduced program that `to_dict` wrote, whose files are in `folder`.

        Raises:
            BundleError: A value is not accepted.
            TypeError, KeyError: A field is of another type, unknown, or missing.
        """
        facts = dict(values)
        margin = Margin.from_dict(facts.pop("margin"))
        for name, value in facts.items():
            if isinstance(value, bool) or not isinstance(value, _FACTS[name]):
                raise TypeError(f"got {name}={value!r}")
        return cls(
            path=folder / REDUCED_NAME,
            reference_path=folder / REDUCED_REFERENCE_NAME,
            margin=margin,
            **facts,
        )
