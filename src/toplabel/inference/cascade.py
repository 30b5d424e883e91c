"""The cascade: ways to compute an answer, cheapest first, each believed only far from a boundary.

A scaled decode of a large JPEG is such a way, and so is a reduced program; their margins add where
both apply. What is not believed goes on to the next way, and the last one is exact: the whole
image, by the exact program. One in a hundred reduced answers is computed again whatever it is: the
audit. Where its label changed, its record has the exact one, and the margin is widened from then
on, unless records have to be the same however often their making is interrupted.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from toplabel._internal.platform import fork_safe
from toplabel._internal.text import is_or_are, number_of, percent
from toplabel.bundle.margin import Margin
from toplabel.bundle.reduced import Precision, is_without_here
from toplabel.bundle.unknown import MARGIN as SCALED_DISTANCE
from toplabel.errors import ToplabelError
from toplabel.inference.scoring import MARGIN as SCALED_LOGITS

if TYPE_CHECKING:
    from toplabel.inference.classifier import Classifier
    from toplabel.inference.engines import Engine
    from toplabel.inference.gpu import BothWays
    from toplabel.inference.prediction import Prediction
    from toplabel.inference.scoring import Question

AUDITED = 0.01
"""The share of reduced answers that are computed both ways."""

MAKE_FROM = 10_000
"""So many inputs are worth a minute for making a reduced program that a model lacks."""

ON_GPU: Precision = "bfloat16"
"""What a GPU computes in where a label is clear."""

WIDER = 1.25
"""Times the distance of a changed label from its boundary is the margin from then on."""

logger = logging.getLogger(__name__)

_GOLDEN = 0x9E3779B1  # of 2**32: multiples of it are spread evenly, whatever the places are


class Reduced(Protocol):
    """What answers in fewer bits: a `ReducedProgram`, or a network that a GPU computes so."""

    @property
    def precision(self) -> Precision:
        """What it computes in."""

    @property
    def margin(self) -> Margin:
        """Below which its answers are not believed."""


@dataclass(frozen=True, slots=True)
class ReducedNetwork:
    """A network that a GPU computes in fewer bits, and what a stream's first images say of it."""

    precision: Precision
    margin: Margin


class ReducedUse:
    """A reduced program in use: its margin by now, and what the audit has found.

    Args:
        program: What is used.
        widens: The margin grows where the audit finds a changed label; else it stays as it is.
    """

    def __init__(self, program: Reduced, *, widens: bool = True) -> None:
        self.program = program
        self.logits = program.margin.logits
        self.distance = program.margin.features or 0.0
        self._widens = widens
        self._lock = fork_safe(threading.Lock())
        self._answers = 0
        self._unaudited = 0

    def believe(self) -> None:
        """Count one more reduced answer."""
        with self._lock:
            self._answers += 1

    def widen(self, *, logits: float, distance: float | None) -> None:
        """An audited answer had another label, beyond the margin.

        Args:
            logits: How far it was from its boundary, in logits.
            distance: How far its distance from training images was from the threshold, where the
                model knows of these.
        """
        if not self._widens:
            return
        with self._lock:
            self._unaudited = self._answers
            self.logits = max(self.logits, WIDER * logits)
            if distance is not None:
                self.distance = max(self.distance, WIDER * distance)

    def take_warning(self) -> str | None:
        """What the audit has found since the last call, where it has found a changed label."""
        with self._lock:
            unaudited, self._unaudited = self._unaudited, 0
        if not unaudited:
            return None
        precision = self.program.precision
        return (
            f"an audited {precision} answer had another label than the exact one; its record has"
            f" the exact one, and the {number_of(unaudited, f'{precision} answer')} so far"
            f" {is_or_are(unaudited)} unaudited. From now on the margin is {self.logits:.2g} logits"
        )


@dataclass(frozen=True, slots=True)
class ReducedWay:
    """A reduced program, and the engine that runs it: with features where they are needed."""

    engine: Engine
    use: ReducedUse


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to compute an answer.

    Args:
        engine: Gives the logits.
        reads_scaled: Large JPEGs are decoded at a reduced scale.
        reduced: It is a reduced program's; None: the exact one's.
    """

    engine: Engine
    reads_scaled: bool
    reduced: ReducedWay | None = None

    def reads_more(self, scale: int) -> bool:
        """Whether it has to read an image again that was decoded at this scale."""
        return scale > 1 and not self.reads_scaled

    def is_exact(self, scale: int) -> bool:
        """Whether its answer to an image that was decoded at this scale is the exact one."""
        return self.reduced is None and scale == 1

    def margins(self, scale: int) -> tuple[float, float]:
        """Below which distance from a boundary an answer is not believed.

        In logits, and in distance from training images.

        Args:
            scale: That the image was decoded at: 1 for the whole, 2 for 1/2 of it.
        """
        logits, distance = (SCALED_LOGITS, SCALED_DISTANCE) if scale > 1 else (0.0, 0.0)
        if self.reduced is not None:
            logits, distance = (
                logits + self.reduced.use.logits,
                distance + self.reduced.use.distance,
            )
        return logits, distance


def ways(engine: Engine, reduced: ReducedWay | None, *, exact: bool) -> tuple[Way, ...]:
    """The ways, cheapest first; of an exact answer there is one.

    Args:
        engine: The exact program's, or eager PyTorch.
        reduced: The reduced program's, where there is one and it may be used.
        exact: Only what is exact may be used.
    """
    found = [Way(engine=engine, reads_scaled=False)]
    if not exact:
        found.append(Way(engine=engine, reads_scaled=True))
        if reduced is not None:
            found.append(Way(engine=reduced.engine, reads_scaled=True, reduced=reduced))
    return tuple(reversed(found))


def is_audited(place: int) -> bool:
    """Whether the answer to the input of that place is computed both ways: one in a hundred."""
    return ((place + 1) * _GOLDEN & 0xFFFFFFFF) < AUDITED * 2**32


def why_not_reduced(classifier: Classifier) -> str | None:
    """Why a model is only computed exactly, in one line; None where it has a reduced program."""
    bundle = classifier.bundle
    if bundle is None:
        why = classifier.unsaved or "it runs in PyTorch"
        return f"{classifier.name} has no reduced program: {why}"
    if bundle.reduced is None and is_without_here(bundle):
        return (
            f"{classifier.name} has no reduced program: toplabel optimize found none that is worth"
            " using on this machine"
        )
    if bundle.reduced is None:
        return (
            f"{classifier.name} has no reduced program yet: toplabel optimize -m MODEL --images"
            " FOLDER makes it, once"
        )
    if (reason := bundle.reduced.why_not_here) is not None:
        return f"the reduced program of {classifier.name} cannot be used here: {reason}"
    margin = bundle.reduced.margin
    if margin.changed:
        return f"the reduced program of {classifier.name} has no margin that holds: {margin}"
    if classifier.unknown is not None and margin.features is None:
        return (
            f"the reduced program of {classifier.name} has no margin for unknown images: make it"
            " again with toplabel optimize"
        )
    return None


def open_reduced(classifier: Classifier, threads: int, *, features: bool = False) -> Engine | str:
    """The engine of the model's reduced program; in one line, why there is none.

    Args:
        classifier: The model.
        threads: Threads that one call of it computes with.
        features: It is asked for features, too.
    """
    if (reason := why_not_reduced(classifier)) is not None:
        return reason
    assert classifier.open_reduced is not None
    try:
        return classifier.open_reduced(threads, features=features)
    except ToplabelError as error:
        return f"the reduced program of {classifier.name} cannot be used here: {error}"


class OpenedEngines:
    """Opens engines when they are first asked for, and keeps them; after a fork, anew."""

    def __init__(self) -> None:
        self._audited = 0  # inputs so far that came without a place of their own
        self._use: ReducedUse | None = None
        self._told = False
        self.forget()

    def forget(self) -> None:
        """Free their memory; the next call opens them again."""
        self._lock, self._opening_on_gpu = threading.Lock(), threading.Lock()
        self._exact: dict[tuple[int, bool], Engine] = {}
        self._on_gpu: dict[bool, Engine | None] = {}
        self._reduced: dict[tuple[int, bool], Engine | str] = {}
        self._reduced_on_gpu: dict[bool, ReducedWay | None] = {}
        self._process = os.getpid()  # last: who sees it sees the others

    def exact(self, classifier: Classifier, threads: int, *, features: bool = False) -> Engine:
        """The engine that computes with so many threads."""
        self._check_process()
        engines = self._exact
        with self._lock:
            for key in ((threads, features), (0, features)):
                if key in engines:
                    return engines[key]
            engine = classifier.open_engine(threads, features=features)
            # On a device threads mean nothing: a second engine would hold its memory twice.
            engines[threads if engine.device == "cpu" else 0, features] = engine
            return engine

    def on_gpu(self, classifier: Classifier, *, features: bool = False) -> Engine | None:
        """The engine for many images, for any number of threads at once; None without a GPU."""
        if not classifier.gpu:
            return None
        self._check_process()
        with self._opening_on_gpu:
            if features not in self._on_gpu:
                from toplabel.inference.gpu import open_on_gpu  # imports torch

                self._on_gpu[features] = open_on_gpu(classifier, features=features)
            return self._on_gpu[features]

    def both_ways(self, classifier: Classifier, *, features: bool) -> BothWays | None:
        """The GPU's exact engine, noting what bfloat16 says; None where that is known."""
        exact = self.on_gpu(classifier, features=features)
        if exact is None or features in self._reduced_on_gpu:
            return None
        from toplabel.inference.gpu import BothWays, open_on_gpu

        reduced = open_on_gpu(classifier, features=features, precision=ON_GPU)
        return None if reduced is None else BothWays(exact, reduced)

    def use_found(
        self, both: BothWays, classifier: Classifier, question: Question, *, features: bool
    ) -> None:
        """Let the reduced engine answer from now on, where a margin holds; tells it, or why not."""
        margin = both.margin(question, classifier.unknown)
        if isinstance(margin, str):
            logger.info("%s is computed exactly on the GPU: %s", classifier.name, margin)
            self._reduced_on_gpu[features] = None
            return
        logger.info("%s answers in %s on the GPU: %s", classifier.name, ON_GPU, margin)
        use = ReducedUse(ReducedNetwork(ON_GPU, margin))
        self._reduced_on_gpu[features] = ReducedWay(both.reduced, use)

    def reduced_on_gpu(self, *, features: bool) -> ReducedWay | None:
        """What answers on the GPU where a label is clear, once a margin of it was found."""
        return self._reduced_on_gpu.get(features)

    def reduced(
        self, classifier: Classifier, threads: int, *, features: bool, widens: bool
    ) -> ReducedWay | None:
        """The model's reduced program, where it can be used; else it is told once why not.

        Args:
            classifier: The model.
            threads: Threads that one call of its engine computes with.
            features: It is asked for features, too.
            widens: What the audit finds widens the margin for all that ask so.
        """
        self._check_process()
        engines = self._reduced
        with self._lock:
            key = threads, features
            if key not in engines:
                engines[key] = open_reduced(classifier, threads, features=features)
            engine, bundle = engines[key], classifier.bundle
            if isinstance(engine, str):
                self.tell_exact(engine)
                return None
            assert bundle is not None
            assert bundle.reduced is not None
            if self._use is None or self._use.program != bundle.reduced:
                self._use = ReducedUse(bundle.reduced)
            use = self._use if widens else ReducedUse(bundle.reduced, widens=False)
            return ReducedWay(engine, use)

    def tell_exact(self, reason: str) -> None:
        """Tell, once, why no reduced program is used."""
        if not self._told:
            self._told = True
            logger.warning("%s; every answer is computed exactly", reason)

    def take_places(self, count: int) -> int:
        """The place of the first of so many inputs among all that came without one."""
        self._check_process()
        with self._lock:
            first, self._audited = self._audited, self._audited + count
            return first

    def take_warning(self) -> str | None:
        """What the audit has found since the last call, where a label changed."""
        found = [way.use for way in self._reduced_on_gpu.values() if way is not None]
        uses = found if self._use is None else [self._use, *found]
        return next((text for use in uses if (text := use.take_warning()) is not None), None)

    def _check_process(self) -> None:
        if self._process != os.getpid():  # after a fork, an engine's threads are gone
            self.forget()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReducedCounts:
    """How many answers are a reduced program's.

    Args:
        images: Those that have a label.
        reduced: Those of them whose answer is the reduced program's.
        audited: Answers of its that were computed both ways.
        changed: Those of them that had another label; their records have the exact one.
        unaudited: Its answers that nobody vouches for: those given before the audit found a
            changed label; of a run, whose margin stays as it is, all of them.
    """

    images: int = 0
    reduced: int = 0
    audited: int = 0
    changed: int = 0
    unaudited: int = 0

    @property
    def again(self) -> float:
        """The share of images that was computed again, in [0, 1]."""
        return 1 - self.reduced / self.images if self.images else 0.0

    def add(self, prediction: Prediction) -> ReducedCounts:
        """With one more prediction."""
        if prediction.error is not None:
            return self
        reduced = self.reduced + (prediction.precision is not None)
        changed = prediction.audit == "changed"
        return ReducedCounts(
            images=self.images + 1,
            reduced=reduced,
            audited=self.audited + (prediction.audit is not None),
            changed=self.changed + changed,
            unaudited=reduced if changed else self.unaudited,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReducedAnswers:
    """What came of reduced precision, over many images.

    Args:
        precision: Of the reduced program.
        margin: Of its answers, as it was found.
        counts: Over these images.
    """

    precision: Precision
    margin: Margin
    counts: ReducedCounts

    @classmethod
    def of(cls, program: Reduced, counts: ReducedCounts) -> Self:
        """Those of a reduced program."""
        return cls(precision=program.precision, margin=program.margin, counts=counts)

    def __str__(self) -> str:
        counts = self.counts
        text = f"{self.precision}; {percent(counts.again, 0)} computed again; {self.margin}"
        if counts.changed:
            return (
                f"{text}; but {counts.changed:,} of {counts.audited:,} audited answers had another"
                f" label, so {counts.unaudited:,} answers are unaudited: make the reduced program"
                " again from images like these (toplabel optimize), or leave out fast=True"
            )
        return f"{text}; {counts.audited:,} audited, none changed" if counts.audited else text
