"""Write src/toplabel/__init__.pyi, in which editors and type checkers find every public argument.

    python scripts/write_stub.py [--check]

The functions that take option dataclasses show their fields at run time (`help`, `inspect`); this
file says the same to tools that run nothing. With --check, fail where it is out of date.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any, get_overloads

import toplabel
from generated import write_or_check

STUB = Path(__file__).parents[1] / "src" / "toplabel" / "__init__.pyi"
HEADER = '"""Made by scripts/write_stub.py; change the code and run it again."""\n'

IMPORTS = """
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from torch import nn

from toplabel.analysis.data.dataset import Dataset
from toplabel.labels.given import LabelsLike
from toplabel.models.options import Dtype, EngineChoice
from toplabel.runs.options import Place
from toplabel.runs.run import Source
from toplabel.runs.summary import Progress
"""
"""What annotations name and is not public."""


def main() -> int:
    """Write the file, or say that it is out of date."""
    text = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(STUB), "-"],
        input=stub(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return write_or_check(STUB, text)


def stub() -> str:
    """The whole file, not yet formatted."""
    imported, functions = defaultdict(list), []
    for name in sorted(toplabel.__all__):
        value = getattr(toplabel, name)
        if name == "__version__":
            continue
        if hasattr(value, "__signature__"):
            functions += [f"{one}: ..." for one in definitions(name, value)]
        else:
            imported[home(name)].append(f"{name} as {name}")
    lines = [f"from {module} import {', '.join(names)}" for module, names in imported.items()]
    names = ", ".join(f'"{name}"' for name in sorted(toplabel.__all__))
    parts = [
        HEADER,
        IMPORTS,
        *sorted(lines),
        "__version__: str",
        f"__all__ = [{names}]",
        *functions,
    ]
    return "\n".join(parts) + "\n"


def home(name: str) -> str:
    """The module that a public name comes from."""
    value = getattr(toplabel, name)
    module = str(value.__module__)
    return module if hasattr(import_module(module), name) else "toplabel.errors"


def definitions(name: str, function: Any) -> list[str]:
    """The function, once for each overload where it has some."""
    overloads = get_overloads(function)
    if not overloads:
        return [f"def {name}{signature(inspect.signature(function))}"]
    shown, found = inspect.signature(function), []
    for place, one in enumerate(map(inspect.signature, overloads)):
        own = [
            shown.parameters[name].replace(annotation=_Bare(parameter.annotation))
            for name, parameter in one.parameters.items()
            if name in shown.parameters
        ]
        rest = [p for p in shown.parameters.values() if p.name not in one.parameters]
        returned = _Bare(one.return_annotation)
        text = signature(shown.replace(parameters=[*own, *rest], return_annotation=returned))
        if place < len(overloads) - 1:  # a list is an object, too: the first fits first
            text = text.replace("(", "(  # type: ignore[overload-overlap]\n", 1)
        found.append(f"@overload\ndef {name}{text}")
    return found


def signature(shown: inspect.Signature) -> str:
    """Its parameters, with ... for every default."""
    parameters = [
        one if one.default is one.empty else one.replace(default=_Dots())
        for one in shown.parameters.values()
    ]
    return str(shown.replace(parameters=parameters))


class _Bare(str):
    """An annotation as it is written, without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


class _Dots:
    def __repr__(self) -> str:
        return "..."


if __name__ == "__main__":
    sys.exit(main())
