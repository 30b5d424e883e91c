"""Labels: class index -> text. The index is the key; names need not be unique."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from toplabel._internal.options import suggests_names
from toplabel.errors import LabelsError


@suggests_names
@dataclass(frozen=True, slots=True)
class Labels:
    """The names of a model's K classes, in the order of its outputs.

    `ids` are stable identifiers, one per class, where there are any (WordNet synsets for ImageNet).
    `named` is False where no names are known: then each name is the index as text.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...] | None = None
    named: bool = True

    def __post_init__(self) -> None:
        if not self.names:
            raise LabelsError("got no class names; expected one per output of the model")
        blank = next((i for i, name in enumerate(self.names) if not name.strip()), None)
        if blank is not None:
            raise LabelsError(f"got an empty name for class {blank}; expected one per class")
        if self.ids is not None and len(self.ids) != len(self.names):
            raise LabelsError(
                f"got {len(self.names)} class names and {len(self.ids)} ids; expected one per name"
            )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> str:
        return self.names[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    @classmethod
    def indices(cls, count: int) -> Labels:
        """Labels for a model that came without names: "0", "1", and so on."""
        return cls(tuple(map(str, range(count))), named=False)

    @classmethod
    def of(cls, names: Labels | Sequence[str] | Mapping[str, int] | Mapping[int, str]) -> Labels:
        """Labels from a list or a mapping.

        Args:
            names: A list of names in output order, a mapping name -> index (torchvision's
                `class_to_idx`), or a mapping index -> name (Hugging Face's `id2label`; the
                indices may be text, as JSON makes them).

        Raises:
            LabelsError: It is none of these, or its indices are not 0 to K-1, each once.
        """
        if isinstance(names, Labels):
            return names
        if isinstance(names, Mapping):
            return cls(_from_mapping(names))
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise LabelsError(
                f"got labels as {type(names).__name__}; expected a list of names, a mapping"
                " name -> index, or a mapping index -> name"
            )
        wrong = [name for name in names if not isinstance(name, str)]
        if wrong:
            raise LabelsError(f"got {wrong[0]!r} among the labels; expected text")
        return cls(tuple(names))

    def check_count(self, outputs: int) -> None:
        """Refuse a model that does not have one output per name.

        Raises:
            LabelsError: The counts differ.
        """
        if outputs != len(self):
            hint = _count_hint(outputs, len(self))
            raise LabelsError(
                f"got {len(self)} labels for a model with {outputs} outputs; expected exactly one"
                f" name per output, in the order of training{hint and f'; {hint}'}"
            )


def _from_mapping(mapping: Mapping[str, int] | Mapping[int, str]) -> tuple[str, ...]:
    """Names in index order, from name -> index or index -> name."""
    if _is_ambiguous(mapping):
        raise LabelsError(
            "got labels that map numbers to numbers, which may mean index -> name or name -> index;"
            " pass the names as text, or a list in the order of the outputs"
        )
    by_index: dict[int, str] = {}
    for key, value in mapping.items():
        index, name = (value, key) if isinstance(value, int) else (key, value)
        try:
            number = int(index)
        except (TypeError, ValueError):
            raise LabelsError(
                f"got the pair {key!r}: {value!r} among the labels; expected name -> index or"
                " index -> name"
            ) from None
        if number in by_index:
            raise LabelsError(f"got index {number} twice among the labels; expected each once")
        by_index[number] = str(name)
    if sorted(by_index) != list(range(len(by_index))):
        missing = min(set(range(len(by_index))) - set(by_index))
        raise LabelsError(
            f"got {len(by_index)} labels without one for index {missing}; expected 0 to"
            f" {len(by_index) - 1}, each once"
        )
    return tuple(by_index[index] for index in range(len(by_index)))


def _is_ambiguous(mapping: Mapping[str, int] | Mapping[int, str]) -> bool:
    """Whether keys and values are the same numbers in different orders."""
    if not all(isinstance(value, int) for value in mapping.values()):
        return False
    try:
        keys = [int(key) for key in mapping]
    except ValueError:
        return False
    values = [int(value) for value in mapping.values()]
    there = dict(zip(keys, values, strict=True))
    return sorted(keys) == sorted(values) and any(there[there[key]] != key for key in keys)


def _count_hint(outputs: int, labels: int) -> str:
    """The likely reason why the numbers of outputs and names differ; "" where there is none."""
    if outputs == labels + 1:
        example = " (as TensorFlow's 1001 for ImageNet)" if outputs == 1001 else ""
        return (
            f"one extra output is often a background class{example}: if the model has one, put its"
            " name where it was in training, usually first"
        )
    if (outputs, labels) == (1, 2):
        return "one output for two classes means yes or no: name the yes, and pass multi_label=True"
    if outputs == labels - 1:
        return (
            "one extra name is often a header, a background class, or a folder that is not a class:"
            " remove it from the list"
        )
    return ""
