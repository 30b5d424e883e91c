"""Values: what an expression of a script may be, as far as it is known without running it."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from toplabel.models.script.sources import Unit

_MAX_PARTS = 200_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in the author's code."""

    unit: Unit
    line: int

    def __str__(self) -> str:
        return self.unit.where(self.line)


@dataclass(frozen=True, slots=True)
class Unknown:
    """What only running it would tell.

    Args:
        reason: Why an image's way was lost here; empty for what was no image.
        of_scores: It was made of what a network gave.
        parameter: The name of the parameter that it is.
        networks: Those whose scores they are; or of which it is one.
        whole: It is all that a network gave, be it one tensor or several.
        part: Which of the outputs it is, where it may be one of several.
    """

    reason: str = ""
    of_scores: bool = False
    parameter: str = ""
    networks: tuple[Any, ...] = ()
    whole: bool = False
    part: int | None = None


UNKNOWN = Unknown()


@dataclass(frozen=True, slots=True)
class Library:
    """Something of a library, by its full name: `torchvision.transforms.Resize`."""

    name: str


@dataclass(eq=False, slots=True)
class Module:
    """A file beside, as imported."""

    unit: Unit
    scope: Scope


@dataclass(eq=False, slots=True)
class Scope:
    """Names and what they mean, in a function, a class or a file."""

    parent: Scope | None = None
    names: dict[str, Any] = field(default_factory=dict)

    def find(self, name: str) -> Any:
        """What a name means here or further out; None where it means nothing."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        return None


@dataclass(eq=False, slots=True)
class Function:
    """A function of the script, or a method with its `self`."""

    unit: Unit
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    scope: Scope
    owner: Any = None

    @property
    def name(self) -> str:
        """What it is called."""
        return getattr(self.node, "name", "lambda")


@dataclass(eq=False, slots=True)
class Class:
    """A class of the script."""

    unit: Unit
    node: ast.ClassDef
    scope: Scope
    bases: tuple[Any, ...] = ()
    names: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.node.name

    def find(self, name: str) -> Any:
        """An attribute, of itself or a base."""
        if name in self.names:
            return self.names[name]
        for base in self.bases:
            if isinstance(base, Class) and (found := base.find(name)) is not None:
                return found
        return None

    def derives_from(self, *endings: str) -> bool:
        """Whether a library's class of one of these names is among its bases."""
        for base in self.bases:
            if isinstance(base, Class):
                if base.derives_from(*endings):
                    return True
            elif isinstance(base, Library) and base.name.rpartition(".")[2] in endings:
                return True
        return False

    @property
    def is_network(self) -> bool:
        """Whether it is a network, by its bases."""
        return self.derives_from("Module", "LightningModule", "Sequential", *_NETWORK_BASES)


_NETWORK_BASES = ("ResNet", "VGG", "DenseNet", "MobileNetV2", "PreTrainedModel", "ScriptModule")


@dataclass(eq=False, slots=True)
class Made:
    """What a call of a library gave: a transform, a data set, a layer.

    Args:
        name: Of what was called, in full.
        args: Given by place.
        kwargs: Given by name.
        place: The call.
        assigned: The names that it was given.
        node: The call, as it stands.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    place: Place
    assigned: list[str] = field(default_factory=list)
    node: ast.AST | None = None
    scope: Scope | None = None

    @property
    def last(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    def argument(self, name: str, place: int, default: Any = None) -> Any:
        """An argument, by name or place."""
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[place] if len(self.args) > place else default


@dataclass(eq=False, slots=True)
class Instance:
    """What a class of the script makes."""

    kind: Class
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    place: Place
    attributes: dict[str, Any] = field(default_factory=dict)
    assigned: list[str] = field(default_factory=list)
    started: bool = False
    base: tuple[Any, Any] | None = None


def is_network(value: object) -> bool:
    """Whether calling it with a batch gives scores."""
    if isinstance(value, Instance):
        return value.kind.is_network
    return isinstance(value, Made) and (
        value.name.startswith(("torchvision.models.", "timm.", "transformers."))
        or value.name
        in ("torch.nn.Sequential", "torch.load", "torch.jit.load", "torch.hub.load", "joblib.load")
    )


def is_plain(value: object) -> bool:
    """Whether it is data: numbers, text, and lists, tuples, dicts and sets of such, not too many.

    A list that holds one list twice, which holds ... is endless to whoever walks through it.
    """
    waiting, left = [value], _MAX_PARTS
    while waiting:
        one = waiting.pop()
        if isinstance(one, list | tuple | set | frozenset):
            waiting += one
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif not (one is None or isinstance(one, bool | int | float | complex | str | bytes)):
            return False
        left -= 1
        if left < 0:
            return False
    return True
