"""The predictor: images in, predictions out, in order, in bounded memory."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeGuard, overload

import numpy as np

from toplabel._internal.notices import forwarded_to, warn
from toplabel._internal.options import refuse_both, suggests_names
from toplabel._internal.ordered_map import batched, ordered_map
from toplabel._internal.platform import available_cpus, fork_safe
from toplabel._internal.text import number_of
from toplabel.errors import ImageError, ModelError, UsageError
from toplabel.image.files import is_data_uri, is_url
from toplabel.image.options import ReadOptions
from toplabel.image.paths import expand, is_pattern
from toplabel.inference.batch import (
    BatchLabeller,
    Numbered,
    PredictOptions,
    label_batch,
    label_tensors,
    needs_features,
    question,
)
from toplabel.inference.cascade import MAKE_FROM, OpenedEngines
from toplabel.inference.checks import SanityChecks
from toplabel.inference.classifier import Classifier, PendingClassifier, TakingTurns
from toplabel.inference.prediction import Prediction, Predictions

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from toplabel.inference.cascade import Reduced, ReducedWay
    from toplabel.inference.engines import Engine
    from toplabel.labels.labels import Labels
    from toplabel.preprocess.custom import AnyPreprocess

logger = logging.getLogger(__name__)

CPU_BATCH_SIZE = 2
"""Images in one call on a CPU: larger batches gain nothing and take memory: 290 MB at 4."""

GPU_BATCH_SIZE = 64

Reduce = Callable[[Classifier, Sequence[object]], Classifier | str]
"""The classifier with a reduced program made from such images; or, in one line, why without."""

FEW_IMAGES = 256
"""So many are labelled on the CPU while it is not known that there are more.

To import torch and to open a GPU takes seconds, in which a CPU labels about as many.
"""

SAMPLE_IMAGES = 600
"""Of a stream on a GPU with `fast`, so many find a margin and check it."""

_WAITING_THREADS = 2
"""Beside one for each processor, since some always wait for the GPU."""


@suggests_names
class Predictor:
    """Labels images with one model.

    Comes from `toplabel.load` or `toplabel.wrap`. May be used from several threads, and in a
    child process after a fork.

    Args:
        classifier: The model. One that is new to this machine is compiled after its first
            prediction.
        threads: How many images are processed at once; by default one for each processor that
            this process may use.
        batch_size: Images in one call of the engine.
        exact: Never read a large JPEG at a reduced scale first.
        fast: Let the model's reduced program answer, where it has one, as far as a label is clear.
        reduce: Makes the reduced program from images like those that follow, and gives the
            classifier with it; or says in one line why there is none.
        read: Limits and choices in reading images.
        sanity_checks: Look at the first outputs for the usual mistakes and warn of them, in the
            thread that asks for predictions.
    """

    def __init__(
        self,
        classifier: Classifier | PendingClassifier,
        *,
        threads: int | None = None,
        batch_size: int | None = None,
        exact: bool = False,
        fast: bool = False,
        reduce: Reduce | None = None,
        read: ReadOptions | None = None,
        sanity_checks: bool = True,
    ) -> None:
        refuse_both(fast=fast, exact=exact)
        for name, value in (("threads", threads), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise UsageError(f"got {name}={value}; expected at least 1")
        self._compiling = fork_safe(threading.Lock())
        self._pending = (
            PendingClassifier(classifier) if isinstance(classifier, Classifier) else classifier
        )
        self.threads = threads or available_cpus()
        self.batch_size = batch_size
        self.exact = exact
        self.fast = fast
        self._reduce = reduce
        self.read = read or ReadOptions()
        channels = getattr(self.preprocess, "channels", None)
        if isinstance(channels, int):  # its arrays are no photos
            self.read = replace(self.read, channels=channels)
        self.checks = SanityChecks(self.classifier, bgr=self.read.bgr) if sanity_checks else None
        self._answered = False
        self.notify: Callable[[str], None] | None = None  # deprecated, of `load(notify=)`
        self._engines = OpenedEngines()

    @property
    def name(self) -> str:
        """The model's full name: `torchvision/resnet50:IMAGENET1K_V2@0f1e2d3c`."""
        return self.classifier.name

    @property
    def labels(self) -> Labels:
        """The names of the model's classes, by index."""
        return self.classifier.labels

    @property
    def preprocess(self) -> AnyPreprocess:
        """The preprocessing from pixels to the model's input."""
        return self.classifier.preprocess

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was assumed or noticed of the model so far; each of its records has them.

        From its loading, its compiling, and the outputs of the first images.
        """
        return (*self.classifier.warnings, *self.noticed)

    @property
    def noticed(self) -> tuple[str, ...]:
        """Of these, what the outputs of the first images look like."""
        return () if self.checks is None else self.checks.found

    @property
    def classifier(self) -> Classifier:
        """What it runs: the model's preprocessing and labels, and how its engine is opened."""
        return self._pending.now

    @property
    def reduced(self) -> Reduced | None:
        """The reduced program that `fast` answers by; None where every answer is exact."""
        if not self.fast:
            return None
        self.compile()
        features = needs_features(self.classifier, PredictOptions())
        if (on_gpu := self._engines.reduced_on_gpu(features=features)) is not None:
            return on_gpu.use.program
        way = self._reduced_way(self._options(1, None), threads=1, features=features)
        return None if way is None else way.use.program

    @property
    def engine(self) -> str:
        """What runs the model, and where: "onnxruntime on cpu". Opens it where it is not yet."""
        engine = self.open_engine()
        return f"{engine.name} on {engine.device}"

    def open_engine(self) -> Engine:
        """The engine itself, with all threads on each call; opened where it is not yet."""
        features = needs_features(self.classifier, PredictOptions())
        return self._open(threads=self.threads, features=features)

    def open_on_gpu(self) -> Engine | None:
        """An engine for many images on a GPU, for any number of threads at once.

        None where the device was chosen at loading, where there is no GPU that PyTorch can use, or
        no network of the model to put on one: then all images go to the engine of single ones.
        """
        features = needs_features(self.classifier, PredictOptions())
        return self._engines.on_gpu(self.classifier, features=features)

    def __repr__(self) -> str:
        return f"<Predictor {self.name}, {number_of(len(self.labels), 'class', 'classes')}>"

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a list is an object, too: the first fits first
        self,
        source: list[Any] | tuple[Any, ...],
        *,
        top_k: int = ...,
        threshold: float | None = ...,
    ) -> Predictions: ...

    @overload
    def __call__(
        self, source: object, *, top_k: int = ..., threshold: float | None = ...
    ) -> Prediction: ...

    @suggests_names
    def __call__(
        self, source: object, *, top_k: int = 5, threshold: float | None = None
    ) -> Prediction | Predictions:
        """The prediction for one image; for several images, a list of predictions.

        >>> import toplabel
        >>> model = toplabel.load()
        >>> model("examples/coffee.jpg").label
        'espresso'
        >>> len(model("examples/*.jpg"))
        3

        Args:
            source: A path, URL, bytes, binary file, PIL image, numpy array (RGB, uint8 (H, W, 3)
                or float in [0, 1]) or torch tensor (3, H, W). Several images: a list or tuple of
                such, or, as on the command line, a folder or a pattern (`"photos/"`, `"*.jpg"`).
            top_k: How many classes to return; more than the model has means all.
            threshold: In [0, 1]: a best score below it is marked `unsure`.

        Raises:
            ImageError: The one image could not be labelled; `.code` says why. In a list, it is a
                prediction whose `error` is set, so that the others are not lost.
            UsageError: The folder has no images, or the pattern matches nothing.
        """
        if isinstance(source, list | tuple) or _names_several(source):
            return Predictions(self.stream(source, top_k=top_k, threshold=threshold))
        options = self._options(top_k, threshold)
        if self._answered:
            self.compile()
        place = self._engines.take_places(1)
        prediction = self._label_one((0, source), options, place=place)
        if prediction.error is not None:
            raise ImageError(prediction.error.code, prediction.error.message)
        return prediction

    @suggests_names
    def stream(
        self,
        sources: Iterable[object] | str | os.PathLike[str],
        *,
        top_k: int = 5,
        threshold: float | None = None,
    ) -> Iterator[Prediction]:
        """A prediction for each source, in order; an image that fails is one with `error` set.

        Sources are taken only a few batches ahead of what is asked for, so their number does not
        matter.

        Args:
            sources: Any number of what a single call takes; or, as on the command line, the name
                of a folder or a pattern (`"photos/"`, `"*.jpg"`), for the images in it.
            top_k, threshold: As for one image.

        Raises:
            UsageError: The folder has no images, or the pattern matches nothing.
        """
        return self._stream(sources, self._options(top_k, threshold))

    def _stream(
        self, sources: Iterable[object] | str | os.PathLike[str], options: PredictOptions
    ) -> Iterator[Prediction]:
        count = len(sources) if isinstance(sources, Sized) else None
        if isinstance(sources, str | bytes | bytearray | os.PathLike):
            count = None
            if not _names_several(sources):
                raise UsageError("got one source to stream; expected several: stream([source])")
            sources = expand([os.fspath(sources)])
        numbered: Iterator[Numbered] = enumerate(sources)
        if not self._pending.is_final and not self._answered:  # by the engine at hand
            for first in itertools.islice(numbered, 1):
                yield self._label_one(first, options)
        head = list(itertools.islice(numbered, 2))
        if len(head) == 1:  # one image: all threads on it
            yield self._label_one(head[0], options)
        if len(head) < 2:
            return
        numbered = itertools.chain(head, numbered)
        self.compile()
        if count is not None and isinstance(sources, Sequence):
            self.make_reduced([one for one in sources if _is_read_again(one)])
        if self.classifier.gpu and (count is None or count <= FEW_IMAGES):
            bundle = self.classifier.bundle
            fast = options.fast and bundle is not None and bundle.reduced is not None
            exact = replace(options, fast=fast)  # what the GPU does is not known yet
            few = self._labeller(exact, self.checks, widens=True, many=False)
            yield from self._label_all(itertools.islice(numbered, FEW_IMAGES), few)
            if not (more := list(itertools.islice(numbered, 1))):
                return
            numbered = itertools.chain(more, numbered)
        if options.fast and not options.exact:
            yield from self._label_sample(numbered, options)
        many = self._labeller(options, self.checks, widens=True, many=True)
        yield from self._label_all(numbered, many)

    def _label_sample(
        self, numbered: Iterator[Numbered], options: PredictOptions
    ) -> Iterator[Prediction]:
        """On a GPU, the first images, exactly: they say which reduced answers are believed."""
        features = needs_features(self.classifier, options)
        both = self._engines.both_ways(self.classifier, features=features)
        if both is None:
            return
        labeller = self._labeller(options, self.checks, widens=True, many=True, engine=both)
        count = 0
        for prediction in self._label_all(itertools.islice(numbered, SAMPLE_IMAGES), labeller):
            count += 1
            yield prediction
        if count == SAMPLE_IMAGES:  # else there are no more
            asked = question(self.classifier, options)
            self._engines.use_found(both, self.classifier, asked, features=features)

    def _label_all(
        self, numbered: Iterable[Numbered], labeller: BatchLabeller
    ) -> Iterator[Prediction]:
        batches = batched(numbered, labeller.batch_size, singles=labeller.workers)
        for predictions in ordered_map(labeller.label, batches, workers=labeller.workers):
            self.report_warnings()
            yield from predictions

    @suggests_names
    def embed(self, source: object, *, normalize: bool = False) -> NDArray[np.float32]:
        """The model's own description of an image: its features, for search, clusters and the like.

        They are what its last linear layer takes, before the classes. Images are always read in
        full (`exact`). A model that is new to this machine is compiled first.

        Args:
            source: As for a prediction; or a list or tuple of such.
            normalize: Scale them to length 1, so that a product of two is their cosine.

        Returns:
            float32 (D,); for a list of N images (N, D), in their order.

        Raises:
            ImageError: An image could not be read; `.code` says why. Of a list it is the first such
                one, and named; `embed_stream` goes on.
            ModelError: The model gives no features: its outputs come from no linear layer.
        """
        if isinstance(source, list | tuple):
            rows = np.empty((len(source), self.embedding_size), np.float32)
            for row, prediction in zip(rows, self.embed_stream(source), strict=True):
                row[:] = _features(prediction, several=True)
        else:
            self.compile()
            prediction = self._label_one((0, source), self._embed_options())
            if prediction.error is not None and _names_several(source):
                hint = f"; embed_stream({os.fspath(source)!r}) takes the images of it"
                raise ImageError(prediction.error.code, prediction.error.message + hint)
            rows = _features(prediction, several=False)
        return unit_length(rows) if normalize else rows

    @suggests_names
    def embed_stream(
        self, sources: Iterable[object] | str | os.PathLike[str]
    ) -> Iterator[Prediction]:
        """A prediction with `features`, float32 (D,), for each source, in order.

        As `stream`, for any number of sources; an image that fails is one with `error` set, and no
        features.

        Args:
            sources: As for `stream`.

        Raises:
            UsageError: The folder has no images, or the pattern matches nothing.
            ModelError: The model gives no features: its outputs come from no linear layer.
        """
        options = self._embed_options()
        self.compile()
        self._open_shared(features=True)  # where there are none, that is said at once
        return self._stream(sources, options)

    @property
    def embedding_size(self) -> int:
        """D, the numbers that `embed` gives for an image.

        Raises:
            ModelError: The model gives no features: its outputs come from no linear layer.
        """
        self.compile()
        if self.classifier.bundle is not None:
            from toplabel.bundle.features import find_features  # labels do without

            return find_features(self.classifier.bundle.program).size
        shape = (1, self.preprocess.num_channels, *self.preprocess.input_size)
        engine = self._open(threads=self.threads, features=True)
        return int(engine.answer(np.zeros(shape, np.float32))[1].shape[1])

    def _embed_options(self) -> PredictOptions:
        return PredictOptions(top_k=1, exact=True, keep_features=True, read=self.read)

    @suggests_names
    def predict_tensor(
        self, batch: object, *, top_k: int = 5, threshold: float | None = None
    ) -> Prediction | Predictions:
        """Predictions for inputs of the network that are prepared already.

        Args:
            batch: A float32 tensor or array (N, C, H, W), resized and normalised as the network
                was trained; (C, H, W) for one image; or what a DataLoader gives: (images, targets),
                or a dict with "pixel_values" or "image".
            top_k, threshold: As for one image.

        Returns:
            A list of predictions; for (C, H, W) a prediction. They are called "<tensor 0>" and so
            on. Values that the model's own preprocessing does not give are warned of, in each.

        Raises:
            UsageError: It has another type or shape than the network takes, or is not prepared.
            ImageError: The one tensor could not be labelled. In a batch, it is a prediction whose
                `error` is set.
        """
        from toplabel.inference.tensors import prepared_batch  # images do not need it

        options = self._options(top_k, threshold)
        prepared = prepared_batch(batch, self.preprocess)
        if prepared.warning:
            warn(prepared.warning)
        if self._answered:
            self.compile()
        features = needs_features(self.classifier, options)
        engine = self._open(threads=self.threads, features=features)
        reduced = self._reduced_way(options, threads=self.threads, features=features)
        size = self.batch_size or (CPU_BATCH_SIZE if engine.device == "cpu" else GPU_BATCH_SIZE)
        predictions, place = Predictions(), self._engines.take_places(len(prepared.tensors))
        for first in range(0, len(prepared.tensors), size):
            predictions += label_tensors(
                prepared.tensors[first : first + size],
                engine,
                self.classifier,
                options,
                first=first,
                warnings=(prepared.warning,) if prepared.warning else (),
                reduced=reduced,
                place=place + first,
                checks=self.checks,
            )
        self._answered = True
        self.report_warnings()
        if not prepared.single:
            return predictions
        if (error := predictions[0].error) is not None:
            raise ImageError(error.code, error.message)
        return predictions[0]

    @suggests_names
    def batch_labeller(
        self,
        *,
        top_k: int = 5,
        threshold: float | None = None,
        exact: bool | None = None,
        fast: bool = False,
        all_scores: bool = False,
        keep_logits: bool = False,
        keep_features: bool = False,
        sanity_checks: bool = True,
        many: bool = False,
    ) -> BatchLabeller:
        """What labels batch after batch, for a caller that keeps the order and the bounds itself.

        Such a caller calls `report_warnings` from time to time.

        Args:
            top_k, threshold: As for one image.
            exact: Never read a large JPEG at a reduced scale first; None: as the predictor does.
            fast: Use the reduced program where a label is clear, unless features are kept. Its
                margin stays as it is, so that the same images have the same records whatever came
                before.
            all_scores, keep_logits, keep_features: Whether predictions keep the scores of all
                classes, logits and features.
            sanity_checks: Whether these images count as what the model is for; else the predictor's
                checks do not look at them.
            many: There are more than `FEW_IMAGES`: they go to a GPU, where there is one and the
                model was loaded without naming a device.

        Raises:
            ModelError: The model gives no features, and they are to be kept.
        """
        options = replace(
            self._options(top_k, threshold),
            all_scores=all_scores,
            keep_logits=keep_logits,
            keep_features=keep_features,
        )
        exact = options.exact if exact is None else exact
        options = replace(options, exact=exact, fast=fast)
        checks = self.checks if sanity_checks else None
        return self._labeller(options, checks, widens=False, many=many)

    def _labeller(
        self,
        options: PredictOptions,
        checks: SanityChecks | None,
        *,
        widens: bool,
        many: bool,
        engine: Engine | None = None,
    ) -> BatchLabeller:
        self.compile()
        features = needs_features(self.classifier, options)
        reduced = None
        if many and engine is None:
            engine = self._engines.on_gpu(self.classifier, features=features)
            if widens and options.fast and not options.exact:
                reduced = self._engines.reduced_on_gpu(features=features)
        if engine is None:
            engine = self._open_shared(features=features)
            reduced = self._reduced_way(options, threads=1, features=features, widens=widens)
        on_cpu = engine.device == "cpu"
        size = self.batch_size or (CPU_BATCH_SIZE if on_cpu else GPU_BATCH_SIZE)
        classifier = self.classifier
        return BatchLabeller(
            label=lambda batch: label_batch(
                batch, engine, classifier, options, reduced=reduced, checks=checks
            ),
            batch_size=size,
            workers=self.threads if on_cpu else self.threads + _WAITING_THREADS,
            device=engine.device,
        )

    def report_warnings(self) -> None:
        """Warn of the usual mistakes that the outputs since the last call look like.

        Also of what the audit of reduced answers has found.
        """
        if self.checks is not None and self.checks.texts:
            for notice in self.checks.take_warnings():
                warn(notice)
        if (text := self._engines.take_warning()) is not None:
            warn(text)

    @property
    def is_final(self) -> bool:
        """Whether `compile` has nothing to do."""
        return self._pending.is_final

    def compile(self) -> None:
        """Make the fast program of a model that is new to this machine, now and for later starts.

        Does nothing where there is nothing to do. Called by itself before the second prediction.
        Other threads wait for it.
        """
        with self._compiling:
            if self._pending.is_final:
                return
            before = self.classifier
            with forwarded_to(self.notify, deprecated=False):
                compiled = self._pending.compile()
            if compiled.open_engine is not before.open_engine:
                self._engines.forget()

    def make_reduced(self, first: Sequence[object]) -> None:
        """Make the reduced program that `fast` lacks, where there are inputs enough for it to pay.

        It takes a minute or so. Where it cannot be made, why is told, and all stays exact.

        Args:
            first: The first inputs, `MAKE_FROM` of them where there are so many; they can be read
                again.
        """
        if not self.fast or self._reduce is None or len(first) < MAKE_FROM:
            return
        self.compile()
        bundle = self.classifier.bundle
        if bundle is None or bundle.reduced is not None or self.classifier.gpu:
            return
        logger.info("%s has no reduced program yet; making it, which takes a minute", self.name)
        with self._compiling:
            made = self._reduce(self.classifier, first)
            if isinstance(made, str):
                self._engines.tell_exact(made)
            else:
                self._pending = PendingClassifier(made)
                self._engines.forget()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model, its labels and its preprocessing into one file: `cats.toplabel`.

        `toplabel.load("cats.toplabel")` opens it, on another machine, too, and without PyTorch. A
        model that is new to this machine is compiled first. A file that stands there already is
        replaced at once, or left as it was.

        Raises:
            ModelError: It can only run in PyTorch; says why.
            UsageError: There is a folder at `path`, or a file that is no bundle.
            BundleError: The file cannot be written.
        """
        from toplabel.bundle.file import check_target, pack  # not needed to label

        check_target(path)
        self.compile()
        if self.classifier.bundle is None:
            reason = self.classifier.unsaved or "it could not be compiled"
            raise ModelError(f"{self.name} cannot be saved: {reason}")
        pack(self.classifier.bundle, path)

    def close(self) -> None:
        """Free the engine's memory; the next prediction opens it again."""
        self._engines.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _label_one(
        self, numbered: Numbered, options: PredictOptions, *, place: int | None = None
    ) -> Prediction:
        """Of one image, with all threads on it; `place`: among single ones, for the audit."""
        features = needs_features(self.classifier, options)
        engine = self._open(threads=self.threads, features=features)
        (prediction,) = label_batch(
            [numbered],
            engine,
            self.classifier,
            options,
            reduced=self._reduced_way(options, threads=self.threads, features=features),
            place=place,
            checks=self.checks,
        )
        self._answered = True
        self.report_warnings()
        return prediction

    def _options(self, top_k: int, threshold: float | None) -> PredictOptions:
        return PredictOptions(
            top_k=top_k, threshold=threshold, exact=self.exact, fast=self.fast, read=self.read
        )

    def _reduced_way(
        self, options: PredictOptions, *, threads: int, features: bool, widens: bool = True
    ) -> ReducedWay | None:
        """The reduced program, where it is asked for and can be used; features are exact."""
        if not options.fast or options.exact or options.keep_features:
            return None
        if not self._pending.is_final:
            return None
        return self._engines.reduced(self.classifier, threads, features=features, widens=widens)

    def _open_shared(self, *, features: bool) -> Engine:
        """One engine that all workers share: a thread of arithmetic each, or taking turns."""
        if self.classifier.parallel:
            return self._open(threads=1, features=features)
        return TakingTurns(self._open(threads=self.threads, features=features))

    def _open(self, *, threads: int, features: bool = False) -> Engine:
        """The engine that computes with so many threads; opened where it is not yet."""
        return self._engines.exact(self.classifier, threads, features=features)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A method under the name that it had before."""
            if (new := _RENAMED.get(name)) is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            warnings.warn(f"use Predictor.{new}, not .{name}", DeprecationWarning, stacklevel=2)
            return getattr(self, new)


_RENAMED = {"many": "batch_labeller", "pass_warnings_on": "report_warnings"}


def _is_read_again(source: object) -> bool:
    """Whether reading it leaves it as it was, as it does not leave a file that is open."""
    return isinstance(source, str | os.PathLike | bytes | np.ndarray)


def _names_several(source: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether it is the name of a folder, or a pattern."""
    if not isinstance(source, str | os.PathLike):
        return False
    name = os.fspath(source)
    if not isinstance(name, str) or name == "-" or is_url(name) or is_data_uri(name):
        return False
    return os.path.isdir(name) or is_pattern(name)


def _features(prediction: Prediction, *, several: bool) -> NDArray[np.float32]:
    """The features of an image.

    Raises:
        ImageError: It has none; of several, the message says which one it is.
    """
    if prediction.error is None:
        assert prediction.features is not None
        return prediction.features
    code, message = prediction.error.code, prediction.error.message
    raise ImageError(code, f"{prediction.source}: {message}" if several else message)


def unit_length(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of features (..., D) scaled to length 1; one of zeros stays as it is."""
    length = np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)
    return np.asarray(rows / np.where(length == 0, 1, length), np.float32)
