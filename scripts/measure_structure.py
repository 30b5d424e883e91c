"""Measure the structure of the code, and fail where it is worse than agreed.

    python scripts/measure_structure.py           the figures of the source
    python scripts/measure_structure.py --traced  also the files that one prediction enters

Exit status: 0 all within their limits, 1 otherwise.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "toplabel"
NOT_COUNTED = ("__init__", "__main__", "_version", "py.typed", "data", "__pycache__")
LONG_FUNCTION = 50

GOAL_LINES = 29_500

LIMITS = {
    "entries at top level": 13,
    "import layers": 12,
    "files": 330,
    "lines": 66_000,  # the goal is GOAL_LINES: let this only fall
    "modules with one importer": 96,
    f"functions over {LONG_FUNCTION} lines": 2,
}
TRACED_LIMITS = {
    "files entered by one warm predictor(image)": 13,
    "files entered by toplabel cat.jpg": 26,
}

WARM = """
import sys, toplabel
predictor = toplabel.load()
photo = {photo!r}
for _ in range(3): predictor(photo)
"""
TRACE = """
import sys, threading
entered = set()
def trace(frame, event, argument):
    name = frame.f_code.co_filename
    if {package!r} in name and frame.f_code.co_flags & 1:  # of functions, not of class bodies
        entered.add(name)
sys.setprofile(trace)
threading.setprofile(trace)
"""


def main() -> int:
    """Print the figures, each with its limit."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--traced", action="store_true", help="also trace one prediction")
    limits, found = LIMITS, measure()
    if parser.parse_args().traced:
        limits, found = LIMITS | TRACED_LIMITS, found | measure_traced()
    for name, limit in limits.items():
        sign = "" if found[name] <= limit else "  TOO MUCH"
        goal = f"  (goal {GOAL_LINES:,})" if name == "lines" else ""
        print(f"{name:<44} {found[name]:>7,}  at most {limit:>7,}{goal}{sign}")
    return int(any(found[name] > limit for name, limit in limits.items()))


def measure() -> dict[str, int]:
    """The figures of the source."""
    paths = sorted(PACKAGE.rglob("*.py"))
    trees = {module_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    entries = {path.stem for path in PACKAGE.iterdir()} - {Path(name).stem for name in NOT_COUNTED}
    return {
        "entries at top level": len(entries),
        "import layers": count_layers(),
        "files": len(paths),
        "lines": sum(path.read_text(encoding="utf-8").count("\n") for path in paths),
        "modules with one importer": sum(len(one) == 1 for one in importers(trees).values()),
        f"functions over {LONG_FUNCTION} lines": sum(
            length(node) > LONG_FUNCTION
            for tree in trees.values()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ),
    }


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first, has_docstring = function.body[0], ast.get_docstring(function) is not None
    documented = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - documented


def count_layers() -> int:
    """The layers of the contract on imports."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    return sum(len(contract["layers"]) for contract in contracts if contract["type"] == "layers")


def module_of(path: Path) -> str:
    """src/toplabel/image/reading.py -> toplabel.image.reading."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def importers(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Who imports each module, by `import`, by `from`, or by name in a text like "a.b:c"."""
    found: dict[str, set[str]] = defaultdict(set)
    for importer, tree in trees.items():
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = [node.value.partition(":")[0]]
            for name in names:
                if name in trees and name != importer:
                    found[name].add(importer)
    return found


def measure_traced() -> dict[str, int]:
    """How many of our files one prediction enters, warm and from a shell."""
    photo = str(ROOT / "examples" / "cat.jpg")
    warm = WARM.format(photo=photo) + trace() + f"predictor({photo!r})\n" + report()
    shell = (
        trace() + "from toplabel.cli import status_of\n" + f"status_of([{photo!r}])\n" + report()
    )
    names = list(TRACED_LIMITS)
    return {name: entered(code) for name, code in zip(names, (warm, shell), strict=True)}


def trace() -> str:
    """Code that notes our files whose functions are entered from here on."""
    return TRACE.format(package=str(PACKAGE))


def report() -> str:
    """Code that prints how many that were, and which."""
    return "sys.setprofile(None)\nprint(*sorted(entered), sep='\\n', file=sys.stderr)\n"


def entered(code: str) -> int:
    """How many files `code` reports."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return len([line for line in done.stderr.splitlines() if line.startswith(str(PACKAGE))])


if __name__ == "__main__":
    sys.exit(main())
