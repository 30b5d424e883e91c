"""Project: the units of a script and the files beside it that it imports, each read once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from toplabel.errors import UsageError
from toplabel.models.script.sources import SUFFIXES, Unit, list_scripts, read_unit

_MAX_IMPORTERS = 60


class Project:
    """What the user named, and what can be reached from there.

    Args:
        given: A script, a notebook, a Markdown file, or a folder of them.

    Raises:
        UsageError: There is no such thing, or it holds no code that can be read.
    """

    def __init__(self, given: Path) -> None:
        given = given.expanduser()
        if not given.exists():
            raise UsageError(
                f"got the script {str(given)!r}, but there is no such file or folder; expected a"
                " .py, .ipynb or Markdown file, or a folder of them"
            )
        if not given.is_dir() and given.suffix.lower() not in SUFFIXES:
            raise UsageError(
                f"got the script {str(given)!r}; expected a .py, .ipynb or Markdown file, or a"
                " folder of them"
            )
        self.given = given.resolve()
        self.root = self.given if given.is_dir() else self.given.parent
        self._units: dict[Path, Unit] = {}
        if given.is_dir():
            self.main = [self.unit(path) for path in list_scripts(self.given)]
        else:
            self.main = [self.unit(self.given)]
        problems = [unit.problem for unit in self.main if unit.problem]
        if not any(unit.body for unit in self.main):
            raise UsageError(
                f"no Python code in {str(given)!r} can be read: {problems[0]}"
                if problems
                else f"there is no Python code in {str(given)!r}"
            )

    @property
    def is_folder(self) -> bool:
        """Whether the user named a folder."""
        return self.given == self.root

    @property
    def files(self) -> tuple[Path, ...]:
        """All files read so far."""
        return tuple(self._units)

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read, a sentence each."""
        return tuple(unit.problem for unit in self._units.values() if unit.problem)

    def unit(self, path: Path) -> Unit:
        """The unit of a file."""
        path = path.resolve()
        if path not in self._units:
            try:
                name = str(path.relative_to(self.root))
            except ValueError:
                name = path.name
            self._units[path] = read_unit(path, name=name)
        return self._units[path]

    def imported(self, unit: Unit, module: str, level: int) -> Unit | None:
        """The unit of a module as `unit` imports it; None for a library's."""
        parts = [part for part in module.split(".") if part]
        folders = [unit.path.parent, *unit.path.parent.parents]
        if level:
            folders = folders[level - 1 : level]
        else:  # from beside, or from a folder above that is on the path; not beyond the repository
            folders = [f for f in folders if f == unit.path.parent or self._may_hold(f)][:6]
            folders += [f / "src" for f in folders]
        for folder in folders:
            base = folder.joinpath(*parts)
            for path in (
                base.with_name(f"{base.name}.py") if parts else None,
                base / "__init__.py",
            ):
                if path is not None and path.is_file():
                    try:
                        return self.unit(path)
                    except UsageError:
                        return None
        return None

    def _may_hold(self, folder: Path) -> bool:
        return (
            folder == self.root
            or self.root in folder.parents
            or folder
            in (
                self.root.parent,
                self.root.parent.parent,
            )
        )

    def beside(self) -> Iterator[Unit]:
        """The other Python files of the folder, as far as they can be read."""
        for path in sorted(self.root.glob("*.py"))[:_MAX_IMPORTERS]:
            with suppress(UsageError):
                yield self.unit(path)

    def importers(self, unit: Unit) -> Iterator[Unit]:
        """Files of the same folder that import this one."""
        stem = unit.path.stem
        for number, path in enumerate(sorted(unit.path.parent.glob("*.py"))):
            if number >= _MAX_IMPORTERS or path.resolve() == unit.path:
                continue
            try:
                if stem not in path.read_text(encoding="utf-8", errors="replace"):
                    continue
                other = self.unit(path)
            except (OSError, UsageError):
                continue
            if any(_imports(node, stem) for node in ast.walk(ast.Module(other.body, []))):
                yield other


def _imports(node: ast.AST, stem: str) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == stem or (not node.module and any(a.name == stem for a in node.names))
    return isinstance(node, ast.Import) and any(alias.name == stem for alias in node.names)
