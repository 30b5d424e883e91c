"""The names and reports of the kinds, read from the source, so that nothing is imported."""

from __future__ import annotations

import ast
from pathlib import Path

FILES = ("modules", "engines", "checkpoints", "names", "preparing")


def kinds() -> dict[str, tuple[str, ...]]:
    """By name, in the order of the page."""
    found = {}
    for file in FILES:
        source = Path(__file__).with_name(f"{file}.py").read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and node.decorator_list:
                (call,) = node.decorator_list
                assert isinstance(call, ast.Call)
                name, *reports = (ast.literal_eval(argument) for argument in call.args)
                found[name] = tuple(reports)
    return found
