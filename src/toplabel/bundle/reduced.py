"""A reduced program: the same network in fewer bits, faster, and not believed near a boundary.

A packed bundle may carry one. What `toplabel optimize` made on this machine is kept in the cache,
by the exact program's key, and holds for one way to ask it: its preprocessing, and what its outputs
are. Labels and calibration may change without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from toplabel._internal.json_file import read_json
from toplabel._internal.platform import multiplies_bytes_exactly
from toplabel.bundle import cache
from toplabel.bundle.margin import Margin
from toplabel.bundle.program import Program
from toplabel.errors import BundleError

if TYPE_CHECKING:
    from toplabel.bundle.bundle import Bundle

REDUCED_NAME = "reduced.onnx"
REDUCED_REFERENCE_NAME = "reduced.npz"

OF_MARGIN = 0.2
"""The share of the margin that another ONNX Runtime or processor may use up, by one logit: the
margin was found with those that the program gave where it was made. EfficientNet-Lite0 computed in
other arithmetic, by float32 between rounding to 8 bits, moves by 0.16 of its margin at most."""

_SCORE_OF_LOGIT = 0.01
"""What a score moves by for each logit (log odds) at 0.01 and 0.99; between them it is more."""

Precision = Literal["int8", "bfloat16"]
"""What a reduced program computes in; an exact one computes in float32."""

ReducedEngine = Literal["onnxruntime", "openvino"]

_SCHEMA = 1  # of what the cache keeps of one
_DESCRIPTION_NAME = "reduced.json"
_FACTS: dict[str, Any] = {
    "precision": str,
    "engine": str,
    "speedup": float | int,
    "processor": str,
    "images": int,
    "key": str,
    "bits": int,
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
        bits: Of the weights of an int8 program: 8; or 7, for processors whose sums of products of 8
            bits overflow.
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
    bits: int = 8

    def __post_init__(self) -> None:
        for value, known in ((self.precision, Precision), (self.engine, ReducedEngine)):
            if value not in get_args(known):
                raise BundleError(f"got a reduced program of {value!r}; expected {get_args(known)}")

    def as_program(self, exact: Program, *, gives_scores: bool = False) -> Program:
        """The program for an engine: as the exact one, with its own file and reference outputs.

        Args:
            exact: The exact one.
            gives_scores: What it gives are no logits yet, which the margin is in.
        """
        share = OF_MARGIN * (_SCORE_OF_LOGIT if gives_scores else 1)
        return replace(
            exact,
            path=self.path,
            reference_path=self.reference_path,
            key=self.key,
            agreement={},
            tolerance=share * self.margin.logits,
        )

    @property
    def why_not_here(self) -> str | None:
        """Why this machine's processor cannot run it as it was checked; None where it can."""
        if self.precision != "int8" or self.bits < 8 or multiplies_bytes_exactly():
            return None
        return (
            f"its int8 weights need a processor with VNNI, as the {self.processor} where it was"
            " made; this one's sums would overflow: toplabel optimize makes one for it"
        )

    def check_in_place(self) -> None:
        """Stop where another has been put in its place in the cache, whose margin is not this one.

        Raises:
            BundleError: Says so.
        """
        kept = read_json(self.path.with_name(_DESCRIPTION_NAME))
        if kept is None:  # one that a bundle brings, or that is being made
            return
        now = kept.get("reduced")
        if not isinstance(now, dict) or now.get("key") != self.key:
            raise BundleError("it has been made again since the model was loaded; load it again")

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


def with_reduced_here(bundle: Bundle) -> Bundle:
    """The bundle with the reduced program that was made for it here.

    Without any where it was measured that none may be used; as it is where nobody measured.
    """
    kept = _find(bundle)
    return bundle if kept is None else replace(bundle, reduced=kept.program)


def find_reduced(bundle: Bundle) -> ReducedProgram | None:
    """The reduced program that was made here for the bundle; None where there is none."""
    kept = _find(bundle)
    return None if kept is None else kept.program


def is_without_here(bundle: Bundle) -> bool:
    """Whether it was measured here that no reduced program of the bundle may be used."""
    kept = _find(bundle)
    return kept is not None and kept.program is None


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was found for a bundle on this machine: its reduced program, or that there is none."""

    program: ReducedProgram | None


def _find(bundle: Bundle) -> _Kept | None:
    """What was found for it; None where nobody looked."""
    folder = cache.reduced_folder(bundle.program.key)
    kept = read_json(folder / _DESCRIPTION_NAME)
    if kept is None or kept.get("schema") != _SCHEMA or kept.get("asked") != _asked(bundle):
        return None
    try:
        facts = kept["reduced"]
        found = None if facts is None else ReducedProgram.from_dict(facts, folder)
    except (BundleError, KeyError, TypeError, ValueError):  # damaged, or another version's
        return None
    if found is not None and not (found.path.is_file() and found.reference_path.is_file()):
        return None
    return _Kept(found)


def store_reduced(
    bundle: Bundle, build: Callable[[Path], tuple[ReducedProgram | None, Mapping[str, Any]]]
) -> ReducedProgram | None:
    """The reduced program that `build` makes in the empty folder it is given, kept in the cache.

    That there is none is kept, too: it holds for one that the bundle brings.

    Args:
        bundle: What it is for.
        build: Gives the program, or None, and how it was measured, as plain data for JSON.

    Raises:
        OSError: The cache cannot be written to, or its disk is full.
    """

    def build_and_describe(folder: Path) -> ReducedProgram | None:
        found, record = build(folder)
        content = {
            "schema": _SCHEMA,
            "asked": _asked(bundle),
            "reduced": None if found is None else found.to_dict(),
            "measured": dict(record),
        }
        text = json.dumps(content, indent=1) + "\n"
        (folder / _DESCRIPTION_NAME).write_text(text, encoding="utf-8")
        return found

    before = find_reduced(bundle)
    found = cache.store_reduced(bundle.program.key, build_and_describe)
    if before is not None and (found is None or found.key != before.key):
        cache.forget_program(before.key)  # what its engine has kept
    if found is None:
        return None
    folder = cache.reduced_folder(bundle.program.key)
    return replace(
        found,
        path=folder / found.path.name,
        reference_path=folder / found.reference_path.name,
    )


def _asked(bundle: Bundle) -> dict[str, Any]:
    """What its images become before it, and its outputs behind it, as JSON gives it back."""
    asked = {
        "preprocess": bundle.preprocess.to_dict(),
        "activation": bundle.activation,
        "multi_label": bundle.multi_label,
        "conversion": bundle.conversion.to_dict(),
    }
    known: dict[str, Any] = json.loads(json.dumps(asked))
    return known
