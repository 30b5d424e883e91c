"""Labels: class index -> text. The index is the key; names need not be unique."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from toplabel._internal.options import suggests_names
from toplabel._internal.text import number_of
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
                f"got {number_of(len(self.names), 'class name')} and"
                f" {number_of(len(self.ids), 'id')}; expected one per name"
            )

    def __repr__(self) -> str:
        """One line: how many, and the first ones."""
        shown = ", ".join(self.names[:3]) + (", ..." if len(self) > 3 else "")
        return f"<Labels: {number_of(len(self), 'class', 'classes')}: {shown}>"

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
        from toplabel.labels.listed import ListedNames  # a compiled model's are in order

        return ListedNames.of(names).in_order()

    def fit(self, outputs: int) -> bool:
        """Whether there is a name for each output; for one output also those of no and yes."""
        return outputs == len(self) or (outputs, len(self)) == (1, 2)

    def check_count(self, outputs: int) -> None:
        """Refuse a model that does not have one output per name.

        Raises:
            LabelsError: The counts differ.
        """
        if outputs != len(self):
            hint = _count_hint(outputs, len(self))
            raise LabelsError(
                f"got {number_of(len(self), 'label')} for a model with"
                f" {number_of(outputs, 'output')}; expected exactly one name per output, in the"
                f" order of training{hint and f'; {hint}'}"
            )


def _count_hint(outputs: int, labels: int) -> str:
    """The likely reason why the numbers of outputs and names differ; "" where there is none."""
    if outputs == labels + 1:
        example = " (as TensorFlow's 1001 for ImageNet)" if outputs == 1001 else ""
        return (
            f"one extra output is often a background class{example}: if the model has one, put its"
            " name where it was in training, usually first"
        )
    if outputs == 1:
        return "one output means yes or no: pass two names, that of no first, or that of yes"
    if outputs == labels - 1:
        return (
            "one extra name is often a header, a background class, or a folder that is not a class:"
            " remove it from the list"
        )
    return ""
