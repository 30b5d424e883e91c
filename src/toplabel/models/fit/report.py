"""Difference: where a file and a network do not agree in, a text that a person can act on out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from toplabel.models.fit.matching import Shape

_FIRST = 10  # names of each kind that are shown
_LINES = 24  # of the whole, so that it stays on a screen
_CLASSES = ("num_classes", "n_classes", "nb_classes", "num_labels", "classes", "out_features")
_CHANNELS = ("in_chans", "in_channels", "num_channels", "channels", "in_ch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where the names and shapes of a file and of a network differ.

    Args:
        total: How many tensors the network needs.
        missing: Those that the file lacks, with their shapes.
        unexpected: Those that only the file has, by the file's names.
        clashes: Those of another shape, by the network's names: the file's shape, the network's.
        kinds: Those of another kind of numbers: the file's, the network's.
    """

    total: int
    missing: Mapping[str, Shape] = field(default_factory=dict)
    unexpected: Mapping[str, Shape] = field(default_factory=dict)
    clashes: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)
    kinds: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.clashes or self.kinds)

    @property
    def misfits(self) -> int:
        """How many tensors of the file fit no place, or a place of another form."""
        return len(self.clashes) + len(self.kinds)

    @property
    def agreeing(self) -> int:
        """How many of the network's tensors the file has, in their shape."""
        return self.total - len(self.missing) - self.misfits

    def describe(self, module: nn.Module, name: str) -> str:
        """A line that sums it up, the first names of each kind, and what to do: at most 25 lines.

        Args:
            module: The network.
            name: What to call the file.
        """
        network = type(module).__name__
        summary = (
            f"{name} does not fit {network}: {self.agreeing} of {self.total} tensors agree,"
            f" {len(self.missing)} are missing from the file, {len(self.unexpected)} are unexpected"
            f" in it, {self.misfits} have another shape or kind"
        )
        sections = [section for section in self._sections(network) if section[1]]
        advice = self._advice(module)
        left = _LINES - 1 - len(sections) - len(advice)
        share = min(_FIRST, left // max(1, len(sections)))
        lines = [summary]
        for title, names in sections:
            first = f", the first {share} of {len(names)}" if len(names) > share else ""
            lines += [f"  {title}{first}:", *(f"    {line}" for line in names[:share])]
        return "\n".join([*lines, *(f"  {line}" for line in advice)])

    def _sections(self, network: str) -> list[tuple[str, list[str]]]:
        clashes = [
            f"{name}: the file has {theirs}, the class makes {ours}"
            for name, (theirs, ours) in (self.clashes | self.kinds).items()  # type: ignore[operator]
        ]
        return [
            (f"only in {network}", [f"{name} {shape}" for name, shape in self.missing.items()]),
            ("only in the file", [f"{name} {shape}" for name, shape in self.unexpected.items()]),
            ("in both, but different", clashes),
        ]

    def _advice(self, module: nn.Module) -> list[str]:
        if self.agreeing + self.misfits == 0:
            return ["no name agrees: this is another architecture, or another class of that name"]
        said = []
        if classes := _common_change(self.clashes, axis=0, from_axis=0):
            argument = _argument(module, _CLASSES)
            said.append(f"the file has {classes} outputs: try --arch-arg {argument}={classes}")
        if channels := _common_change(self.clashes, axis=1, from_axis=2):
            argument = _argument(module, _CHANNELS)
            said.append(f"the file takes {channels} channels: try --arch-arg {argument}={channels}")
        if not (self.missing or self.clashes or self.kinds):
            said.append(
                "the class has all it needs, but the file has layers beyond it, without which its"
                " answers would be wrong: name the class that it was trained with"
            )
        elif not (self.unexpected or self.clashes or self.kinds):
            said.append(
                "the class has layers that the file does not, such as a classifier: name the class"
                " that it was trained with"
            )
        return said or ["name the class and its arguments, --arch-arg NAME=VALUE, of its training"]


def _common_change(clashes: Mapping[str, tuple[Shape, Shape]], *, axis: int, from_axis: int) -> int:
    """The file's size along an axis, where few tensors differ, in that and all in one way; or 0."""
    changes = set()
    for theirs, ours in clashes.values():
        if len(theirs) == len(ours) > from_axis:
            differing = [
                at for at, pair in enumerate(zip(theirs, ours, strict=True)) if len(set(pair)) > 1
            ]
            if differing == [axis]:
                changes.add((theirs[axis], ours[axis]))
    return changes.pop()[0] if len(changes) == 1 else 0


def _argument(module: nn.Module, usual: Sequence[str]) -> str:
    """What the class calls an argument, by its usual names."""
    try:
        taken = inspect.signature(type(module)).parameters
    except (TypeError, ValueError):
        return usual[0]
    return next((name for name in usual if name in taken), usual[0])
