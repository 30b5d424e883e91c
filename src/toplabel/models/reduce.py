"""Reduce: a bundle and images of its user in; its program in fewer bits out, or why there is none.

A reduced program is kept only where it passes four gates, cheapest first: its reference outputs are
answers, the same in batches of any size; it is faster; its labels agree with those of the exact
program; a margin holds on images that it was not found on. And then it must still be faster when
what lies within the margin is computed again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from math import inf
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from toplabel._internal import platform
from toplabel._internal.onnxruntime import open_session
from toplabel._internal.ordered_map import ordered_map
from toplabel._internal.text import first_line, percent
from toplabel.bundle.bundle import Bundle
from toplabel.bundle.cache import forget_program
from toplabel.bundle.margin import Margin
from toplabel.bundle.onnx_header import read_onnx_header
from toplabel.bundle.program import NotCompiled, Program
from toplabel.bundle.reduced import (
    OF_MARGIN,
    REDUCED_NAME,
    REDUCED_REFERENCE_NAME,
    Precision,
    ReducedEngine,
    ReducedProgram,
)
from toplabel.bundle.reference import ReferenceOutputs, replay_once
from toplabel.bundle.trust import Run
from toplabel.errors import EngineError, ImageError, ModelError, UsageError
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image
from toplabel.inference.classifier import Classifier
from toplabel.inference.engines import Engine, FloatPrecision, open_program
from toplabel.inference.margin import LEAST_IMAGES as LEAST_FOR_MARGIN, fit_margin
from toplabel.inference.scoring import Question
from toplabel.models.compile.quantise import Tensors, float_layers, quantise

CALIBRATING = 32
"""How many images say between which values each tensor of the network lies; fewer, down to
`_LEAST_CALIBRATING`, where a margin needs the others."""
_LEAST_CALIBRATING = 16
LEAST_IMAGES = _LEAST_CALIBRATING + LEAST_FOR_MARGIN
MOST_IMAGES = CALIBRATING + 1200
"""Of more images, so many are taken, evenly spread."""

LEAST_AGREEMENT = 0.9
"""The share of labels that a reduced program must have right without any margin."""
LEAST_GAIN = 1.1
"""How many times as fast it must be, what is computed again included."""

_OF_SPREAD = 0.05
"""What reference outputs may differ by between batches, for each unit of their spread: rounding to
256 values makes a step of what float32 calculates as a difference in the last digit."""
_ROUNDS, _RUNS, _TIMING_SECONDS = 9, 3, 20.0

Progress = Callable[[int, int], None]
Prepare = Callable[[object], NDArray[np.float32] | None]
"""From an image to the network's input, (1, C, H, W); None where it cannot be read."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to compute a program in fewer bits."""

    precision: Precision
    engine: ReducedEngine

    def __str__(self) -> str:
        return self.precision if self.engine == "onnxruntime" else f"{self.precision} by OpenVINO"


INT8 = Way("int8", "onnxruntime")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of processor time that one image takes, one at a time on one thread."""

    exact: float
    reduced: float

    @property
    def speedup(self) -> float:
        """How many times as fast the reduced program is."""
        return self.exact / self.reduced

    def net(self, again: float) -> float:
        """The same where the share `again` of images is computed exactly besides."""
        return self.exact / (self.reduced + again * self.exact)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction:
    """What came of reducing a program, as far as it went.

    Args:
        program: The reduced program; None where there is none to be used.
        reason: Why there is none, in one line; empty where there is one.
        timing: How fast it is.
        images: How many images have a label by both programs, without those it was made with.
        changed: How many of their labels it changes where no margin guards them.
        margin: Below which its answers are not believed.
        size_bytes: Of its file.
    """

    program: ReducedProgram | None = None
    reason: str = ""
    timing: Timing | None = None
    images: int = 0
    changed: int | None = None
    margin: Margin | None = None
    size_bytes: int | None = None

    @property
    def net(self) -> float | None:
        """How many times as fast it is with what is computed again, where that is known."""
        if self.timing is None or self.margin is None:
            return None
        return self.timing.net(self.margin.again)


def reduce(
    bundle: Bundle,
    images: Sequence[object],
    folder: Path,
    *,
    way: Way = INT8,
    least_net: float = LEAST_GAIN,
    read: ReadOptions | None = None,
    progress: Progress | None = None,
) -> Reduction:
    """The bundle's program in fewer bits, its files in `folder`; or why there is none.

    Args:
        bundle: What is to be reduced.
        images: As `read_image` takes them: those that the model is used on, or like them. Some
            calibrate, the others find the margin and check it. They need no labels.
        folder: Empty.
        way: What it computes in, and what runs it.
        least_net: How many times as fast it must be, what is computed again of these images
            included.
        read: How the images are read, as those of predictions are.
        progress: Called with the number of images done, and of all.

    Raises:
        UsageError: There are too few images.
        MissingDependency: onnx is not installed.
        OSError: The folder cannot be written to, or its disk is full.
    """
    calibrating, others = _split(_some_of(images))
    prepare = partial(_tensor, bundle, read or ReadOptions())
    tensors = partial(_tensors, calibrating, prepare)
    drafts, found = [], Reduction()
    if way.precision == "int8":
        logger.info("quantising %s with %d images", bundle.name, len(calibrating))
    for layers in float_layers(bundle.program) if way.precision == "int8" else (0,):
        draft = _Draft.make(bundle, tensors, folder / f"float{layers}", layers, way)
        if isinstance(draft, _Draft):
            drafts.append(draft)
        else:
            found = draft
    if drafts:
        exact, reduced = _answers(bundle, drafts, others, prepare, progress or _silent)
        count = len(calibrating) + len(others)
        pairs = zip(drafts, reduced, strict=True)
        judged = [
            draft.judge(bundle, exact, answers, images=count, least_net=least_net)
            for draft, answers in pairs
        ]
        found = max(judged, key=lambda one: (one.program is not None, one.net or 0.0))
        kept = None if found.program is None else found.program.key
        for draft in drafts:
            if draft.key != kept:
                forget_program(draft.key)  # what its engine has kept
    return _keep(found, folder)


def _keep(found: Reduction, folder: Path) -> Reduction:
    """Move the files of what was found into the folder itself; drop all others."""
    program = found.program
    if program is not None:
        for path in (program.path, program.reference_path):
            path.replace(folder / path.name)
        program = replace(
            program,
            path=folder / program.path.name,
            reference_path=folder / program.reference_path.name,
        )
    for attempt in folder.iterdir():
        if attempt.is_dir():
            platform.remove_folder(attempt)
    return replace(found, program=program)


def _silent(done: int, count: int) -> None:
    pass


def _some_of(images: Sequence[object]) -> list[object]:
    """All of the images, or `MOST_IMAGES` of them, evenly spread.

    Raises:
        UsageError: There are too few.
    """
    check_count(len(images))
    places = np.linspace(0, len(images) - 1, min(len(images), MOST_IMAGES)).astype(np.int64)
    return [images[place] for place in places]


def check_count(count: int, *, what: str = "images") -> None:
    """Refuse too few images.

    Raises:
        UsageError: They are fewer than `LEAST_IMAGES`.
    """
    if count >= LEAST_IMAGES:
        return
    what = what if count != 1 else what.replace("images", "image", 1)
    bound = Margin(logits=0.0, images=LEAST_FOR_MARGIN // 2).bound
    raise UsageError(
        f"got {count:,} {what}; reduced precision needs at least {LEAST_IMAGES}, like those the"
        f" model is used on (no classes are needed): {_LEAST_CALIBRATING} to calibrate,"
        f" {LEAST_FOR_MARGIN // 2} to find the margin below which an answer is computed again, and"
        f" {LEAST_FOR_MARGIN // 2} to check that no label changes, which then holds for all but"
        f" {percent(bound, 0)} of images at 95 % confidence; 1,000 or more are better"
    )


def _split(images: list[object]) -> tuple[list[object], list[object]]:
    """Those that calibrate, evenly spread, and the others."""
    count = min(CALIBRATING, max(_LEAST_CALIBRATING, len(images) - LEAST_FOR_MARGIN))
    chosen = set(np.linspace(0, len(images) - 1, count).astype(np.int64).tolist())
    return (
        [image for place, image in enumerate(images) if place in chosen],
        [image for place, image in enumerate(images) if place not in chosen],
    )


def _tensors(images: Sequence[object], prepare: Prepare) -> Iterator[NDArray[np.float32]]:
    """The network's inputs, (1, C, H, W) each; images that cannot be read are left out."""
    for image in images:
        if (tensor := prepare(image)) is not None:
            yield tensor


def _tensor(bundle: Bundle, read: ReadOptions, image: object) -> NDArray[np.float32] | None:
    try:
        pixels = read_image(image, options=read).pixels
        return np.asarray(bundle.preprocess(pixels), np.float32)[None]
    except ImageError as error:
        logger.info("left out: %s", error)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A program in fewer bits that is faster; whether its labels are right is not known yet.

    Args:
        way: How it is computed.
        path, reference_path: Its files.
        key: What it is known by: the exact program's key, and its own bytes.
        bits: Of its weights.
        timing: How fast it is.
        tolerance: What its reference outputs may differ by where they are compared here.
    """

    way: Way
    path: Path
    reference_path: Path
    key: str
    bits: int
    timing: Timing
    tolerance: float

    @classmethod
    def make(
        cls, bundle: Bundle, tensors: Tensors, folder: Path, layers: int, way: Way
    ) -> _Draft | Reduction:
        """It, or why there is none.

        Args:
            bundle: Of the exact program.
            tensors: Gives the network's inputs that calibrate.
            folder: Is made, for its files.
            layers: How many of the first ones stay in float32.
            way: How it is to be computed.
        """
        folder.mkdir()
        path, reference_path = folder / REDUCED_NAME, folder / REDUCED_REFERENCE_NAME
        bits = 8 if platform.multiplies_bytes_exactly() else 7
        if way.precision == "int8":
            failure = quantise(
                bundle.program, tensors, path, reduce_range=bits == 7, float_layers=layers
            )
        else:
            failure = _link(bundle.program, path)
        if failure is not None:
            return Reduction(reason=f"it cannot be computed in {way}: {failure.reason}")
        size = path.stat().st_size
        exact = ReferenceOutputs.load(bundle.program.reference_path)
        tolerance = _OF_SPREAD * float(np.ptp(exact.logits[np.isfinite(exact.logits)]))
        try:
            run = _open(bundle.program, path, way)
        except EngineError as error:
            return Reduction(reason=first_line(error), size_bytes=size)
        reason = _write_reference(bundle.program, exact, run, reference_path, tolerance)
        if reason:
            return Reduction(reason=f"{way} gives no {reason}", size_bytes=size)
        timing = time_both(bundle.program, path, [*islice(tensors(), _RUNS)], way=way)
        if timing.speedup < LEAST_GAIN:
            reason = (
                f"{way} is {timing.speedup:.2f} times as fast as float32 on this processor; it is"
                f" used from {LEAST_GAIN} times"
            )
            return Reduction(reason=reason, timing=timing, size_bytes=size)
        return cls(
            way=way,
            path=path,
            reference_path=reference_path,
            key=_key(bundle.program, path, way),
            bits=bits,
            timing=timing,
            tolerance=tolerance,
        )

    def program(self, margin: Margin, images: int) -> ReducedProgram:
        """The reduced program that it is with this margin."""
        return ReducedProgram(
            path=self.path,
            reference_path=self.reference_path,
            key=self.key,
            precision=self.way.precision,
            engine=self.way.engine,
            margin=margin,
            speedup=round(self.timing.speedup, 3),
            processor=platform.processor_title(),
            images=images,
            bits=self.bits,
        )

    def open_engine(self, bundle: Bundle, *, features: bool) -> Engine:
        """Its engine, as it will be used."""
        unknown_yet = Margin(logits=self.tolerance / OF_MARGIN, images=1, changed=1)
        reduced = self.program(unknown_yet, 0)
        open_reduced = Classifier.of_bundle(replace(bundle, reduced=reduced)).open_reduced
        assert open_reduced is not None
        return open_reduced(1, features=features)

    def judge(
        self, bundle: Bundle, exact: _Answers, answers: _Answers, *, images: int, least_net: float
    ) -> Reduction:
        """Whether it may be used.

        Args:
            bundle: Of the exact program.
            exact: What that gives.
            answers: What this one gives for the same images.
            images: How many were used in all.
            least_net: As of `reduce`.
        """
        changed = int((exact.logits.argmax(axis=1) != answers.logits.argmax(axis=1)).sum())
        found = Reduction(
            timing=self.timing,
            images=len(exact.logits),
            changed=changed,
            size_bytes=self.path.stat().st_size,
        )
        agreement = 1 - changed / found.images
        if agreement < LEAST_AGREEMENT:
            return replace(
                found,
                reason=(
                    f"{self.way} changes {changed:,} of {found.images:,} labels:"
                    f" {percent(agreement)} agree, of {percent(LEAST_AGREEMENT, 0)} needed"
                ),
            )
        margin = _margin(bundle, exact, answers)
        if isinstance(margin, str):
            return replace(found, reason=f"there is no margin that holds: {margin}")
        found = replace(found, margin=margin)
        if (net := self.timing.net(margin.again)) < least_net:
            return replace(
                found,
                reason=(
                    f"{self.way} is {self.timing.speedup:.2f} times as fast as float32, but"
                    f" {percent(margin.again, 0)} of images lie within the margin and are computed"
                    f" again, which leaves {net:.2f} times; it is used from {least_net} times"
                ),
            )
        return replace(found, program=self.program(margin, images))


def _link(program: Program, path: Path) -> NotCompiled | None:
    """Make the exact program's file one of this name, too; or say why that cannot be."""
    if read_onnx_header(program.path).weights:
        return NotCompiled("its weights do not fit into one ONNX file (2 GB)")
    try:
        os.link(program.path, path)
    except OSError:  # on another disk, or one without such links
        shutil.copyfile(program.path, path)
    return None


def _write_reference(
    program: Program, exact: ReferenceOutputs, run: Run, reference_path: Path, tolerance: float
) -> str:
    """Write what a reduced program gives for the reference inputs; or say why it is no answer."""
    reference = replace(exact, logits=np.concatenate([run(one[None]) for one in exact.inputs()]))
    agreement = replay_once(reference, run, fixed_batch=program.fixed_batch, tolerance=tolerance)
    if agreement.agrees:
        reference.save(reference_path)
        return ""
    return f"answers that can be relied on: {agreement.reason}"


def time_both(
    program: Program, path: Path, tensors: Sequence[NDArray[np.float32]], *, way: Way = INT8
) -> Timing:
    """How long an image takes either way, in turn, by this process's processor time.

    Time on the wall would count what else the machine does; OpenVINO computes in its own threads.
    """
    runs = (_run_onnxruntime(program, program.path), _open(program, path, way))
    for run in runs:
        run(tensors[0])
    seconds: list[list[float]] = [[], []]
    stop = time.monotonic() + _TIMING_SECONDS
    while len(seconds[0]) < _ROUNDS and (len(seconds[0]) < 3 or time.monotonic() < stop):
        for run, found in zip(runs, seconds, strict=True):
            started = time.process_time()
            for tensor in tensors:
                run(tensor)
            found.append((time.process_time() - started) / len(tensors))
    return Timing(exact=median(seconds[0]), reduced=median(seconds[1]))


def _key(program: Program, path: Path, way: Way) -> str:
    """What a reduced program in that file is known by."""
    digest = hashlib.sha256(f"{program.key} {way}".encode())
    digest.update(path.read_bytes())
    return digest.hexdigest()


def _open(program: Program, path: Path, way: Way) -> Run:
    """What maps a batch to logits, by a reduced program in that file.

    Raises:
        EngineError: The processor does not compute in the precision.
    """
    if way.engine == "onnxruntime":
        return _run_onnxruntime(program, path)
    precision: FloatPrecision = "bfloat16" if way.precision == "bfloat16" else "float32"
    loose = replace(program, path=path, key=_key(program, path, way), tolerance=inf)
    return open_program("openvino", loose, threads=1, precision=precision)


def _run_onnxruntime(program: Program, path: Path) -> Run:
    """What maps a batch to logits, by a program of the same inputs and outputs in that file."""
    session = open_session(path)

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = session.run([program.output_name], {program.input_name: batch})
        return np.asarray(logits, np.float32).reshape(len(batch), -1)

    return run


@dataclass(frozen=True, slots=True)
class _Answers:
    """What a program gives for N images: logits (N, K); features (N, D), where it gives them."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, engine: Engine, tensor: NDArray[np.float32], *, features: bool) -> _Answers:
        """Of one image."""
        return cls(*engine.answer(tensor)) if features else cls(engine(tensor))

    @classmethod
    def joined(cls, answers: Sequence[_Answers]) -> _Answers:
        """Of all of them."""
        rows = [one.features for one in answers if one.features is not None]
        return cls(
            np.concatenate([one.logits for one in answers]), np.concatenate(rows) if rows else None
        )


def _answers(
    bundle: Bundle,
    drafts: Sequence[_Draft],
    images: Sequence[object],
    prepare: Prepare,
    progress: Progress,
) -> tuple[_Answers, list[_Answers]]:
    """What the exact program gives for the images, and what each draft does.

    Raises:
        UsageError: Too few can be read.
    """
    classifier = Classifier.of_bundle(bundle)
    try:
        engines, features = [classifier.open_engine(1, features=True)], True
    except ModelError:  # it gives none
        engines, features = [classifier.open_engine(1)], False
    engines += [draft.open_engine(bundle, features=features) for draft in drafts]

    def answer(image: object) -> list[_Answers] | None:
        tensor = prepare(image)
        if tensor is None:
            return None
        return [_Answers.of(engine, tensor, features=features) for engine in engines]

    found = []
    for done, one in enumerate(ordered_map(answer, images, workers=platform.available_cpus()), 1):
        if one is not None:
            found.append(one)
        progress(done, len(images))
    check_count(len(found) + _LEAST_CALIBRATING, what="images that can be read")
    exact, *reduced = (_Answers.joined(column) for column in zip(*found, strict=True))
    return exact, reduced


def _margin(bundle: Bundle, exact: _Answers, reduced: _Answers) -> Margin | str:
    """Below which an answer of the reduced program is not believed; or why there is none."""
    known = bundle.calibration
    question = Question(
        activation=bundle.activation,
        multi_label=bundle.multi_label,
        threshold=None if known is None else known.threshold,
        temperature=1.0 if known is None else known.temperature,
    )
    return fit_margin(
        exact.logits,
        reduced.logits,
        question,
        exact_features=exact.features,
        reduced_features=reduced.features,
        unknown=bundle.unknown,
    )
