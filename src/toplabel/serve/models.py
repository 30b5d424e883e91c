"""Models: the predictors that a server answers with, by every name that means one of them.

Where calls are put together, nobody waits for company: while one call of the engine runs, the next
one's images gather.
"""

from __future__ import annotations

import base64
import itertools
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from toplabel._internal.text import written_out
from toplabel.errors import UsageError
from toplabel.inference.batch import PredictOptions, label_batch, needs_features
from toplabel.inference.cascade import ReducedCounts, ReducedUse, ReducedWay, open_reduced
from toplabel.inference.engines.program import in_pieces
from toplabel.serve.api_error import ApiError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.image.options import ReadOptions
    from toplabel.inference.engines import Batch, Engine, EngineName
    from toplabel.inference.prediction import Prediction
    from toplabel.inference.predictor import Predictor
    from toplabel.serve.drift import LastHour
    from toplabel.serve.work import Source

logger = logging.getLogger(__name__)

GPU_BATCH = 64
CPU_BATCH = 8
"""Most images of one call, where calls are put together; on a CPU only where that is asked for."""

WARM_UP_IMAGE = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQ"
    "c1tdhbWGkJ6jq62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk"
    "pKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wAARCAAgACADASIAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAA"
    "AgMA/8QAHRAAAgIBBQAAAAAAAAAAAAAAABECEiEDE0Fiof/EABgBAAMBAQAAAAAAAAAAAAAAAAADBAEC/8QAGREB"
    "AQEBAQEAAAAAAAAAAAAAAQIAEQMh/9oADAMBAAIRAxEAPwAznVYbDu9fTa3BMVdo8NX5eUVAprQnZ4SET0eSg2Hp"
    "103rJNoYzhZZSDtdvChgYH64n1uTg4whV5bEYxoc+G5qmnrv/9k="
)
"""A small JPEG, so that the first request finds every library imported."""

_ALIAS = re.compile(r"([A-Za-z0-9][\w.-]{0,63})=(.+)", re.ASCII | re.DOTALL)

T = TypeVar("T")

ObserveBatch = Callable[[int], None]
"""Called with the number of images in each call of an engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A model's prediction for one image, and where the time went.

    Args:
        prediction: Its record, with the logits.
        read_seconds: For reading and preparing the image.
        model_seconds: For the engine, with waiting for its turn.
    """

    prediction: Prediction
    read_seconds: float
    model_seconds: float


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model, ready to answer.

    Args:
        name: In full: "torchvision/resnet50:IMAGENET1K_V2@0f1e2d3c", or what the operator calls it.
        predictor: Compiled already.
        engine: Shared by all workers.
        sha256: Of its weights; what is known of it, at least the first eight digits.
        read: Limits in reading images.
        last_hour: Counts its unknown images, where it can tell them.
        reduced: Its reduced program, where it is to be used and can be.
    """

    name: str
    predictor: Predictor
    engine: Engine
    sha256: str
    read: ReadOptions
    names: tuple[str, ...] = field(default=())
    last_hour: LastHour | None = None
    reduced: ServedReduced | None = None

    def answer(
        self,
        source: Source,
        *,
        top_k: int,
        threshold: float | None,
        exact: bool = False,
        reduced: bool = True,
        checked: bool = True,
    ) -> Answer:
        """The prediction for an image file; computed in the calling thread.

        Args:
            source: The file.
            top_k, threshold: As for a predictor.
            exact: By no other way than the exact one.
            reduced: Let its reduced program answer, where it has one.
            checked: Let the sanity checks look at the outputs; they are of a client's image.
        """
        settings = PredictOptions(
            top_k=top_k,
            threshold=threshold,
            exact=self.predictor.exact or exact,
            keep_logits=True,
            read=self.read,
        )
        started = time.perf_counter()
        timed, program = _Timed(self.engine), self.reduced if reduced and not exact else None
        cheap = None if program is None else _Timed(program.way.engine)
        (prediction,) = label_batch(
            [(0, source)],
            timed,
            self.predictor.classifier,
            settings,
            reduced=None if program is None or cheap is None else program.way_by(cheap),
            place=0 if program is None else program.take_place(),
            checks=self.predictor.checks if checked else None,
        )
        if program is not None and checked:
            program.count(prediction)
        self.predictor.report_warnings()
        model_seconds = timed.seconds + (0.0 if cheap is None else cheap.seconds)
        return Answer(
            prediction=prediction,
            read_seconds=time.perf_counter() - started - model_seconds,
            model_seconds=model_seconds,
        )


class ServedReduced:
    """A served model's reduced program, and what came of it so far.

    Args:
        way: The program, and its engine, which all workers share.
    """

    def __init__(self, way: ReducedWay) -> None:
        self.way = way
        self.counts = ReducedCounts()
        self._places = itertools.count()
        self._lock = threading.Lock()

    def way_by(self, engine: Engine) -> ReducedWay:
        """The same by an engine that stands for its own."""
        return ReducedWay(engine, self.way.use)

    def take_place(self) -> int:
        """The next image's place among all of this server's, for the audit."""
        return next(self._places)

    def count(self, prediction: Prediction) -> None:
        """Count one more prediction. A changed label that the audit has found is warned of."""
        with self._lock:
            self.counts = self.counts.add(prediction)
        if (text := self.way.use.take_warning()) is not None:
            logger.warning("%s: %s", prediction.model, text)


class _Timed:
    """An engine that adds up how long its calls took, and observes the size of each."""

    def __init__(self, engine: Engine, observe: ObserveBatch | None = None) -> None:
        self.name: EngineName = engine.name
        self.device = engine.device
        self.normalises = engine.normalises
        self._engine = engine
        self._observe = observe
        self.seconds = 0.0

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        return self._timed(self._engine, batch)

    def answer(self, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._timed(self._engine.answer, batch)

    def _timed(self, call: Callable[[Batch], T], batch: Batch) -> T:
        started = time.perf_counter()
        try:
            given = call(batch)
        finally:
            self.seconds += time.perf_counter() - started
        if self._observe is not None:
            self._observe(len(batch))
        return given


class ServedModels:
    """The models of a server; the first is the one that answers where none is named.

    Raises:
        UsageError: Two have the same name.
    """

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self.all = tuple(models)
        self.default = self.all[0]
        full = [model.name for model in self.all]
        if twice := next((name for name in full if full.count(name) > 1), None):
            raise UsageError(
                f"two models are named {twice}; rename them: -m one=A.toplabel -m two=B.toplabel"
            )
        short = [alias for model in self.all for alias in set(_short_names(model))]
        self._by_name = {
            alias: model
            for model in self.all
            for alias in _short_names(model)
            if short.count(alias) == 1
        }
        self._by_name |= {model.name: model for model in self.all}

    def find(self, name: str | None) -> ServedModel:
        """The model of that name; the default one for None.

        Raises:
            ApiError: 404, no model here has that name.
        """
        if name is None:
            return self.default
        if name not in self._by_name:
            known = ", ".join(model.name for model in self.all)
            raise ApiError(404, "model_not_found", f"unknown model; available are {known}")
        return self._by_name[name]


def serve_model(
    given: str | None,
    predictor: Predictor,
    *,
    read: ReadOptions,
    threads: int,
    batching: bool | None,
    batch_size: int | None,
    observe: ObserveBatch,
) -> ServedModel:
    """A loaded model, compiled, warmed up by one forward, and ready for many threads.

    Args:
        given: The name or path it was loaded by; None for the built-in one.
        predictor: As `load` gave it.
        read: Limits in reading images.
        threads: Of arithmetic, where one call computes at a time.
        batching: Put calls together; None: on a GPU. On a CPU that was measured to be slower.
        batch_size: Most images of such a call; None: 8 on a CPU, 64 on a GPU.
        observe: Told of each call of the engine.
    """
    predictor.compile()
    classifier = predictor.classifier
    in_turns = batching or not classifier.parallel
    features = needs_features(classifier, PredictOptions())

    def shared(opened: Engine) -> Engine:
        engine: Engine = _Timed(opened, observe)
        on_gpu = engine.device != "cpu"
        if not (in_turns or on_gpu):
            return PiecewiseEngine(engine, max_batch=1)
        together = on_gpu if batching is None else batching
        size = (batch_size or (GPU_BATCH if on_gpu else CPU_BATCH)) if together else 1
        return PiecewiseEngine(BatchingEngine(engine, max_batch=size), max_batch=size)

    share = threads if in_turns else 1
    if (on_gpu := predictor.open_on_gpu()) is not None:
        engine, reduced = shared(on_gpu), None
        if predictor.fast:
            logger.warning("%s is on a GPU; every answer is computed exactly", predictor.name)
    else:
        engine = shared(classifier.open_engine(share, features=features))
        reduced = _reduced(predictor, shared, threads=share, features=features)
    preprocess = classifier.preprocess
    engine(np.zeros((1, preprocess.num_channels, *preprocess.input_size), np.float32))
    model = ServedModel(
        name=written_out(predictor.name),
        predictor=predictor,
        engine=engine,
        sha256=_sha256(predictor),
        read=read,
        names=() if given is None else (given,),
        reduced=reduced,
    )
    model.answer(WARM_UP_IMAGE, top_k=1, threshold=None, checked=False)  # whatever the answer
    return model


def _reduced(
    predictor: Predictor, shared: Callable[[Engine], Engine], *, threads: int, features: bool
) -> ServedReduced | None:
    """The model's reduced program, where it is asked for; why it cannot be used is told."""
    if not predictor.fast:
        return None
    engine, bundle = (
        open_reduced(predictor.classifier, threads, features=features),
        predictor.classifier.bundle,
    )
    if isinstance(engine, str):
        logger.warning("%s; every answer is computed exactly", engine)
        return None
    assert bundle is not None
    assert bundle.reduced is not None
    return ServedReduced(ReducedWay(shared(engine), ReducedUse(bundle.reduced)))


def split_alias(given: str) -> tuple[str | None, str]:
    """The name that the operator gives a model, and the model: "cats=./best.toplabel"."""
    match = _ALIAS.fullmatch(given)
    if match is None or os.path.exists(given):
        return None, given
    return match[1], match[2]


def _sha256(predictor: Predictor) -> str:
    bundle = predictor.classifier.bundle
    known = "" if bundle is None else bundle.provenance.get("weights_sha256", "")
    return known or predictor.name.rpartition("@")[2]


def _short_names(model: ServedModel) -> tuple[str, ...]:
    """What people may call a model: without its hash, without its source, or as it was given."""
    bare = model.name.rpartition("@")[0] or model.name
    last = bare.rpartition("/")[2]
    given = [
        os.path.splitext(os.path.basename(name))[0] if os.path.exists(name) else name
        for name in model.names
    ]
    return tuple(dict.fromkeys(name for name in (bare, last, *given) if name != model.name))


@dataclass(eq=False, slots=True)
class _Call:
    """What one thread asks for."""

    batch: Batch
    features: bool
    answer: Future[tuple[NDArray[np.float32], ...]] = field(default_factory=Future)


class PiecewiseEngine:
    """An engine that is asked for a large batch in pieces, as requests of many tensors bring one.

    What onnxruntime takes for a batch it keeps: 16 MB for each image of it, 800 MB for 32 MB of
    tensors. On a CPU a batch is no faster than its pieces.

    Args:
        engine: Called with the pieces.
        max_batch: Most images of one call.
    """

    def __init__(self, engine: Engine, *, max_batch: int) -> None:
        self.name: EngineName = engine.name
        self.device = engine.device
        self.normalises = engine.normalises
        self._engine = engine
        self._max_batch = max_batch

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """Logits of shape (N, K), float32, for such a batch as engines take."""
        (logits,) = in_pieces(lambda piece: [self._engine(piece)], batch, size=self._max_batch)
        return logits

    def answer(self, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (N, K) and features (N, D), float32, for such a batch."""
        logits, features = in_pieces(
            lambda piece: [*self._engine.answer(piece)], batch, size=self._max_batch
        )
        return logits, features


class BatchingEngine:
    """Shares one engine among threads, a batch of theirs at a time.

    A batch that fails is run again call by call, so that only the guilty fail.

    Args:
        engine: Called by one thread at a time.
        max_batch: Most images of one call.
    """

    def __init__(self, engine: Engine, *, max_batch: int) -> None:
        self.name: EngineName = engine.name
        self.device = engine.device
        self.normalises = engine.normalises
        self._engine = engine
        self._max_batch = max_batch
        self._lock = threading.Lock()  # of the list of calls
        self._turn = threading.Lock()  # of the engine
        self._waiting: list[_Call] = []

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """Logits of shape (N, K), float32, for a batch of N tensors, or of pixels."""
        return self._ask(_Call(batch, features=False))[0]

    def answer(self, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (N, K) and features (N, D), float32, for such a batch."""
        logits, features = self._ask(_Call(batch, features=True))
        return logits, features

    def _ask(self, call: _Call) -> tuple[NDArray[np.float32], ...]:
        with self._lock:
            self._waiting.append(call)
        with self._turn:  # whoever has it works for all that wait
            if not call.answer.done():
                self._run(self._take(call))
        return call.answer.result()

    def _take(self, own: _Call) -> list[_Call]:
        """The caller's own call and as many of the others as fit, oldest first."""
        with self._lock:
            self._waiting.remove(own)
            calls, count = [own], len(own.batch)
            for other in list(self._waiting):
                if count + len(other.batch) > self._max_batch:
                    break
                if other.batch.dtype != own.batch.dtype:  # pixels, where the other has tensors
                    continue
                calls.append(other)
                count += len(other.batch)
                self._waiting.remove(other)
            return calls

    def _run(self, calls: list[_Call]) -> None:
        batches = [call.batch for call in calls]
        try:
            batch = batches[0] if len(calls) == 1 else np.concatenate(batches)
            both = any(call.features for call in calls)
            given = self._engine.answer(batch) if both else (self._engine(batch),)
        except Exception as error:
            if len(calls) == 1:
                calls[0].answer.set_exception(error)
            else:
                for call in calls:
                    self._run([call])
            return
        start = 0
        for call in calls:
            end = start + len(call.batch)
            call.answer.set_result(tuple(rows[start:end] for rows in given))
            start = end
