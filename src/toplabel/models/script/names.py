"""Names: lists, dicts and data sets of a script in, the class names in output order out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toplabel._internal.notices import warn
from toplabel.errors import LabelsError, UsageError
from toplabel.models.script.datasets import dataset_of, role_of
from toplabel.models.script.interpret import Interpreter
from toplabel.models.script.project import Project
from toplabel.models.script.sources import Unit
from toplabel.models.script.values import Class, Instance, Made, Place

_WORDS = (
    *("class", "label", "categor", "names", "emotion", "idx_to", "index_to", "id2", "mapping"),
    *("target", "species", "letter", "sign", "kinds", "types", "dict"),
)
_KNOWN = {
    "CIFAR10": "cifar10",
    "CIFAR100": "cifar100",
    "MNIST": "mnist",
    "FashionMNIST": "fashion-mnist",
    "KMNIST": "kmnist",
    "SVHN": "svhn",
    "STL10": "stl10",
}


@dataclass(frozen=True, slots=True)
class FoundNames:
    """Class names.

    Args:
        names: In the order of the outputs.
        place: Where they stand, for people: `10 names (train.py:22)`.
        used: The network's answers are looked up in them.
        own: They stand in a file that the user named.
    """

    names: tuple[str, ...]
    place: str
    used: bool
    own: bool
    known: bool = False


def find_names(
    interpreter: Interpreter,
    named: list[Unit],
    outputs: int,
    dataset: Any,
    is_own: Callable[[Any], bool],
) -> FoundNames | None:
    """The class names of a network with so many outputs; None where the script has none.

    Args:
        dataset: What the chosen preprocessing was shown for; may be None.
        is_own: Whether a network that the script calls may be this one.

    Raises:
        LabelsError: Two lists have the same names in different orders.
    """
    found = [*_listed(interpreter, named, max(outputs, 2), is_own)]  # a single output is yes or no
    for group in (
        [one for one in found if one.used and one.own],
        [one for one in found if one.used],
        [one for one in found if one.own],
        found,
    ):
        if group:
            _check_one_order(group)
            _tell_of_folders(group[0], interpreter, dataset)
            return group[0]
    return _of_choice(interpreter, named, outputs) or _of_dataset(
        interpreter, named, outputs, dataset
    )


def _listed(
    interpreter: Interpreter, named: list[Unit], outputs: int, is_own: Callable[[Any], bool]
) -> Iterator[FoundNames]:
    used: set[int] = set()
    others: set[int] = set()
    for identity, _, networks in interpreter.noted.indexed:
        is_of_this = not networks or any(map(is_own, networks))
        (used if is_of_this else others).add(identity)
    constants = dict(interpreter.noted.constants)
    for scope in interpreter.scopes.values():
        for kind in scope.names.values():
            if isinstance(kind, Class):
                for name, value in kind.names.items():
                    if isinstance(value, list | tuple | dict) and value:
                        place = Place(kind.unit, kind.node.lineno)
                        constants.setdefault(id(value), (value, place, name))
    for identity, (value, place, name) in constants.items():
        names = names_in(value, outputs)
        if names is None:
            continue
        is_used = identity in used
        if identity in others and not is_used:
            continue  # another network's
        if is_used or any(word in name.lower() for word in _WORDS):
            yield FoundNames(names, str(place), is_used, place.unit in named)


def names_in(value: Any, outputs: int | None) -> tuple[str, ...] | None:
    """The names in a list, tuple or dict, in the order of their indices; None where it has none.

    Args:
        outputs: How many there must be; None: any number.
    """
    if isinstance(value, dict):
        value = _of_dict(value)
    if not isinstance(value, list | tuple) or not value:
        return None
    if not all(isinstance(one, str) and one.strip() for one in value):
        return None
    if outputs is not None and len(value) != outputs:
        return None
    return tuple(value) if len(set(value)) == len(value) or outputs is not None else None


def _of_dict(value: dict[Any, Any]) -> list[str] | None:
    for pairs in (list(value.items()), [(v, k) for k, v in value.items()]):
        try:
            by_index = {int(key): name for key, name in pairs if not isinstance(key, bool)}
        except (TypeError, ValueError):
            continue
        if sorted(by_index) == list(range(len(value))):
            return [by_index[index] for index in range(len(value))]
    return None


def _check_one_order(found: list[FoundNames]) -> None:
    """Stop where the same names stand in two orders.

    Raises:
        LabelsError: It shows both.
    """
    first = found[0]
    for other in found[1:]:
        if other.names != first.names and sorted(other.names) == sorted(first.names):
            raise LabelsError(
                f"the script has the same class names in two orders: {first.place}"
                f" ({', '.join(first.names[:4])}, ...) and {other.place}"
                f" ({', '.join(other.names[:4])}, ...); pass labels=... in the order of the outputs"
            )


def _tell_of_folders(found: FoundNames, interpreter: Interpreter, dataset: Any) -> None:
    """Warn where class folders are numbered by their names, and the list has another order."""
    if found.used or list(found.names) == sorted(found.names):
        return
    shown = dataset_of(dataset)
    for made in [shown] if shown is not None else interpreter.noted.datasets:
        if isinstance(made, Made) and made.last == "ImageFolder":
            warn(
                f"the class names at {found.place} are not in alphabetical order, in which"
                f" ImageFolder ({made.place}) numbers class folders: labels are swapped if the"
                " folders have these names; pass labels=... in the order of the outputs"
            )
            return


def _of_choice(interpreter: Interpreter, named: list[Unit], outputs: int) -> FoundNames | None:
    """`'cat' if score > 0.5 else 'dog'`, where there are two outputs, or one."""
    if outputs > 2:
        return None
    for no, yes, place in interpreter.noted.choices:
        return FoundNames((no, yes), str(place), True, place.unit in named)
    return None


def _of_dataset(
    interpreter: Interpreter, named: list[Unit], outputs: int, dataset: Any
) -> FoundNames | None:
    """The names of the data set that is shown to the network."""
    shown = dataset_of(dataset)
    candidates = [shown] if isinstance(shown, Made | Instance) else interpreter.noted.datasets
    kinds = {one.last for one in candidates if isinstance(one, Made)}
    for made in sorted(candidates, key=lambda one: role_of(one) != "test"):
        if isinstance(made, Instance):
            continue
        if made.last in _KNOWN and len(kinds) == 1:
            names = _known(_KNOWN[made.last])
            if names is not None and len(names) == outputs:
                at = f"of {made.last}, {made.place}"
                return FoundNames(names, at, False, made.place.unit in named, known=True)
        if made.last == "ImageFolder":
            names = _folders(interpreter, made)
            if names is not None and len(names) == max(outputs, 2):
                return FoundNames(names, f"folders of {made.place}", False, True)
    return None


def _known(name: str) -> tuple[str, ...] | None:
    try:
        from toplabel.labels.known import KNOWN, known_labels
    except ImportError:
        return None
    return known_labels(name).names if name in KNOWN else None


def _folders(interpreter: Interpreter, made: Made) -> tuple[str, ...] | None:
    """The class folders of a data set that exists here, as torchvision numbers them."""
    root = made.argument("root", 0)
    if not isinstance(root, str):
        return None
    path = interpreter.project.root / root
    try:
        found = sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    except OSError:
        return None
    return tuple(found) or None


def read_names(spec: str) -> list[str]:
    """The class names that a script holds under a name: `train.py:classes`.

    Raises:
        UsageError: There is no such file, or no such list in it.
    """
    file, _, name = spec.rpartition(":")
    project = Project(Path(file))
    interpreter = Interpreter(project)
    for unit in project.main:
        interpreter.follow(unit)
    constants = interpreter.noted.constants.values()
    values = [value for value, _, called in constants if called == name.rpartition(".")[2]]
    for value in values:
        if (names := names_in(value, None)) is not None:
            return list(names)
    has = ", ".join(dict.fromkeys(c for v, _, c in constants if names_in(v, None))) or "none"
    raise UsageError(
        f"no list of class names called {name!r} in {file}; expected a list, tuple or dict of text"
        f" that can be read without running it; it has {has}"
    )
