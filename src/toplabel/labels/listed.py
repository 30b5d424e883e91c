"""Listed names: class names with an index, a folder or nothing beside each in; `Labels` out.

The one place that decides which output a number means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toplabel._internal.notices import warn
from toplabel._internal.text import number_of
from toplabel.errors import LabelsError
from toplabel.labels.labels import Labels

SYNSET = re.compile(r"n\d{8}")
"""WordNet's identifier of a noun, as ImageNet uses it."""

_INDEX = re.compile(r"\d{1,9}(?:\.0{1,9})?", re.ASCII)
_NAME, _NUMBER = "(class(es)?|cls|labels?|names?|cat|category)", "(idx|id|ids|ind|index|int|num)"
_TO_INDEX = re.compile(f"(.*_)?{_NAME}(_to_|_?2_?){_NUMBER}|{_NAME}_(indices|ids|index)")
_TO_NAME = re.compile(f"(.*_)?{_NUMBER}(_to_|_?2_?){_NAME}|({_NAME}_?)?names")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedNames:
    """Class names in the order in which they were found, and what stands beside each.

    Args:
        names: One per class.
        keys: What says which class each is: its index, or the name of its folder.
        ids: WordNet synsets.
        where: How to speak of a name in messages, by its place in the list: "line 3".
        surely_indices: The keys cannot be names of folders.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None
    where: Callable[[int], str] | None = None
    surely_indices: bool = False

    @classmethod
    def of(
        cls, names: Sequence[str] | Mapping[str, int] | Mapping[int, str], *, called: str = ""
    ) -> ListedNames:
        """The names in a list, or those in a mapping with their indices or folders.

        Args:
            names: As `Labels.of` takes them; also synset -> name and folder -> name.
            called: What the mapping is called where it stands: "class_to_idx" tells which of its
                numbers are indices.

        Raises:
            LabelsError: It is none of these.
        """
        if isinstance(names, Mapping):
            return _of_mapping(names, called)
        if hasattr(names, "tolist"):  # an array, a column of a table
            names = names.tolist()
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise LabelsError(
                f"got labels as {type(names).__name__}; expected a list of names, a mapping"
                " name -> index, or a mapping index -> name"
            )
        wrong = [name for name in names if not isinstance(name, str)]
        if wrong:
            raise LabelsError(f"got {wrong[0]!r} among the labels; expected text")
        return cls(names=tuple(names))

    def in_order(self, own: Labels | None = None) -> Labels:
        """The labels, each at the output that its key means; what is doubtful is warned of.

        Args:
            own: What the model itself calls its classes: where these are folders, and the keys
                name the same folders, a key is a folder.

        Raises:
            LabelsError: The keys are not 0 to K-1, or 1 to K, each once, and no folders of `own`.
        """
        labels, doubt = self.arranged(own)
        if doubt is not None:
            warn(doubt, about="labels")
        return labels

    def arranged(self, own: Labels | None = None) -> tuple[Labels, str | None]:
        """As `in_order`; what is doubtful is the second value."""
        if self.keys is None or not self.names:
            return Labels(self.names, self.ids), None
        places, doubt = self._by_folder(own) or self._by_index()
        order = sorted(range(len(places)), key=lambda listed: places[listed])
        ids = self.ids and tuple(self.ids[listed] for listed in order)
        return Labels(tuple(self.names[listed] for listed in order), ids), doubt

    def _by_folder(self, own: Labels | None) -> tuple[list[int], str | None] | None:
        """The output of each name, where the keys are what the model calls its classes."""
        keys = self.keys or ()
        if own is None or not own.named or self.surely_indices:
            return None
        for known in filter(None, (own.names, own.ids)):
            if len(set(keys)) == len(keys) and sorted(keys) == sorted(known):
                at = {name: place for place, name in enumerate(known)}
                places = [at[key] for key in keys]
                doubt = None
                if all(map(is_index, keys)) and places != [int(float(key)) for key in keys]:
                    doubt = (
                        "the numbers beside the labels are taken as class folders, which the"
                        f" model's file puts in the order {', '.join(map(repr, known[:4]))}; if"
                        " they are outputs instead, pass the names as a list"
                    )
                return places, doubt
        return None

    def _by_index(self) -> tuple[list[int], str | None]:
        """The output of each name, by its number.

        Raises:
            LabelsError: The numbers do not count the classes, or it is unclear from where.
        """
        keys = self.keys or ()
        wrong = next((place for place, key in enumerate(keys) if not is_index(key)), None)
        if wrong is not None:
            raise LabelsError(
                f"got the pair {keys[wrong]!r}: {self.names[wrong]!r:.40} among the labels;"
                " expected name -> index or index -> name; names of class folders do where the"
                " model's file has its class_to_idx"
            )
        numbers = [int(float(key)) for key in keys]
        if counts_from(numbers) == 0:
            return numbers, None
        if counts_from(numbers) == 1:
            return [number - 1 for number in numbers], self._doubt_from_one(numbers)
        raise LabelsError(self._why_not(numbers))

    def _doubt_from_one(self, numbers: list[int]) -> str:
        """What to say where numbers count from 1, and no other reading gives another order.

        Raises:
            LabelsError: They may be folders, whose order is that of text.
        """
        count = len(numbers)
        if not self.surely_indices and count >= 10 and numbers != sorted(numbers):
            raise LabelsError(
                f"the names are numbered from 1 to {count}, and outputs count from 0: if 1 means"
                " the first output, number them from 0; if these are class folders, which"
                " ImageFolder sorts as text (1, 10, 2), pass the names as a list in that order"
            )
        return (
            f"the class names are numbered from 1: taking 1 to {count} as outputs 0 to {count - 1};"
            " number them from 0 to say so. It is wrong where output 0 is a background class, or"
            " where the numbers are those of another list"
        )

    def _why_not(self, numbers: list[int]) -> str:
        count, seen = len(numbers), set[int]()
        for place, number in enumerate(numbers):
            if self.where is not None and (number >= count or number in seen):
                return (
                    f"{self.where(place)} has index {number}{' again' if number in seen else ''};"
                    f" expected 0 to {count - 1} in {count} names, each once; number them from 0,"
                    " or leave the indices out if the names are in order"
                )
            if number in seen:
                return f"got index {number} twice among the labels; expected each once"
            seen.add(number)
        missing = min(set(range(count)) - seen)
        return (
            f"got {number_of(count, 'label')} without one for index {missing}; expected 0 to"
            f" {count - 1}, each once"
        )


def counts_from(numbers: Sequence[int]) -> int | None:
    """0 or 1, where the numbers are all those from there on, each once; None where they are not."""
    found = sorted(numbers)
    for start in (0, 1):
        if found and found == list(range(start, start + len(found))):
            return start
    return None


def is_index(text: object) -> bool:
    """Whether it is an index, as text: "2", "002", or "2.0" as tables may write it."""
    return isinstance(text, str) and _INDEX.fullmatch(text) is not None


def _of_mapping(mapping: Mapping[Any, Any], called: str) -> ListedNames:
    """The names of name -> index, index -> name, synset -> name or folder -> name."""
    mapping = {_plain(key): _plain(value) for key, value in mapping.items()}
    keys, values = list(mapping), list(mapping.values())
    to_index = all(type(value) is int for value in values)
    numbers = all(type(key) is int or is_index(key) for key in keys)
    if not to_index and not numbers and all(map(is_index, values)):
        to_index = True  # as text: {"cat": "0"}
    if to_index and numbers and not _is_name_to_index(mapping, called):
        to_index = False
    if to_index:
        return ListedNames(
            names=tuple(map(str, keys)), keys=tuple(map(str, values)), surely_indices=True
        )
    for key, value in mapping.items():
        of_name = isinstance(value, str) or (numbers and type(value) is int)
        if not of_name or not isinstance(key, str | int):
            raise LabelsError(
                f"got the pair {key!r}: {value!r:.40} among the labels; expected name -> index or"
                " index -> name"
            )
    names = tuple(map(str, values))
    if keys and all(isinstance(key, str) and SYNSET.fullmatch(key) for key in keys):
        return ListedNames(names=names, ids=tuple(keys))
    return ListedNames(names=names, keys=tuple(map(str, keys)))


def _plain(value: Any) -> Any:
    """NumPy's integers and text as Python's."""
    return value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value


def _is_name_to_index(mapping: Mapping[Any, int], called: str) -> bool:
    """Whether, of numbers to numbers, the second are the indices.

    Raises:
        LabelsError: They are the same numbers in different orders, and nothing says.
    """
    if _TO_INDEX.fullmatch(called):
        return True
    if _TO_NAME.fullmatch(called):
        return False
    there = {int(float(key)): value for key, value in mapping.items()}
    if sorted(there) != sorted(there.values()):
        return counts_from(list(there.values())) is not None
    if any(there[there[key]] != key for key in there):
        raise LabelsError(
            "got labels that map numbers to numbers, which may mean index -> name or name -> index;"
            " pass the names as text, or a list in the order of the outputs"
        )
    return True
