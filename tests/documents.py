"""Documents: Markdown in; its code blocks, run as they stand in a folder of a newcomer's, out.

A block of `console` holds commands behind "$ " with what they print, in a terminal of 80 columns;
"..." stands for anything, also for lines. Lines of "toplabel: " are looked for, in this order, on
standard error. `toplabel serve` goes on in the background until the next one, or the page's end.
A block of `python` is run; a comment behind an expression that looks like a value is its value.

The title of a block, which the site shows above it, is the name of the file that it is, or says
why it is not run: "not run by the tests: downloads weights". `NOT_RUN` has the reasons.
"""

import ast
import fnmatch
import os
import pty
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import urlopen

from terminals import read_terminal

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_RUN_TITLE = "not run by the tests: "
NOT_RUN = {
    "changes this machine": r"pip install|docker build|pipx |uvx |kubectl ",
    "downloads weights": r"resnet50|timm/|hf/",
    "needs a GPU": r"GPU|--device cuda",
    "needs a cluster": r"--on ray",
    "needs an object store": r"s3://",
    "needs photos of your own": r"photo|flower|PHOTOS|computed again",
    "runs the tests": r"make ",
    "configures another program": r"proxy_pass|rm -rf|fish",
}
"""Why a block is not run, and what it must hold for that to be so."""
_BLOCK = re.compile(r'^```(\w*)(?: title="([^"\n]*)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
_NOTE = "toplabel: "
_PORTS = re.compile(r"(?<=localhost:)(8000|9000)\b")


@dataclass(frozen=True)
class Block:
    """A code block of a page: its language, its text, the line that it begins at, its title."""

    language: str
    text: str
    line: int
    title: str = ""

    @property
    def not_run(self) -> str | None:
        """The reason, where it is not run."""
        return self.title.removeprefix(NOT_RUN_TITLE) if NOT_RUN_TITLE in self.title else None


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[3], text.count("\n", 0, found.start()) + 1, found[2] or "")
        for found in _BLOCK.finditer(text)
    ]


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """Each command of a console block, and the lines that stand below it."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found and found[-1][0].endswith("\\"):  # goes on
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        elif line and found:
            found[-1][1].append(line)
    return found


@dataclass
class Newcomer:
    """Somebody who does what a page says, in a folder; ends its server at the end."""

    folder: Path
    names: dict[str, object] = field(default_factory=lambda: {"__name__": "page"})
    server: subprocess.Popen[bytes] | None = None
    port: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def do(self, block: Block) -> None:
        """Run a block, or write the file that it is."""
        text = _PORTS.sub(str(self.port), block.text)
        if block.language == "console":
            self._run_console(Block("console", text, block.line))
        elif block.language == "python" and not block.title:
            self._run_python(Block("python", text, block.line))
        else:
            (self.folder / block.title).write_text(block.text)

    def _run_console(self, block: Block) -> None:
        for command, expected in commands(block):
            if command.startswith("toplabel serve"):
                self._serve(command)
                continue
            shown, said, status = _run_on_terminal(command, self.folder)
            notes = [line for line in expected if line.startswith(_NOTE)]
            answer = [line for line in expected if not line.startswith(_NOTE)]
            is_so = _is_so(shown, answer) and _is_so(said, ["...", *_each(notes), "..."])
            assert (is_so or not expected, status < 2) == (True, True), (
                f"line {block.line}: $ {command}\n{shown}\n{said}"
            )

    def _run_python(self, block: Block) -> None:
        """In the names of its page; values that it states in comments must be so."""
        lines = block.text.splitlines()
        before = os.getcwd()
        os.chdir(self.folder)
        sys.path.insert(0, str(self.folder))
        try:
            for node in ast.parse(block.text).body:
                where = f"line {block.line}"
                if not isinstance(node, ast.Expr):
                    exec(compile(ast.Module([node], []), where, "exec"), self.names)
                    continue
                value = eval(compile(ast.Expression(node.value), where, "eval"), self.names)
                stated = lines[(node.end_lineno or 1) - 1][node.end_col_offset or 0 :].strip()
                if re.match(r"# (['\[({0-9]|[A-Z]\w+\(|True$|False$)", stated):
                    assert fnmatch.fnmatch(repr(value), _pattern(stated[2:])), (stated, value)
        finally:
            os.chdir(before)
            sys.path.remove(str(self.folder))

    def _serve(self, command: str) -> None:
        self._stop()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        plain = command.partition(" #")[0]
        line = f'exec "{sys.executable}" -m {plain} --port {self.port} --lame-duck 0'
        with (self.folder / "server.log").open("wb") as log:
            self.server = subprocess.Popen(["bash", "-c", line], cwd=self.folder, stderr=log)
        while True:
            try:
                urlopen(f"http://localhost:{self.port}/health/ready", timeout=10).close()
                return
            except OSError:
                said = (self.folder / "server.log").read_text()
                assert self.server.poll() is None, f"$ {command}\n{said}"
                time.sleep(0.1)

    def _stop(self) -> None:
        if self.server is not None:
            self.server.terminate()
            assert self.server.wait() == 0, (self.folder / "server.log").read_text()
        self.server = None


def _each(lines: list[str]) -> list[str]:
    """The lines, with anything between them."""
    return [one for line in lines for one in (line, "...")]


def _is_so(shown: str, expected: list[str]) -> bool:
    lines = "".join(f"{line.rstrip()}\n" for line in shown.splitlines() if line.strip())
    pattern = "".join("*" if line == "..." else f"{_pattern(line)}\n" for line in expected)
    return fnmatch.fnmatchcase(lines, pattern)


def _pattern(text: str) -> str:
    plain = re.sub(r"([\[*?])", r"[\1]", text)
    return plain.replace("...", "*")


def _run_on_terminal(command: str, folder: Path) -> tuple[str, str, int]:
    """What it writes on the terminal, what on standard error, and its exit status."""
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
