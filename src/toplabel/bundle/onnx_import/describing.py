"""Describing: an ONNX file in, what it says of itself out, for people. No engine runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from toplabel.bundle.onnx_import.metadata import find_labels, find_preprocess
from toplabel.bundle.onnx_import.shapes import shape_text
from toplabel.bundle.onnx_import.source import read_source
from toplabel.errors import LabelsError, PreprocessError
from toplabel.labels.labels import Labels

_SHOWN_LABELS = 5
_SHOWN_TEXT = 80


def describe_onnx(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What an ONNX file says of itself, as plain data for JSON.

    `labels` and `preprocess` are None where it states none, or a text that says what is wrong.

    Raises:
        BundleError: It cannot be read, is no ONNX file, is damaged, or names weights elsewhere.
        ModelError: It does not take a batch of pictures.
    """
    source = read_source(path)
    metadata = source.outline.metadata
    labels = _labels(metadata)
    return {
        "file": os.fspath(path),
        "kind": "ONNX file",
        "size_bytes": sum(stamp.size for stamp in source.stamps),
        "producer": source.outline.producer or "not stated",
        "input": f"{source.taken.name} {source.taken.dtype} {shape_text(source.taken)}",
        "outputs": list(source.outline.makers),
        "weights_files": list(source.outline.weights),
        "classes": len(labels) if isinstance(labels, Labels) else None,
        "labels": list(labels.names[:_SHOWN_LABELS]) if isinstance(labels, Labels) else labels,
        "preprocess": _preprocess(metadata),
        "licence": metadata.get("licence") or metadata.get("license", "not stated"),
        "metadata": {key: text[:_SHOWN_TEXT] for key, text in metadata.items()},
    }


def _labels(metadata: Mapping[str, str]) -> Labels | str | None:
    try:
        return find_labels(metadata)
    except LabelsError as error:
        return str(error)


def _preprocess(metadata: Mapping[str, str]) -> dict[str, Any] | str | None:
    try:
        recipe = find_preprocess(metadata)
    except PreprocessError as error:
        return str(error)
    return None if recipe is None else recipe.to_dict()
