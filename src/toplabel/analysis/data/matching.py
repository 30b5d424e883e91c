"""Matching: what people call their classes in, the model's class indices out; or a stop."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from toplabel.analysis.data.images import SYNSET
from toplabel.errors import LabelsError
from toplabel.labels.labels import Labels

How = Literal["name", "id", "spelling", "index", "order"]
_WORDS: dict[How, str] = {
    "name": "by name",
    "id": "by id",
    "spelling": "by name, spelled otherwise",
    "index": "by index",
    "order": "by their place in the sorted names, as ImageFolder numbers them",
}
_LISTED = 4


@dataclass(frozen=True, slots=True)
class Matching:
    """Which of a model's classes each name stands for.

    Args:
        indices: Name -> class index.
        how: Name -> what told it.
    """

    indices: Mapping[str, int]
    how: Mapping[str, How]

    @property
    def assumed(self) -> bool:
        """Whether only the sorted order of the names says which class is which."""
        return "order" in self.how.values()

    def __str__(self) -> str:
        kinds = [how for how in _WORDS if how in self.how.values()]
        counts = {kind: sum(how == kind for how in self.how.values()) for kind in kinds}
        if len(kinds) == 1:
            return f"all {len(self.how)} classes match, {_WORDS[kinds[0]]}"
        told = ", ".join(f"{count} {_WORDS[kind]}" for kind, count in counts.items())
        return f"all {len(self.how)} classes match: {told}"


def match_classes(names: Iterable[str], labels: Labels, *, model: str = "the model") -> Matching:
    """Find each name among a model's labels: by name, id, spelling or index, in this order.

    Upper and lower case, and what stands between words, are overlooked where that is not
    ambiguous. "n01440764" and "n01440764_tench" are ids. Digits are indices where the labels are
    no digits. A model without names takes the sorted order of the names, where there are as many
    as it has classes, and says so.

    Args:
        names: As their owner calls them.
        labels: The model's.
        model: What to call it in errors.

    Raises:
        LabelsError: A name matches no label, or several; or two match the same.
    """
    wanted = sorted(set(names))
    known = _Known.of(labels)
    found = {name: known.find(name) for name in wanted}
    lost = [name for name, match in found.items() if match is None]
    if lost and not labels.named and len(lost) == len(wanted) == len(labels):
        return Matching(
            {name: index for index, name in enumerate(wanted)}, dict.fromkeys(wanted, "order")
        )
    if lost:
        raise LabelsError(_complaint(lost, len(wanted), labels, model))
    matches = {name: match for name, match in found.items() if match is not None}
    _refuse_twins({name: index for name, (index, _) in matches.items()}, labels)
    return Matching(
        {name: index for name, (index, _) in matches.items()},
        {name: how for name, (_, how) in matches.items()},
    )


@dataclass(frozen=True, slots=True)
class _Known:
    labels: Labels
    names: Mapping[str, list[int]]
    ids: Mapping[str, list[int]]
    spelled: Mapping[str, list[int]]

    @classmethod
    def of(cls, labels: Labels) -> _Known:
        return cls(
            labels,
            _grouped(labels) if labels.named else {},
            _grouped(labels.ids or ()),
            _grouped(map(_plain, labels)) if labels.named else {},
        )

    def find(self, name: str) -> tuple[int, How] | None:
        """The class of this name and what told it; None where there is none.

        Raises:
            LabelsError: Several classes are called so.
        """
        synset = SYNSET.match(name)
        tries: list[tuple[How, Mapping[str, list[int]], str]] = [
            ("name", self.names, name),
            ("id", self.ids, name),
            ("id", self.ids, synset[1] if synset else ""),
            ("spelling", self.spelled, _plain(name)),
        ]
        for how, table, key in tries:
            classes = table.get(key, []) if key else []
            if len(classes) > 1:
                raise LabelsError(
                    f"got the class {name!r}, and {len(classes)} of the model's classes are called"
                    f" so: {', '.join(map(str, classes))}; name it by its index or id"
                )
            if classes:
                return classes[0], how
        if name.isdecimal() and int(name) < len(self.labels):
            return int(name), "index"
        return None


def _grouped(keys: Iterable[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        found[key].append(index)
    return dict(found)


def _plain(name: str) -> str:
    """The name in lower case, with one space between words."""
    return re.sub(r"[\s_\-.,'/]+", " ", name).strip().casefold()


def _refuse_twins(indices: Mapping[str, int], labels: Labels) -> None:
    first: dict[int, str] = {}
    for name, index in indices.items():
        if index in first:
            raise LabelsError(
                f"got the classes {first[index]!r} and {name!r}, which both match the label"
                f" {labels[index]!r} (class {index}); give one of them another name"
            )
        first[index] = name


def _complaint(lost: list[str], wanted: int, labels: Labels, model: str) -> str:
    from difflib import get_close_matches  # only where something is wrong

    shown = ", ".join(map(repr, lost[:_LISTED])) + (", ..." if len(lost) > _LISTED else "")
    known = [*labels] if labels.named else []
    close = get_close_matches(lost[0], known, n=1, cutoff=0.5)
    hint = f"; nearest to {lost[0]!r} is {close[0]!r}" if close else ""
    examples = ", ".join(map(repr, known[:3]))
    has = f"{len(labels)} labels ({examples}, ...)" if known else f"{len(labels)} classes, unnamed"
    return (
        f"{len(lost)} of {wanted} classes match no label of {model}: {shown}; it has {has}{hint};"
        " name the classes as the labels, by id or by index, or give --labels"
    )
