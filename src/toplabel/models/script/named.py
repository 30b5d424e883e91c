"""Named: `FILE.py:NAME` in, the class, function or object of that name out; the file does not run.

Of the file only the definitions that the name needs are executed, with whatever libraries they
import, since the user has named them.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from toplabel.errors import ModelError, UsageError
from toplabel.models.script.guard import guarded
from toplabel.models.script.interpret import Interpreter
from toplabel.models.script.project import Project
from toplabel.models.script.slices import Slicer
from toplabel.models.script.values import Class, Function, Scope, Unknown

_TRUST = "pass trust=True, which runs the whole file"


def definition(file: Path, attribute: str) -> object:
    """What a name in a file stands for; with dots for one inside another.

    Raises:
        UsageError: There is no such file or name.
        ModelError: It is known only when the whole file runs.
    """
    project = Project(file)
    interpreter = Interpreter(project)
    scope = interpreter.enter(project.main[0])
    first, *rest = attribute.split(".")
    if first not in scope.names or _lacks(scope.names[first], rest):
        raise _absent(scope, file, attribute, project.problems)
    found = scope.names[first]
    if isinstance(found, Unknown):
        raise ModelError(
            f"{attribute} in {file} is known only when the file runs, and it is not run; {_TRUST}"
        )
    slicer = Slicer(project, interpreter.enter, outputs=None, installed=True)
    with guarded():
        made = slicer.value_of(found)
        for part in rest:
            made = getattr(made, part)
    if slicer.holes:
        names = ", ".join(dict.fromkeys(slicer.holes))
        raise ModelError(
            f"{attribute} in {file} needs {names}, which is known only when the file runs, and it"
            f" is not run; {_TRUST}"
        )
    return made


def _lacks(found: Any, rest: list[str]) -> bool:
    return bool(rest) and isinstance(found, Class) and found.find(rest[0]) is None


def _absent(scope: Scope, file: Path, attribute: str, problems: tuple[str, ...]) -> UsageError:
    if problems:
        return UsageError(
            f"no {attribute!r} in {file}, of which a part cannot be read: {problems[0]}"
        )
    named = scope.names.items()
    networks = [name for name, value in named if isinstance(value, Class) and value.is_network]
    functions = [name for name, value in named if isinstance(value, Function)]
    close = get_close_matches(attribute, [*networks, *functions], n=3)
    known = close or networks or functions
    has = f"it has {', '.join(known[:6])}" if known else "it has no network class"
    return UsageError(f"no {attribute!r} in {file}; {has}")
