"""A model and images of known classes in; how often it is right out."""

from __future__ import annotations

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel._internal.notebook import bar_in_notebook
from toplabel._internal.optional import require
from toplabel._internal.options import suggests_names
from toplabel._internal.ordered_map import batched, ordered_map
from toplabel._internal.text import number_of, percent
from toplabel.analysis.data.dataset import Dataset, Matching, match_classes, read_dataset
from toplabel.analysis.data.label_order import OrderFinding, find_order
from toplabel.analysis.evaluate.metrics import Metrics, compute_metrics
from toplabel.errors import ModelError, UsageError
from toplabel.inference.prediction import Failure
from toplabel.inference.predictor import FEW_IMAGES, Predictor
from toplabel.models.load import shared_predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.analysis.evaluate.robustness import Robustness
    from toplabel.bundle.unknown import Drift
    from toplabel.labels.labels import Labels


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """A model's outputs for the N images of a dataset, M of which could be labelled.

    Args:
        dataset: The images.
        truth: int (N,): the index of each image's class among the model's labels.
        readable: bool (N,): False where an image could not be labelled.
        logits: float32 (M, K), of those that could, in order.
        scores: float64 (M, K), in [0, 1], as in predictions.
        failures: Index of an image -> why it could not be labelled.
        doubtful: What was noticed in reading images -> the indices of those.
        unknown: bool (M,): unlike what the model was trained on; None where it cannot tell.
    """

    dataset: Dataset
    truth: NDArray[np.int64]
    readable: NDArray[np.bool_]
    logits: NDArray[np.float32]
    scores: NDArray[np.float64]
    failures: dict[int, Failure]
    doubtful: dict[str, list[int]] = field(default_factory=dict)
    unknown: NDArray[np.bool_] | None = None

    @property
    def known(self) -> NDArray[np.int64]:
        """The true class of each readable image: int (M,)."""
        return self.truth[self.readable]

    @property
    def best(self) -> NDArray[np.int64]:
        """The predicted class of each readable image: int (M,)."""
        return np.asarray(self.logits.argmax(axis=1))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the prediction is right, False where there is none: bool (N,)."""
        right = np.zeros(len(self.truth), np.bool_)
        right[self.readable] = self.best == self.known
        return right

    @property
    def codes(self) -> Counter[str]:
        """How many images failed with each error code."""
        return Counter(failure.code for failure in self.failures.values())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """How often a model is right on a dataset.

    Args:
        model: Its name, in full.
        data: Where the images come from.
        labels: The model's; where it has no class names, those of the dataset.
        metrics: Accuracy, calibration error and so on.
        matching: How the dataset's classes were matched to the model's labels.
        order: Whether the labels are in the order of the network's outputs.
        notes: What may make the metrics misleading, one sentence each.
        outputs: The model's outputs for each image.
        robustness: What corruptions do to its labels, where that was asked for.
        drift: How many of the images are unknown, and whether that is more than can be expected;
            None where the model cannot tell.
    """

    model: str
    data: str
    labels: Labels
    metrics: Metrics
    matching: Matching
    order: OrderFinding
    notes: tuple[str, ...]
    outputs: Outputs
    robustness: Robustness | None = None
    drift: Drift | None = None

    def __repr__(self) -> str:
        """One line: the model, the images, and how often it is right."""
        top1 = self.metrics.top1
        return (
            f"<Evaluation of {self.model} on {self.data}: accuracy {top1.value:.3f}"
            f" ({top1.low:.3f} to {top1.high:.3f})>"
        )

    def _repr_html_(self) -> str:
        """HTML for a notebook, escaped: the metrics."""
        from toplabel.inference.notebook import table_html  # only there

        return table_html(repr(self)[1:-1], _shown(self.metrics))

    @property
    def measures(self) -> Metrics:
        """Deprecated name of `metrics`."""
        warnings.warn("use Evaluation.metrics, not .measures", DeprecationWarning, stacklevel=2)
        return self.metrics

    @property
    def answers(self) -> Outputs:
        """Deprecated name of `outputs`."""
        warnings.warn("use Evaluation.outputs, not .answers", DeprecationWarning, stacklevel=2)
        return self.outputs

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the outputs for each image."""
        plain = {
            "model": self.model,
            "data": self.data,
            **self.metrics.to_dict(),
            "errors": dict(self.outputs.codes),
            **({} if self.drift is None else {"drift": asdict(self.drift)}),
            "order": {name: getattr(self.order, name) for name in _ORDER_FIELDS},
            "notes": list(self.notes),
        }
        if self.robustness is not None:
            plain["robustness"] = self.robustness.to_dict()
        return plain


def _shown(metrics: Metrics) -> list[tuple[str, object]]:
    """The metrics in one number each, with intervals, for people."""
    rows: list[tuple[str, object]] = [("images", metrics.images), ("failed", metrics.failed)]
    named = {"accuracy": metrics.top1, "top 5": metrics.top5}
    named |= {"balanced accuracy": metrics.macro_recall, "macro F1": metrics.macro_f1}
    for name, one in named.items():
        if one is not None:
            rows.append((name, f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"))
    return [*rows, ("calibration error", f"{metrics.ece.value:.3f}")]


_ORDER_FIELDS = ("kind", "accuracy", "fitted", "p")


@suggests_names
def evaluate(
    model: Predictor | str | os.PathLike[str] | None,
    data: Dataset | str | os.PathLike[str],
    *,
    corruptions: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """How often a model is right.

    >>> import toplabel
    >>> evaluation = toplabel.evaluate("mine.toplabel", "val/")
    >>> evaluation.metrics.top1.value
    1.0

    Args:
        model: A predictor, or what `load` takes.
        data: A folder with one sub-folder per class, a folder of files whose names start with a
            WordNet synset, or a .csv or .tsv file of paths and labels.
        corruptions: Label each image again corrupted in nine ways at three strengths (noise, blur,
            JPEG, rotated and so on), which takes 27 times as long.
        progress: Called with the numbers of images done and failed. By default a bar in notebooks,
            where tqdm is installed.

    Raises:
        UsageError: The data is none of these, or none of its images could be labelled.
        LabelsError: Its classes do not match the model's labels; the message names them.
        ModelError: It is a multi-label model: an image has one class here; or, with corruptions, a
            model of arrays that are no photos.
        MissingDependency: `toplabel[evaluate]` is not installed.
    """
    require("sklearn", extra="evaluate", purpose="evaluating a model")
    predictor = model if isinstance(model, Predictor) else shared_predictor(model)
    dataset = data if isinstance(data, Dataset) else read_dataset(data)
    if predictor.classifier.multi_label:
        raise ModelError(
            f"{predictor.name} is a multi-label model; expected a model of exclusive classes, as"
            " each image of the dataset has one class"
        )
    matching = match_classes(dataset.classes, predictor.labels, model=predictor.name)
    with bar_in_notebook(progress, what="evaluate", total=len(dataset)) as update:
        outputs = run_model(predictor, dataset, matching, progress=update)
    if not outputs.readable.any():
        raise UsageError(
            f"none of {number_of(len(dataset), 'image')} of {dataset.origin} could be labelled; the"
            f" first failed with: {outputs.failures[0].message}"
        )
    order = find_order(outputs.known, outputs.logits, predictor.labels)
    labels, robustness = matching.named(predictor.labels), None
    if corruptions:
        from toplabel.analysis.evaluate.robustness import measure_robustness

        robustness = measure_robustness(predictor, outputs, labels, progress=progress)
    return Evaluation(
        model=predictor.name,
        data=dataset.origin,
        labels=labels,
        metrics=compute_metrics(outputs, labels),
        matching=matching,
        order=order,
        notes=tuple(_notes(predictor, outputs, matching, order)),
        outputs=outputs,
        robustness=robustness,
        drift=_drift(predictor, outputs),
    )


def _drift(predictor: Predictor, outputs: Outputs) -> Drift | None:
    detector = predictor.classifier.unknown
    if detector is None or outputs.unknown is None:
        return None
    return detector.drift(int(outputs.unknown.sum()), len(outputs.unknown))


def run_model(
    predictor: Predictor,
    dataset: Dataset,
    matching: Matching,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Outputs:
    """Label all images by the code of every prediction, decoding large JPEGs in full.

    The classes take turns, so that the sanity checks of the first images see all of them. Holds the
    outputs for all: 4 K bytes an image, 200 MB for 50,000 of 1,000 classes.

    Args:
        predictor: The model.
        dataset: N images.
        matching: Their classes among the model's.
        progress: Called with the number of images done, and of those that failed.
    """
    labeller = predictor.batch_labeller(
        top_k=1, exact=True, keep_logits=True, many=len(dataset) > FEW_IMAGES
    )
    logits = np.empty((len(dataset), len(predictor.labels)), np.float32)
    readable, unknown = np.zeros(len(dataset), np.bool_), np.zeros(len(dataset), np.bool_)
    failures: dict[int, Failure] = {}
    doubtful: defaultdict[str, list[int]] = defaultdict(list)
    order, done = _in_turns(dataset.names), 0
    images = ((place, dataset.sources[place]) for place in order)
    batches = batched(images, labeller.batch_size, singles=labeller.workers)
    for predictions in ordered_map(labeller.label, batches, workers=labeller.workers):
        predictor.report_warnings()
        for prediction in predictions:
            place, done = order[done], done + 1
            if prediction.error is None:
                logits[place], readable[place] = prediction.logits, True
                unknown[place] = prediction.unknown is True
            else:
                failures[place] = prediction.error
            for text in prediction.warnings:
                doubtful[text].append(place)
        if progress is not None:
            progress(done, len(failures))
    truth = np.array([matching.indices[name] for name in dataset.names], np.int64)
    logits = logits[readable]
    scores = predictor.classifier.scores(logits)
    for text in predictor.warnings:  # those are of the model
        doubtful.pop(text, None)
    return Outputs(
        dataset,
        truth,
        readable,
        logits,
        scores,
        dict(sorted(failures.items())),
        {text: sorted(places) for text, places in doubtful.items()},
        unknown[readable] if predictor.classifier.unknown is not None else None,
    )


def _in_turns(names: Sequence[str]) -> list[int]:
    """The places of all names: the first of each, then the second of each, and so on."""
    seen: Counter[str] = Counter()
    turns = []
    for name in names:
        turns.append(seen[name])
        seen[name] += 1
    return sorted(range(len(names)), key=turns.__getitem__)


def _notes(
    predictor: Predictor, outputs: Outputs, matching: Matching, order: OrderFinding
) -> list[str]:
    dataset = outputs.dataset
    classes = dataset.classes
    notes = []
    calibration = predictor.classifier.calibration
    if calibration is not None and calibration.digest == dataset.digest:
        notes.append(
            "the model was calibrated on these images: its calibration error, Brier score and log"
            " likelihood look better than they are; use other images"
        )
    if len(classes) == 1:
        notes.append(
            f"all images are of one class, {classes[0]!r}: accuracy is the recall of this class,"
            " and images of other classes that are predicted as it are not counted"
        )
    elif len(dataset) < 2 * len(classes):
        notes.append(
            f"only {number_of(len(dataset), 'image')} of {len(classes)} classes: metrics of single"
            " classes mean little"
        )
    if matching.assumed:
        notes.append(f"the model has no class names; {matching}: check that this is its order")
    if order.note:
        notes.append(order.note)
    if (drift := _drift(predictor, outputs)) is not None:
        notes.append(_of_unknown(drift, outputs))
    return [*notes, *predictor.warnings, *_of_images(outputs)]


def _of_unknown(drift: Drift, outputs: Outputs) -> str:
    """How many are unknown, and how often the others are right."""
    assert outputs.unknown is not None
    known = outputs.best[~outputs.unknown] == outputs.known[~outputs.unknown]
    if not drift.unknown or not len(known):
        return str(drift)
    return f"{drift}; of the others {percent(float(known.mean()))} are right"


def _of_images(outputs: Outputs) -> list[str]:
    """What was noticed of images, each with their number and the first of them."""
    sources = outputs.dataset.sources
    return [
        f"{len(places):,} of {number_of(len(sources), 'image')}: {text}; the first is"
        f" {sources[places[0]]}"
        for text, places in outputs.doubtful.items()
    ]
