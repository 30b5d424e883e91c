"""Resolve a label: an index, name or id from the user in, the index of the class out."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, SupportsIndex

from toplabel.errors import UsageError

if TYPE_CHECKING:
    from toplabel.labels.labels import Labels


def resolve_label(label: int | str, labels: Labels) -> int:
    """The index of the class that is meant.

    Args:
        label: An index; or exactly the name or id of one of the classes.
        labels: The model's.

    Raises:
        UsageError: There is no such class, or several share the name: it lists them.
    """
    if isinstance(label, str):
        return _find_name(label, labels)
    if isinstance(label, bool) or not isinstance(label, SupportsIndex):
        raise UsageError(f"got label {label!r}; expected the name or index of a class")
    index = operator.index(label)
    if not 0 <= index < len(labels):
        raise UsageError(f"got class index {index}; expected 0 to {len(labels) - 1}")
    return index


def _find_name(name: str, labels: Labels) -> int:
    found = [index for index, known in enumerate(labels) if known == name]
    found = found or [index for index, known in enumerate(labels.ids or ()) if known == name]
    if len(found) > 1:
        raise UsageError(
            f"label {name!r} is ambiguous: {len(found)} classes have that name; give the index of"
            f" one: {', '.join(map(str, found))}"
        )
    if not found:
        raise UsageError(f"unknown label {name!r}{_hint(name, labels)}")
    return found[0]


def _hint(name: str, labels: Labels) -> str:
    from difflib import get_close_matches  # only for a name that is wrong

    part = [known for known in labels if name.strip() and name.lower() in known.lower()]
    close = part[:3] or get_close_matches(name, labels.names, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
