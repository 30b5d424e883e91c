"""Explain: a predictor, or a model's name, and an image in, a heat map out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from toplabel._internal.options import suggests_names
from toplabel.analysis.explain.pipeline import explain_with
from toplabel.inference.predictor import Predictor
from toplabel.models.load import shared_predictor

if TYPE_CHECKING:
    from toplabel.analysis.explain.pipeline import Explanation, MethodChoice


@suggests_names
def explain(
    model: Predictor | str | os.PathLike[str] | None,
    source: object,
    label: int | str | None = None,
    *,
    method: MethodChoice = "auto",
) -> Explanation:
    """The evidence in an image for a label, as a heat map.

    `heat` is float32 (H, W) in [0, 1], where (H, W) is the size of the upright `image`: 1 marks
    the strongest evidence for the label, 0 none, and everything that the model does not see.
    `save("why.png")` writes both.

    >>> import toplabel
    >>> why = toplabel.explain(toplabel.load(), "examples/coffee.jpg")
    >>> why.label, why.heat.shape
    ('espresso', (400, 600))

    Args:
        model: A predictor, or what `load` accepts.
        source: As a predictor takes it: a path, URL, bytes, PIL image or array.
        label: The class: its index, name or id; None: the predicted one.
        method: "gradcam": from the network's gradients, with PyTorch and captum. "occlusion": from
            the drop in score under a moving patch, for any model. "auto": Grad-CAM where it is
            available and gives a map, else occlusion.

    Raises:
        ImageError: The image cannot be read.
        UsageError: There is no such label, or several classes share that name: it lists them.
        ModelError: Grad-CAM was requested, and this model does not support it.
        MissingDependency: Grad-CAM was requested, and `toplabel[explain]` is not installed.
    """
    predictor = model if isinstance(model, Predictor) else shared_predictor(model)
    return explain_with(
        predictor.classifier,
        predictor.open_engine(),
        source,
        label=label,
        method=method,
        read=predictor.read,
        batch_size=predictor.batch_size,
    )
