"""Documents: Markdown in; its code blocks, run as they stand in a folder of a newcomer's, out.

A block of `console` holds commands behind "$ " with what they print on standard output, a terminal
of 80 columns; "..." stands for anything, also for lines. A block of `python` is run; a comment
behind an expression that looks like a value is its value.
"""

import ast
import fnmatch
import os
import pty
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from terminals import read_terminal

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A code block of a page: its language, its text, and the line that it begins at."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start()) + 1)
        for found in _BLOCK.finditer(text)
    ]


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """Each command of a console block, and the lines that stand below it."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line and found:
            found[-1][1].append(line)
    return found


def run_console(block: Block, folder: Path) -> None:
    """Run the commands of a block, and compare what each prints with what stands there."""
    for command, expected in commands(block):
        shown, said, status = _run_on_terminal(command, folder)
        lines = [line.rstrip() for line in shown.splitlines() if line.strip()]
        is_so = fnmatch.fnmatchcase("\n".join(lines), _pattern("\n".join(expected)))
        assert (is_so, status < 2) == (True, True), (
            f"line {block.line}: $ {command}\n{shown}\n{said}"
        )


def run_python(block: Block, folder: Path, names: dict[str, object]) -> None:
    """Run a block in the names of its page; values that it states in comments must be so."""
    code = ast.parse(block.text)
    lines = block.text.splitlines()
    before = os.getcwd()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        for node in code.body:
            if not isinstance(node, ast.Expr):
                exec(compile(ast.Module([node], []), f"line {block.line}", "exec"), names)
                continue
            value = eval(compile(ast.Expression(node.value), f"line {block.line}", "eval"), names)
            comment = lines[(node.end_lineno or 1) - 1][node.end_col_offset or 0 :].strip()
            if comment.startswith(("# '", "# [", "# (", "# Prediction")):
                assert fnmatch.fnmatch(repr(value), _pattern(comment[2:])), (comment, value)
    finally:
        os.chdir(before)
        sys.path.remove(str(folder))


def _pattern(text: str) -> str:
    plain = re.sub(r"([\[*?])", r"[\1]", text)
    return plain.replace("...", "*")


def _run_on_terminal(command: str, folder: Path) -> tuple[str, str, int]:
    ours, theirs = pty.openpty()
    script = f'toplabel() {{ "{sys.executable}" -m toplabel "$@"; }}\n{command}'
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=os.environ | {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "xterm"},
    )
    os.close(theirs)
    content = b"".join(read_terminal(ours))
    os.close(ours)
    _, said = process.communicate()
    return content.decode().replace("\r\n", "\n"), said.decode(), process.returncode
