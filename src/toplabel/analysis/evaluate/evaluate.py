"""Evaluating: a model and labelled images in, how often it is right out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toplabel._internal.optional import require
from toplabel.analysis.data import (
    LabelledImages,
    Matching,
    OrderFinding,
    find_order,
    match_classes,
    read_labelled,
)
from toplabel.analysis.evaluate.metrics import Measures, measure
from toplabel.analysis.evaluate.outputs import Answers, answer_all
from toplabel.errors import ModelError, UsageError
from toplabel.inference.predictor import Predictor
from toplabel.models.load import shared_predictor

if TYPE_CHECKING:
    from toplabel.labels.labels import Labels

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """How a model did on labelled images.

    Args:
        model: Its name, in full.
        data: Where the images are from.
        labels: The model's.
        measures: How good it is.
        matching: How the images' classes were found among its labels.
        order: Whether its labels stand in the network's order.
        notes: What to know of these figures, a sentence each.
        answers: What it said of each image.
    """

    model: str
    data: str
    labels: Labels
    measures: Measures
    matching: Matching
    order: OrderFinding
    notes: tuple[str, ...]
    answers: Answers

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the single answers."""
        return {
            "model": self.model,
            "data": self.data,
            **self.measures.to_dict(),
            "errors": dict(self.answers.codes),
            "order": {
                "kind": self.order.kind,
                "accuracy": self.order.accuracy,
                "fitted": self.order.fitted,
                "p": self.order.p,
            },
            "notes": list(self.notes),
        }


def evaluate(
    model: Predictor | str | os.PathLike[str] | None,
    data: LabelledImages | str | os.PathLike[str],
    *,
    progress: Progress | None = None,
) -> Evaluation:
    """How often a model is right.

    >>> evaluation = toplabel.evaluate("best.toplabel", "val/")
    >>> evaluation.measures.top1.value
    0.934

    Args:
        model: A predictor, or what `load` takes.
        data: Labelled images, or what `read_labelled` takes: a folder of class folders, a
            folder of files that begin with synsets, a .csv of paths and labels.
        progress: Called with the number of images done, and of those that failed.

    Raises:
        UsageError: There are no labelled images, or none could be labelled.
        LabelsError: Their classes match no labels of the model; it says which.
        ModelError: It is a multi-label model: an image has one class here.
        MissingDependency: `toplabel[evaluate]` is not installed.
    """
    require("sklearn", extra="evaluate", purpose="evaluating a model")
    predictor = model if isinstance(model, Predictor) else shared_predictor({"model": model})
    images = data if isinstance(data, LabelledImages) else read_labelled(data)
    if predictor.classifier.activation == "sigmoid":
        raise ModelError(
            f"{predictor.name} is a multi-label model; evaluating takes one class an image, so it"
            " needs a model of exclusive classes"
        )
    matching = match_classes(images.classes, predictor.labels, model=predictor.name)
    answers = answer_all(predictor, images, matching, progress=progress)
    if not answers.read.any():
        first = next(iter(answers.failures.values()))
        raise UsageError(
            f"none of {len(images)} images of {images.origin} could be labelled; the first:"
            f" {first.message}"
        )
    order = find_order(answers.known, answers.logits, predictor.labels)
    return Evaluation(
        model=predictor.name,
        data=images.origin,
        labels=predictor.labels,
        measures=measure(answers, predictor.labels),
        matching=matching,
        order=order,
        notes=tuple(_notes(predictor, images, matching, order)),
        answers=answers,
    )


def _notes(
    predictor: Predictor, images: LabelledImages, matching: Matching, order: OrderFinding
) -> list[str]:
    classes = images.classes
    notes = []
    calibration = predictor.classifier.calibration
    if calibration is not None and calibration.digest == images.digest:
        notes.append(
            "these are the images that the model was calibrated on: its calibration error, Brier"
            " score and likelihood are flattered; take others"
        )
    if len(classes) == 1:
        notes.append(
            f"all images are of one class, {classes[0]!r}: this is its recall, and says nothing of"
            " what else the model calls so"
        )
    elif len(images) < 2 * len(classes):
        notes.append(
            f"{len(images)} images of {len(classes)} classes: figures of single classes mean little"
        )
    if matching.assumed:
        notes.append(f"the model has no class names; {matching}: are they the network's?")
    if order.note:
        notes.append(order.note)
    return notes
