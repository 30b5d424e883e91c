"""Sources: a path in, syntax trees out, each node of which knows its file, cell and line."""

from __future__ import annotations

import ast
import itertools
import json
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from toplabel.errors import UsageError

SUFFIXES = (".py", ".ipynb", ".md", ".markdown")
_MAX_BYTES = 20_000_000
_MAX_FILES = 400
_SKIPPED = frozenset({"node_modules", "site-packages", "__pycache__", "venv", "env", "build"})
_FENCE = re.compile(r"^(`{3,}|~{3,})\s*(?:python|py|python3)?\s*$", re.IGNORECASE)
_PYTHON_2 = re.compile(
    r"^\s*(?:print\s+[^\s(=.]|exec\s+['\"]|except\s+[\w.()]+\s*,\s*\w+\s*:)", re.MULTILINE
)


@dataclass(eq=False)
class Unit:
    """One file's code.

    Args:
        path: Of the file, absolute.
        name: What to call it.
        body: Its statements, in order; of a notebook those of all cells.
        text: Its code, without magics; lines count over all cells.
        cells: Of a notebook: the first line of each code cell, and the cell's number.
        problem: Why it, or a part of it, could not be read; empty where all could.
    """

    path: Path
    name: str
    body: list[ast.stmt] = field(default_factory=list)
    text: str = ""
    cells: list[tuple[int, int]] = field(default_factory=list)
    problem: str = ""

    def where(self, node: ast.AST | int) -> str:
        """`train.py:31`, or `train.ipynb cell 4 line 2`."""
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        if not self.cells:
            return f"{self.name}:{line}"
        first, cell = max((c for c in self.cells if c[0] <= line), default=self.cells[0])
        return f"{self.name} cell {cell} line {line - first + 1}"

    def lines(self, node: ast.AST) -> str:
        """The text of a node's lines, shortened."""
        text = ast.get_source_segment(self.text, node) or ""
        return " ".join(text.split())[:80]


def read_unit(path: Path, *, name: str | None = None) -> Unit:
    """The code of one file; what cannot be parsed is left out and noted in `problem`.

    Raises:
        UsageError: There is no such file, or it is none of these kinds.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path} is larger than {_MAX_BYTES:,} bytes; expected a script")
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise UsageError(f"cannot read the script {str(path)!r}: {error.strerror}") from error
    unit = Unit(path=path.resolve(), name=name or path.name)
    suffix = path.suffix.lower()
    if suffix == ".ipynb":
        _read_cells(unit, text)
    elif suffix in (".md", ".markdown"):
        _read_blocks(unit, text)
    else:
        unit.text = text.replace("\r\n", "\n")
        _parse_into(unit, _without_magics(unit.text), first=1)
    return unit


def list_scripts(folder: Path) -> Iterator[Path]:
    """The scripts in a folder and below, those nearest first; hidden ones are left out."""
    waiting, found = [folder], 0
    while waiting:
        current = waiting.pop(0)
        try:
            entries = sorted(current.iterdir())
        except OSError:
            continue
        for path in entries:
            if path.name.startswith(".") or path.name in _SKIPPED:
                continue
            if path.is_dir() and not path.is_symlink():
                waiting.append(path)
            elif path.suffix.lower() in SUFFIXES and path.is_file():
                found += 1
                if found > _MAX_FILES:
                    return
                yield path


def script_digest(script: str | os.PathLike[str]) -> str:
    """What tells a script, or a folder of them, from a changed one: hexadecimal digits.

    Raises:
        UsageError: There is no such thing.
    """
    import hashlib  # loads OpenSSL: milliseconds that a warm start does not pay

    path = Path(script).expanduser()
    digest = hashlib.sha256()
    try:
        if path.is_dir():
            for one in list_scripts(path):
                about = one.stat()
                line = f"{one.relative_to(path)} {about.st_size} {about.st_mtime_ns}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
        else:
            digest.update(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read the script {str(script)!r}: {error.strerror}") from error
    return digest.hexdigest()


def _read_cells(unit: Unit, text: str) -> None:
    """The code cells of a notebook, each parsed by itself: one that fails spoils no other."""
    try:
        notebook = json.loads(text)
        cells = notebook.get("cells") or [c for s in notebook["worksheets"] for c in s["cells"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        unit.problem = f"{unit.name} is no notebook that can be read: it holds no JSON with cells"
        return
    pieces = []
    for number, cell in enumerate(cells):
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        source = cell.get("source", cell.get("input", ""))
        source = "".join(map(str, source)) if isinstance(source, list) else str(source)
        if source.lstrip().startswith(("%%bash", "%%html", "%%sh", "%%javascript", "%%latex")):
            continue
        pieces.append((number, _without_magics(source)))
    _parse_pieces(unit, pieces)


def _read_blocks(unit: Unit, text: str) -> None:
    """The Python blocks of a Markdown file; lines count as in the file."""
    unit.text = text
    block: list[str] | None = None
    fence, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if block is None:
            match = _FENCE.match(line)
            if match:
                block, fence, first = [], match[1], number + 1
        elif line.strip().startswith(fence):
            _parse_into(unit, _without_magics("\n".join(block)), first=first)
            block = None
        else:
            block.append(re.sub(r"^(>>>|\.\.\.) ?", "", line))


def _parse_pieces(unit: Unit, pieces: list[tuple[int, str]]) -> None:
    line = 1
    texts = []
    for number, piece in pieces:
        unit.cells.append((line, number))
        _parse_into(unit, piece, first=line)
        texts.append(piece)
        line += piece.count("\n") + 1
    unit.text = "\n".join(texts)


def _parse_into(unit: Unit, text: str, *, first: int) -> None:
    text = text.expandtabs(8) if "\t" in text else text
    try:
        tree = _parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = first + (getattr(error, "lineno", None) or 1) - 1
        old = _PYTHON_2.search(text)
        why = "it is Python 2, which is not read" if old else f"it cannot be parsed ({error})"
        unit.problem = unit.problem or f"{unit.where(line)}: {why}"
        if not old:
            _parse_in_parts(unit, text, first=first)
        return
    if first > 1:
        ast.increment_lineno(tree, first - 1)
    unit.body += tree.body


def _parse(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes of theirs
        return ast.parse(text)


def _parse_in_parts(unit: Unit, text: str, *, first: int) -> None:
    """What can be parsed of a text that cannot, by the statements that begin at its margin."""
    lines = text.split("\n")
    starts = [
        n for n, line in enumerate(lines) if line[:1].isalpha() or line.startswith(("@", "_"))
    ]
    starts = [n for n in starts if not re.match(r"(?:else|elif|except|finally)\b", lines[n])]
    starts = [n for n in starts if n == 0 or not lines[n - 1].startswith("@")] + [len(lines)]
    for start, end in itertools.pairwise(starts):
        try:
            tree = _parse("\n".join(lines[start:end]))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        ast.increment_lineno(tree, first + start - 1)
        unit.body += tree.body


def _without_magics(text: str) -> str:
    """Lines for IPython's ears alone become empty ones; `%%time` and `%%writefile` fall away."""
    if "%" not in text and "!" not in text and "?" not in text:
        return text
    lines, blank = [], False
    for line in text.split("\n"):
        start = line.lstrip()
        if start.startswith(("!", "%")) or blank:
            blank = start.endswith("\\")
            indent = line[: len(line) - len(start)]
            lines.append(f"{indent}pass" if indent else "")
        elif re.fullmatch(r"\??[\w.]+\?{1,2}", start):
            lines.append("")
        else:
            lines.append(line)
    return "\n".join(lines)
