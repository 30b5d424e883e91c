"""Rendering: what was found out in, a picture for people or numbers for programs out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from toplabel.analysis.explain.overlay import LONGEST_SIDE, overlay, shown_size
from toplabel.analysis.explain.pipeline import Finding, find
from toplabel.analysis.explain.upsample import place

if TYPE_CHECKING:
    from toplabel.image.options import ReadOptions
    from toplabel.inference.classifier import Classifier
    from toplabel.inference.engines import Engine

Format = Literal["png", "json"]

_SIDES = {"png": 1024, "json": 128}
"""The longest side of what goes over a network."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer's bytes, and what they show: plain data for JSON."""

    content: bytes
    facts: dict[str, Any]


def explain_upload(
    classifier: Classifier,
    engine: Engine,
    content: bytes,
    *,
    label: int | None,
    format: Format,
    read: ReadOptions,
) -> Rendered:
    """A PNG of an uploaded picture with the heat over it, or a JSON object with the heat in rows.

    Args:
        classifier: The model.
        engine: Runs it.
        content: The picture file.
        label: The index of the class; None: the best.
        format: "png" or "json".
        read: Limits in reading it.

    Raises:
        ImageError: The picture cannot be read.
        UsageError: There is no such class.
    """
    finding = find(classifier, engine, bytes(content), label=label, read=read)
    facts = facts_of(finding, classifier)
    if format == "png":
        return Rendered(render_png(finding, classifier, longest=_SIDES["png"]), facts)
    picture = finding.picture.height, finding.picture.width
    size = shown_size(*picture, longest=_SIDES["json"])
    heat = place(finding.input_heat, classifier.preprocess, picture=picture, size=size)
    rows = [[round(float(value), 3) for value in row] for row in heat]
    return Rendered(json.dumps(facts | {"heat": rows}).encode(), facts)


def render_png(finding: Finding, classifier: Classifier, *, longest: int = LONGEST_SIDE) -> bytes:
    """A PNG of the upright picture with the heat over it; a larger one is made this large."""
    picture = finding.picture.height, finding.picture.width
    size = shown_size(*picture, longest=longest)
    heat = place(finding.input_heat, classifier.preprocess, picture=picture, size=size)
    name = classifier.labels[finding.index]
    texts = {
        "Title": name,
        "Description": f"{name} {finding.score:.4f} by {classifier.name}, {finding.method}",
    }
    return overlay(finding.picture.pixels, heat, texts=texts)


def facts_of(finding: Finding, classifier: Classifier) -> dict[str, Any]:
    """What was found out, without the heat itself: plain data for JSON."""
    return {
        "label": classifier.labels[finding.index],
        "index": finding.index,
        "score": finding.score,
        "method": finding.method,
        "layer": finding.layer,
        "faithfulness": finding.faithfulness[0],
        "random_faithfulness": finding.faithfulness[1],
        "model": classifier.name,
        "width": finding.picture.width,
        "height": finding.picture.height,
    }
