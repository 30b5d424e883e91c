"""Metadata: what an ONNX file's metadata says of labels and preprocessing."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from toplabel.errors import LabelsError, PreprocessError
from toplabel.labels.labels import Labels
from toplabel.preprocess import Preprocess

LABELS_KEY = "toplabel.labels"
PREPROCESS_KEY = "toplabel.preprocess"

_LABELS_KEYS = (LABELS_KEY, "names", "classes", "labels", "class_names", "id2label")
_LONGEST = 4 << 20


def find_labels(metadata: Mapping[str, str]) -> Labels | None:
    """The class names, from `toplabel.labels` or a key that others use; None where there are none.

    Values are JSON, or a Python literal as Ultralytics writes it.

    Raises:
        LabelsError: A key is there and holds no class names; says which.
    """
    for key in _LABELS_KEYS:
        text = metadata.get(key, "").strip()
        if not text:
            continue
        try:
            return Labels.of(_parse(text))
        except (LabelsError, ValueError) as error:
            raise LabelsError(
                f"the file's metadata {key!r} holds no class names: {error}; state them with labels"
                " (--labels classes.txt)"
            ) from error
    return None


def find_preprocess(metadata: Mapping[str, str]) -> Preprocess | None:
    """The recipe that `toplabel.preprocess` states; None where it does not.

    Raises:
        PreprocessError: It is no recipe.
    """
    text = metadata.get(PREPROCESS_KEY)
    if text is None:
        return None
    try:
        return Preprocess.from_json(text)
    except PreprocessError as error:
        raise PreprocessError(f"in the file's metadata {PREPROCESS_KEY!r}: {error}") from error


def _parse(text: str) -> Any:
    if len(text) > _LONGEST:
        raise ValueError(f"{len(text):,} characters")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError("it is neither JSON nor a Python literal") from None
