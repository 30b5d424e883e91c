"""What a class is created with, where the checkpoint's tensors say it: its classes and channels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from inspect import Parameter
from itertools import product
from typing import Any

Shapes = Mapping[str, Sequence[int]]

CLASSES = ("num_classes", "n_classes", "nb_classes", "num_labels", "classes", "out_features")
CHANNELS = ("in_chans", "in_channels", "num_channels", "channels", "in_ch")
"""What parameters are called, the most usual first."""

_NUMBER = "num|n|nb|no|number|numbers|number_of|num_of|count|total"
_CLASS = r"class|classes|label|labels|cls|categories|category|species|outputs?|targets?"
_IS_CLASSES = re.compile(
    rf"(?:{_NUMBER})_?(?:of_)?(?:{_CLASS})|(?:{_CLASS})_?(?:{_NUMBER}|size)?"
    r"|out(?:put)?_(?:features|dims?|size|units|nodes|channels|classes|num)|(?:n|num)_out"
    r"|nc|ncls|out|n_?way"
)
_IS_CHANNELS = re.compile(
    r"in(?:put)?_?(?:chans?|channels?|ch|planes|c)|(?:n|nb|num)_?(?:in_?)?(?:chans?|channels?)"
    r"|channels?|chans?"
)
_MOST_HEADS = 3


def likely_arguments(
    parameters: Sequence[Parameter],
    given: Mapping[str, Any],
    shapes: Shapes,
    names: Sequence[str] | None,
) -> Iterator[dict[str, Any]]:
    """Arguments to try, the likeliest first; each must still be shown to fit every tensor.

    Args:
        parameters: Of the class or function.
        given: What the user gives, which stays as it is.
        shapes: Of the file's tensors, by name.
        names: The classes' names, where they are known.
    """
    free = [
        one
        for one in parameters
        if one.name not in given and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]
    choices: list[list[tuple[str, Any]]] = []
    for pattern, values in (
        (_IS_CLASSES, _classes(shapes, names)),
        (_IS_CHANNELS, _channels(shapes)),
    ):
        one = next((p for p in free if pattern.fullmatch(p.name.lower()) and _takes(p)), None)
        if one is not None:
            known = [one.default] if isinstance(one.default, int) else []
            choices.append([(one.name, value) for value in [*known, *values]])
    tried = []
    for choice in product(*choices):
        arguments = dict(choice)
        if arguments and arguments not in tried:
            tried.append(arguments)
            yield arguments


def is_usual(name: str) -> bool:
    """Whether classes of networks have an argument of that name, for their classes or channels."""
    return bool(_IS_CLASSES.fullmatch(name.lower()) or _IS_CHANNELS.fullmatch(name.lower()))


def _takes(parameter: Parameter) -> bool:
    """Whether it may be a number, or a list, that the file gives."""
    default = parameter.default
    return default is Parameter.empty or default is None or (type(default) is int and default > 0)


def _classes(shapes: Shapes, names: Sequence[str] | None) -> list[Any]:
    """Numbers of outputs that heads in the file have, the last one first; then the names."""
    heads = [shape[0] for shape in shapes.values() if len(shape) == 2]
    heads += [shape[0] for shape in shapes.values() if len(shape) == 4][-1:]
    sizes = list(dict.fromkeys([*([len(names)] if names else []), *heads[-_MOST_HEADS:][::-1]]))
    background = [size - 1 for size in sizes[:1] if size > 1]  # counted by the class itself
    return [*sizes, *background, *([list(names)] if names else [])]


def _channels(shapes: Shapes) -> list[int]:
    """What the first convolution takes."""
    return [shape[1] for shape in shapes.values() if len(shape) == 4][:1]
