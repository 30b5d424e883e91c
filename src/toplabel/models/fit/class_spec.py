"""A class and its arguments as people write them in, its file and values out. No imports."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from toplabel.errors import UsageError

_TOPLABEL = Path(__file__).parents[2]
_ACCEPTED = "package.module:Class, or nets.py:Class for a class in a file"
_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_SPEC = re.compile(rf"(?:(?P<file>.+\.py)|(?P<module>{_DOTTED})):(?P<attribute>{_DOTTED})")
_WORDS = {"true": True, "false": False, "none": None, "null": None}  # as other languages say them


@dataclass(frozen=True, slots=True)
class ClassName:
    """A class, or a function that makes a network, as it was typed.

    Args:
        file: The Python file that has it, where one was named.
        module: Else the dotted name of its module.
        attribute: Its name there; with dots for one inside another.
    """

    file: Path | None
    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.file or self.module}:{self.attribute}"


def parse_class(spec: str) -> ClassName:
    """The parts of `package.module:Class` or `folder/nets.py:Class`.

    Raises:
        UsageError: It is neither.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UsageError(f"got {spec!r} as the architecture; expected {_ACCEPTED}")
    file, module, attribute = match["file"], match["module"], match["attribute"]
    return ClassName(Path(file) if file else None, module or "", attribute)


def locate_class_file(spec: str) -> Path | None:
    """The file of the module that a class is named in, found without importing anything.

    The working directory comes before `sys.path`, as `python -m` has it. None: there is no such
    file, or the module is not one of Python source.

    Raises:
        UsageError: It is no name of a class.
    """
    name = parse_class(spec)
    if name.file is not None:
        path = name.file.expanduser()
        return path.resolve() if path.is_file() else None
    found = find_module(name.module)
    if found is None or not found.has_location or found.origin is None:
        return None
    return Path(found.origin).resolve() if found.origin.endswith(".py") else None


def find_module(module: str) -> ModuleSpec | None:
    """Where a dotted module is, without importing it or its packages; None: nowhere."""
    first, *rest = module.split(".")
    found = PathFinder.find_spec(first, [str(Path.cwd()), *sys.path])
    if found is None:
        with suppress(ImportError, ValueError):  # a module that was made by hand has no spec
            found = find_spec(first)  # by another finder, such as that of an editable installation
    for part in rest:
        if found is None or found.submodule_search_locations is None:
            return None
        # By its bare name: for a dotted one, a folder without __init__.py asks for its parent.
        found = PathFinder.find_spec(part, list(found.submodule_search_locations))
    return found


def parse_arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """The arguments in `num_classes=10`, `dims=[1,2]`, `name=abc`: Python's literals, else text.

    `true`, `false`, `none` and `null` are what they mean and no text, which would count as true.

    Raises:
        UsageError: One is no NAME=VALUE, or a name comes twice.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise UsageError(
                f"got {pair!r} as an argument of the class; expected NAME=VALUE, e.g."
                " num_classes=10"
            )
        if name in arguments:
            raise UsageError(f"got the argument {name!r} of the class twice; pass it once")
        arguments[name] = _value(value.strip())
    return arguments


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def is_fresh(spec: str) -> bool:
    """Whether none of the user's code around a class is loaded already, maybe older than its file.

    What is installed as a library does not count.
    """
    name = parse_class(spec)
    if name.file is None:
        return not _is_own(sys.modules.get(name.module.split(".")[0]))
    return not loaded_below(name.file.expanduser().resolve().parent)


def loaded_below(folder: Path) -> list[Path]:
    """The files below a folder that modules of this process come from, but installed ones."""
    start = f"{folder}{os.sep}"
    installed = tuple(f"{place}{os.sep}" for place in (sys.base_prefix, sys.prefix, _TOPLABEL))
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    return sorted(
        Path(file)
        for file in files
        if file.startswith(start)
        and file.endswith(".py")
        and not file.startswith(installed)
        and not any(part in file for part in ("site-packages", "dist-packages"))
    )


def _is_own(module: ModuleType | None) -> bool:
    """Whether a loaded module is the user's: neither installed nor Python's own."""
    if module is None or module.__name__ in sys.stdlib_module_names:
        return False
    places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
    return not any(part in place for place in places for part in ("site-packages", "dist-packages"))


def forget_strangers(folder: Path) -> None:
    """Drop modules that a file of another folder has imported from beside it.

    Two projects both have their `blocks.py`; the second must not be given the first one's.
    """
    beside = {path.stem for path in folder.glob("*.py")} | {
        p.parent.name for p in folder.glob("*/*.py")
    }
    roots = {Path(entry or ".").resolve() for entry in sys.path}
    for first in beside & set(sys.modules) - set(sys.stdlib_module_names):
        file = getattr(sys.modules[first], "__file__", None)
        if file is None:
            continue
        at = Path(file).resolve()
        home = at.parent.parent if at.name == "__init__.py" else at.parent
        if home not in roots:  # of another folder, or of an earlier call
            for known in [key for key in sys.modules if key.split(".")[0] == first]:
                del sys.modules[known]
