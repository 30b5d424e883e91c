"""A class prior as users state it in; a share for each of a model's classes out."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import fsum, isfinite
from typing import TYPE_CHECKING

from toplabel.analysis.data.dataset import match_classes, read_dataset
from toplabel.errors import UsageError

if TYPE_CHECKING:
    from toplabel.labels.labels import Labels

PriorLike = str | os.PathLike[str] | Mapping[str, float] | Mapping[int, float] | Sequence[float]
"""What states a prior; see `read_prior`."""

BALANCED, AS_TRAINED = "balanced", "as-trained"

_PAIR = re.compile(r"\s*(?P<name>.+?)\s*=\s*(?P<share>[^=,]+?)\s*(?:,|$)")
_SUM_ROUNDING = 0.0101  # three times 0.33
_SHOWN = 4


def read_prior(
    given: PriorLike, labels: Labels, *, argument: str = "prior", model: str = "the model"
) -> tuple[float, ...]:
    """The shares that a user states, in the order of the model's labels, above 0, with sum 1.

    Args:
        given: "balanced": all classes alike. Or a number for each class, as text
            ("cat=0.9,dog=0.1"), as a mapping from names (or ids, or indices), or as a sequence in
            the order of the labels: shares that sum to 1, or whole numbers, which count. Or
            labelled images, as `evaluate` takes them, whose classes are counted.
        labels: The model's K labels.
        argument: What to call it in errors.
        model: What to call the model in errors.

    Raises:
        UsageError: A class is missing or stands twice, a number is no share and no count, or the
            shares do not sum to 1; says which.
        LabelsError: A name matches no label, or several.
    """
    numbers = _numbers_of(given, labels, argument, model)
    if wrong := [number for number in numbers if not (isfinite(number) and number > 0)]:
        raise UsageError(
            f"got {wrong[0]:g} for a class in {argument}; expected a number above 0 (for a class"
            " that is hardly ever there, a small one)"
        )
    total = fsum(numbers)
    counts = all(number == int(number) for number in numbers)
    if not counts and abs(total - 1) > _SUM_ROUNDING:
        raise UsageError(
            f"the shares in {argument} sum to {total:.4g}; expected 1, or whole numbers that count"
            " images"
        )
    return tuple(number / total for number in numbers)


def _numbers_of(given: PriorLike, labels: Labels, argument: str, model: str) -> tuple[float, ...]:
    if isinstance(given, str) and given == BALANCED:
        return (1.0,) * len(labels)
    if isinstance(given, str | os.PathLike):
        if os.path.exists(given):
            given = Counter(read_dataset(given).names)
        else:
            given = _parsed(os.fspath(given), argument)
    if isinstance(given, Mapping):
        return _in_order(given, labels, argument, model)
    try:
        numbers = tuple(float(one) for one in given)
    except (TypeError, ValueError):
        raise UsageError(f"got {argument}={given!r}; {_EXPECTED}") from None
    if len(numbers) != len(labels):
        raise UsageError(
            f"got {len(numbers)} numbers in {argument}; {model} has {len(labels)} classes"
        )
    return numbers


_EXPECTED = (
    "expected 'balanced', a number for each class ('cat=0.9,dog=0.1'), or a folder with one"
    " sub-folder per class"
)


def _parsed(text: str, argument: str) -> dict[str, float]:
    """The numbers in "cat=0.9,dog=0.1" by name; names may hold commas."""
    found: dict[str, float] = {}
    end = 0
    while end < len(text) and (pair := _PAIR.match(text, end)):
        name, end = pair["name"], pair.end()
        try:
            share = float(pair["share"])
        except ValueError:
            raise UsageError(
                f"got {pair['share']!r} for {name!r} in {argument}; expected a number"
            ) from None
        if name in found:
            raise UsageError(f"{argument} states {name!r} twice; expected each class once")
        found[name] = share
    if end < len(text) or not found:
        raise UsageError(f"got {argument} {text!r}; {_EXPECTED}")
    return found


def _in_order(
    given: Mapping[str, float] | Mapping[int, float], labels: Labels, argument: str, model: str
) -> tuple[float, ...]:
    """The numbers by class, each stated once."""
    by_name = {str(name): number for name, number in given.items()}
    matching = match_classes(by_name, labels, model=model)
    if matching.assumed:
        raise UsageError(
            f"{model} has no class names; state {argument} by index ('0=0.9,1=0.1'), or pass"
            " labels=..."
        )
    stated = {matching.indices[name]: number for name, number in by_name.items()}
    if missing := [labels[i] for i in range(len(labels)) if i not in stated]:
        raise UsageError(
            f"{argument} says nothing of {_listed(missing)}; expected a number for each of the"
            f" {len(labels)} classes of {model}"
        )
    try:
        return tuple(float(stated[i]) for i in range(len(labels)))
    except (TypeError, ValueError):
        raise UsageError(f"got {argument}={dict(given)!r}; expected numbers") from None


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _SHOWN:,} others" if len(found) > _SHOWN else ""
    return ", ".join(map(repr, found[:_SHOWN])) + more
