"""Optimize: a model and images in; the fastest way to compute it that keeps the labels, measured.

Every way in `WAYS` is tried on this machine. The fastest that changes no label beyond a margin is
kept in the cache, and used from then on by whoever asks for it with fast=True.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from toplabel._internal.optional import require
from toplabel._internal.options import suggests_names
from toplabel._internal.platform import processor_title
from toplabel.bundle.bundle import Bundle
from toplabel.bundle.cache import forget_program
from toplabel.bundle.file import check_target, pack
from toplabel.bundle.reduced import ReducedProgram, store_reduced
from toplabel.errors import ModelError, UsageError
from toplabel.image.files import is_url
from toplabel.image.paths import expand, is_pattern
from toplabel.inference.predictor import Predictor
from toplabel.models.load import shared_predictor
from toplabel.models.reduce import INT8, Reduction, Way, check_count, reduce

Images = str | os.PathLike[str] | Iterable[Any]
Progress = Callable[[int, int], None]

EXACT = "float32"
WAYS = (INT8, Way("int8", "openvino"), Way("bfloat16", "openvino"))
"""What is tried besides float32, those of OpenVINO where that is installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A way to compute a model's answers, as it was measured.

    Args:
        name: Its precision: "float32", "int8", "int8 by OpenVINO", "bfloat16 by OpenVINO".
        kept: It is what fast=True uses from now on.
        milliseconds: Of one thread, for one image; None where it could not be tried.
        speedup: How many times as fast as float32 it is.
        net: The same where what lies within the margin is computed again.
        images: How many images it was compared on.
        changed: How many of their labels differ from those of float32, without any margin.
        again: The share that is computed again, in [0, 1], on the images that checked the margin.
        bound: The highest rate of labels that it changes for all that, at 95 % confidence.
        size_bytes: Of its file.
        reason: Why it is not used, in one line; empty where it may be.
    """

    name: str
    kept: bool = False
    milliseconds: float | None = None
    speedup: float | None = None
    net: float | None = None
    images: int = 0
    changed: int | None = None
    again: float | None = None
    bound: float | None = None
    size_bytes: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimized:
    """A model's ways to be computed on this machine, and which of them was kept.

    Args:
        model: Its name, in full.
        processor: What it was measured on.
        candidates: What was tried; the first is float32, the exact way.
    """

    model: str
    processor: str
    candidates: tuple[Candidate, ...]
    _bundle: Bundle

    @property
    def kept(self) -> Candidate:
        """The way that fast=True uses from now on; the exact one where no other may be used."""
        return next((one for one in self.candidates if one.kept), self.candidates[0])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model into one file, with its reduced program where one was kept."""
        check_target(path)
        pack(self._bundle, path)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "model": self.model,
            "processor": self.processor,
            "kept": self.kept.name,
            "candidates": [asdict(one) for one in self.candidates],
        }


@suggests_names
def optimize(
    model: Predictor | str | os.PathLike[str] | None,
    images: Images,
    *,
    progress: Progress | None = None,
) -> Optimized:
    """Find the fastest way to compute a model on this machine that keeps its labels.

    Its program is made in int8, compared with the exact one, and timed; with OpenVINO, where that
    is installed, in bfloat16, too. On one part of the images a margin is found: an answer closer
    than it to another label is computed again exactly. On the other part it is checked that no
    label changes then. The fastest that passes is kept in the cache, and used by
    `load(..., fast=True)` and `--fast`.

    >>> toplabel.optimize("resnet50", "photos/").kept.name  # doctest: +SKIP
    'int8'

    Args:
        model: A predictor, or what `load` takes.
        images: Those that the model is used on, or like them, at least 216 and better 1,000: a
            folder, a pattern, or a list of what `load(...)` labels. They need no classes.
        progress: Called with the number of images done, and of all.

    Raises:
        UsageError: There are too few images, or the cache cannot be written to.
        ModelError: The model runs in PyTorch only, so that there is no program to reduce.
        MissingDependency: onnx is not installed: `toplabel[optimize]`.
    """
    require("onnx", extra="optimize", purpose="optimizing a model")
    sources = read_images(images)
    predictor = model if isinstance(model, Predictor) else shared_predictor(model)
    bundle = bundle_of(predictor)
    tried: dict[str, Reduction] = {}

    def build(folder: Path) -> tuple[ReducedProgram | None, dict[str, Any]]:
        for way in WAYS:
            if way.engine == "onnxruntime" or find_spec(way.engine) is not None:
                own = folder / str(way)
                own.mkdir()
                tried[str(way)] = reduce(
                    bundle, sources, own, way=way, read=predictor.read, progress=progress
                )
        return _take_fastest(tried, folder)

    try:
        reduced = store_reduced(bundle, build)
    except OSError as error:
        raise UsageError(
            f"cannot keep the reduced program in the cache ({error.strerror or error}); set"
            " TOPLABEL_CACHE to a folder that can be written to"
        ) from error
    return Optimized(
        model=bundle.name,
        processor=processor_title(),
        candidates=_candidates(bundle, tried, kept=reduced),
        _bundle=replace(bundle, reduced=reduced),
    )


def save_in_int8(
    predictor: Predictor,
    images: Images,
    path: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
) -> Reduction:
    """Write the model into one file, with its program in int8; without it where there is none.

    What came of that is returned; its `reason` says why there is none.

    Raises:
        UsageError: There are too few images, or the file cannot be written there.
        ModelError: The model runs in PyTorch only.
        MissingDependency: onnx is not installed.
    """
    require("onnx", extra="optimize", purpose="packing a model in int8")
    check_target(path)
    sources = read_images(images)
    bundle = bundle_of(predictor)
    with tempfile.TemporaryDirectory(prefix="toplabel-") as folder:
        found = reduce(bundle, sources, Path(folder), read=predictor.read, progress=progress)
        pack(replace(bundle, reduced=found.program), path)
    return found


def read_images(images: Images) -> list[object]:
    """The sources that are named, at least as many as reduced precision needs.

    Raises:
        UsageError: They are fewer, or a name stands for none.
    """
    named = [images] if isinstance(images, str | os.PathLike) else list(images)
    sources: list[object] = []
    for one in named:
        _check_exists(one)
        sources += expand([os.fspath(one)]) if isinstance(one, str | os.PathLike) else [one]
    check_count(len(sources))
    return sources


def _check_exists(named: object) -> None:
    """Refuse the name of a file or folder that is not there."""
    if not isinstance(named, str | os.PathLike):
        return
    name = os.fspath(named)
    if not (name == "-" or is_url(name) or is_pattern(name) or os.path.lexists(name)):
        raise UsageError(f"there is no file or folder {name!r}")


def bundle_of(predictor: Predictor) -> Bundle:
    """The bundle whose program is to be reduced.

    Raises:
        ModelError: It has none.
    """
    predictor.compile()
    bundle = predictor.classifier.bundle
    if bundle is None:
        reason = predictor.classifier.unsaved or "it could not be compiled"
        raise ModelError(f"{predictor.name} has no program that could be reduced: {reason}")
    return bundle


def _take_fastest(
    tried: dict[str, Reduction], folder: Path
) -> tuple[ReducedProgram | None, dict[str, Any]]:
    """Move the files of the fastest way that may be used into `folder` itself; drop the others."""
    usable = {name: one for name, one in tried.items() if one.program is not None}
    best = max(usable, key=lambda name: usable[name].net or 0, default=None)
    found = None if best is None else usable[best].program
    for name in tried:
        for path in (folder / name).iterdir():
            path.replace(folder / path.name) if name == best else path.unlink()
        (folder / name).rmdir()
    for name, one in usable.items():
        if name != best and one.program is not None:
            forget_program(one.program.key)  # what its engine has kept
    record = {name: asdict(_candidate(name, one, kept=name == best)) for name, one in tried.items()}
    if found is None:
        return None, record
    moved = replace(
        found, path=folder / found.path.name, reference_path=folder / found.reference_path.name
    )
    return moved, record


def _candidates(
    bundle: Bundle, tried: dict[str, Reduction], *, kept: ReducedProgram | None
) -> tuple[Candidate, ...]:
    """All ways, the exact one first."""
    times = [one.timing.exact for one in tried.values() if one.timing is not None]
    exact = Candidate(
        name=EXACT,
        kept=kept is None,
        milliseconds=1000 * min(times) if times else None,
        speedup=1.0,
        net=1.0,
        size_bytes=bundle.program.path.stat().st_size,
    )
    others = (
        _candidate(
            name,
            one,
            kept=kept is not None and one.program is not None and one.program.key == kept.key,
        )
        for name, one in tried.items()
    )
    return exact, *others


def _candidate(name: str, found: Reduction, *, kept: bool) -> Candidate:
    timing, margin = found.timing, found.margin
    return Candidate(
        name=name,
        kept=kept,
        milliseconds=None if timing is None else 1000 * timing.reduced,
        speedup=None if timing is None else timing.speedup,
        net=found.net,
        images=found.images,
        changed=found.changed,
        again=None if margin is None else margin.again,
        bound=None if margin is None else margin.bound,
        size_bytes=found.size_bytes,
        reason=found.reason,
    )
