"""Classifier: what labelling needs of a model, whichever engine runs it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from toplabel._internal.notices import Notice, collect_warnings
from toplabel._internal.platform import fork_safe
from toplabel.errors import PreprocessError
from toplabel.inference.scoring import probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from toplabel.bundle.bundle import Bundle
    from toplabel.bundle.calibration import Calibration
    from toplabel.bundle.conversion import Conversion
    from toplabel.bundle.model import Activation
    from toplabel.bundle.unknown import UnknownDetector
    from toplabel.inference.engines import Batch, Engine, OpenEngine, ProgramEngine
    from toplabel.labels.labels import Labels
    from toplabel.preprocess.custom import AnyPreprocess, CustomPreprocess


Loaded = TypeVar("Loaded")


class Lazy(Generic[Loaded]):
    """What is loaded when it is first asked for, and kept.

    Args:
        load: Gives it; may be called from any thread, by one at a time.
    """

    def __init__(self, load: Callable[[], Loaded]) -> None:
        self.load = load
        self._lock = fork_safe(threading.Lock())
        self._loaded: Loaded | None = None

    def get(self) -> Loaded:
        """It; what its loading raises, where it cannot be had."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self.load()
            return self._loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """A model's name, preprocessing and labels, and a way to open an engine for it.

    `open_engine` takes the number of threads that one call of the engine computes with, and
    whether it is asked for features, too.
    `parallel`: many images go fastest through an engine of one thread that several threads call
    at once; else through one that computes with all threads, or on a device, a call at a time.
    `multi_label`: Classes are independent: those apply whose score reaches the threshold.
    `bundle`: What can be saved, where there is something; `unsaved` says why there is nothing.
    `program_engine`: What runs its program.
    `calibration`: How its scores are calibrated, where they are. From it follow `temperature`,
    which logits are divided by before they become scores, and `threshold`, the score below which a
    prediction is unsure unless another is asked for. A class prior is in the logits already that
    its engines give, so that whatever is made of them agrees.
    `unknown`: Tells images that are unlike those it was trained on, where it can: then its engines
    give features, too.
    `open_reduced`: Opens an engine for the bundle's reduced program, where it has one.
    `warnings`: What was assumed or noticed when it was made; each of its records has them.
    `lazy_module`: The network itself, in eval mode, on the CPU; a file without one has none.
    `gpu`: Where many images go, "cuda" or "cuda:1", if that can be; "" where all go to its engine.
    """

    name: str
    preprocess: AnyPreprocess
    labels: Labels
    activation: Activation
    open_engine: OpenEngine
    parallel: bool
    multi_label: bool = False
    bundle: Bundle | None = None
    program_engine: ProgramEngine = "onnxruntime"
    unsaved: str = ""
    lazy_module: Lazy[nn.Module] | None = None
    calibration: Calibration | None = None
    unknown: UnknownDetector | None = None
    open_reduced: OpenEngine | None = None
    warnings: tuple[Notice, ...] = ()
    gpu: str = ""
    temperature: float = field(init=False, default=1.0)
    threshold: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.calibration is not None:
            object.__setattr__(self, "temperature", self.calibration.temperature)
            object.__setattr__(self, "threshold", self.calibration.threshold)

    def scores(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores in [0, 1], float64, of its logits, of the same shape (..., K)."""
        return probabilities(logits / np.float32(self.temperature), self.activation)

    def with_warnings(self, notices: Sequence[Notice]) -> Classifier:
        """The same, with these in each of its records, too, and in what it is saved as."""
        merged = tuple(dict.fromkeys((*self.warnings, *notices)))
        if merged == self.warnings:
            return self
        bundle = None if self.bundle is None else self.bundle.with_warnings(merged)
        return replace(self, warnings=merged, bundle=bundle)

    def with_custom_preprocess(self, preprocess: CustomPreprocess) -> Classifier:
        """The same after code of the user's, which no bundle can hold.

        Raises:
            PreprocessError: It gives tensors of another shape than the model takes.
        """
        expected = (self.preprocess.num_channels, *self.preprocess.input_size)
        if preprocess.shape != expected:
            raise PreprocessError(
                f"the preprocessing {preprocess.name} gives tensors of shape {preprocess.shape};"
                f" {self.name} takes {expected}"
            )
        reason = (
            f"its preprocessing {preprocess.name} is code, which a bundle cannot hold; pass a"
            " preset, a JSON file or a transform that can be translated"
        )
        return replace(
            self,
            preprocess=preprocess,
            bundle=None,
            unknown=None,
            open_reduced=None,
            unsaved=reason,
        )

    @classmethod
    def of_bundle(
        cls, bundle: Bundle, *, engine: ProgramEngine = "onnxruntime", fast: bool = False
    ) -> Classifier:
        """The classifier that runs `bundle` with that engine.

        Where it is to be `fast`, the reduced program that was made for it on this machine comes
        before the one that the bundle may bring.
        """
        name = engine
        if fast:
            from toplabel.bundle.reduced import with_reduced_here

            bundle = with_reduced_here(bundle)

        def open_engine(threads: int, *, features: bool = False) -> Engine:
            from toplabel.inference.engines import open_program

            features = features or bundle.unknown is not None
            engine = open_program(name, bundle.program, threads=threads, features=features)
            return _as_asked(engine, bundle)

        def open_reduced(threads: int, *, features: bool = False) -> Engine:
            from toplabel.inference.engines import open_program

            reduced = bundle.reduced
            assert reduced is not None
            reduced.check_in_place()
            gives_scores = bundle.activation == "none" or bool(bundle.conversion)
            engine = open_program(
                reduced.engine,
                reduced.as_program(bundle.program, gives_scores=gives_scores),
                threads=threads,
                features=features or bundle.unknown is not None,
                precision="bfloat16" if reduced.precision == "bfloat16" else "float32",
            )
            reduced.check_in_place()  # as long as that took, too
            return _as_asked(engine, bundle)

        return cls(
            name=bundle.name,
            preprocess=bundle.preprocess,
            labels=bundle.labels,
            activation=bundle.activation,
            multi_label=bundle.multi_label,
            open_engine=open_engine,
            parallel=True,
            bundle=bundle,
            program_engine=engine,
            calibration=bundle.calibration,
            unknown=bundle.unknown,
            open_reduced=None if bundle.reduced is None else open_reduced,
            warnings=bundle.warnings,
        )


def _as_asked(engine: Engine, bundle: Bundle) -> Engine:
    """The engine of a bundle's program with its outputs converted, and by its class prior."""
    if bundle.conversion:
        engine = ConvertingEngine(engine, bundle.conversion)
    return by_prior(engine, bundle.calibration)


def by_prior(engine: Engine, calibration: Calibration | None) -> Engine:
    """The engine with the class prior in its logits that the calibration has, if any."""
    shift = None if calibration is None else calibration.shift
    return engine if shift is None else ShiftedEngine(engine, shift)


class ConvertingEngine:
    """An engine whose outputs are converted: those of a foreign program that are no plain logits.

    Args:
        engine: What gives them, (N, K).
        conversion: What makes logits, or scores in [0, 1], of them.
    """

    def __init__(self, engine: Engine, conversion: Conversion) -> None:
        self.name, self.device = engine.name, engine.device
        self.normalises = engine.normalises
        self._engine, self._conversion = engine, conversion

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """What the engine gives for the batch, converted: float32 (N, K), or (N, 2) of a pair."""
        return np.asarray(self._conversion(self._engine(batch), np), np.float32)

    def answer(self, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same with the features (N, D) as they are."""
        rows, features = self._engine.answer(batch)
        return np.asarray(self._conversion(rows, np), np.float32), features


class ShiftedEngine:
    """An engine whose logits are those of another class prior than the network was trained with.

    Args:
        engine: What gives them as trained, (N, K).
        shift: What is added to each class's (`Calibration.shift`), K numbers.
    """

    def __init__(self, engine: Engine, shift: Sequence[float]) -> None:
        self.name, self.device = engine.name, engine.device
        self.normalises = engine.normalises
        self._engine, self._shift = engine, np.array(shift, np.float32)

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """What the engine gives for the batch, shifted: float32 (N, K)."""
        return self._engine(batch) + self._shift

    def answer(self, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same with the features (N, D) as they are."""
        rows, features = self._engine.answer(batch)
        return rows + self._shift, features


class TakingTurns:
    """An engine that is called by one thread at a time.

    Args:
        engine: What is called.
    """

    def __init__(self, engine: Engine) -> None:
        self.name, self.device = engine.name, engine.device
        self.normalises = engine.normalises
        self._engine = engine
        self._turn = threading.Lock()

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """What the engine gives for the batch: float32 (N, K)."""
        with self._turn:
            return self._engine(batch)

    def answer(self, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same with the features (N, D)."""
        with self._turn:
            return self._engine.answer(batch)


class PendingClassifier:
    """A classifier that answers at once, and the compiled one that takes its place later.

    Args:
        now: Answers until then; for a model that is new to this machine, in eager PyTorch.
        compile: Makes the compiled one, or returns `now` again where it has to stay; None: `now`
            is final.
    """

    def __init__(self, now: Classifier, compile: Callable[[], Classifier] | None = None) -> None:
        self.now = now
        self._compile = compile

    @property
    def is_final(self) -> bool:
        """Whether there is no other, or it has taken its place already."""
        return self._compile is None

    def compile(self) -> Classifier:
        """The final classifier, with the warnings of its making; for one thread at a time.

        Where that fails or is interrupted, all stays as it was.
        """
        if self._compile is not None:
            with collect_warnings() as notices:
                made = self._compile()
            noticed = (*self.now.warnings, *notices)
            self.now, self._compile = made.with_warnings(noticed), None
        return self.now

    def changed(self, change: Callable[[Classifier], Classifier]) -> PendingClassifier:
        """The same with something else in the one that answers now, and in the compiled one."""
        if self._compile is None:
            return PendingClassifier(change(self.now))
        return PendingClassifier(change(self.now), lambda: change(self.compile()))

    def with_warnings(self, notices: Sequence[Notice]) -> PendingClassifier:
        """The same, with these in each record."""
        return PendingClassifier(self.now.with_warnings(notices), self._compile)
