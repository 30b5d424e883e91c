"""Explaining: a predictor, or a model's name, and an image in, a heat map out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from toplabel.analysis.explain.pipeline import explanation_of, find
from toplabel.inference.predictor import Predictor
from toplabel.models.load import shared_predictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from toplabel.analysis.explain.explanation import Explanation, MethodChoice


def explain(
    model: Predictor | str | os.PathLike[str] | None,
    source: object,
    label: int | str | None = None,
    *,
    method: MethodChoice = "auto",
) -> NDArray[np.float32]:
    """What in a picture spoke for a label: float32 (H, W) in [0, 1].

    (H, W) is the upright picture's own size; 1 is where most spoke for the label, 0 where nothing
    did, and outside of the part that the model saw.

    >>> import toplabel
    >>> toplabel.explain(toplabel.load(), "examples/coffee.jpg").shape
    (400, 600)

    Args:
        model: A predictor, or what `load` takes.
        source: As a predictor takes it: a path, URL, bytes, picture or array.
        label: The class: its index, name or id; None: the one that the model says it is.
        method: "gradcam": by the network's gradients, in PyTorch, with captum. "occlusion": by
            what the score loses under a patch, with any model. "auto": Grad-CAM where it can be
            had and gives a map, else occlusion.

    Raises:
        ImageError: The picture cannot be read.
        UsageError: There is no such label, or several classes of that name: it lists them.
        ModelError: Grad-CAM was demanded, and this model gives none.
        MissingDependency: Grad-CAM was demanded, and `toplabel[explain]` is not installed.
    """
    return explain_picture(model, source, label, method=method).heat


def explain_picture(
    model: Predictor | str | os.PathLike[str] | None,
    source: object,
    label: int | str | None = None,
    *,
    method: MethodChoice = "auto",
) -> Explanation:
    """As `explain`, with the label, how the map was made, and how far it can be trusted."""
    predictor = model if isinstance(model, Predictor) else shared_predictor({"model": model})
    finding = find(
        predictor.classifier,
        predictor.open_engine(),
        source,
        label=label,
        method=method,
        read=predictor.read,
        batch_size=predictor.batch_size,
    )
    return explanation_of(finding, predictor.classifier)
