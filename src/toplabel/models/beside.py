"""Beside: the path of a checkpoint in, the script beside it that may have made it out."""

from __future__ import annotations

from pathlib import Path

_MOST_BESIDE = 50
_MOST_READ = 1_000_000  # bytes; notebooks carry pictures


def script_advice(path: Path) -> tuple[str, ...]:
    """`--script train.py`, where code that may have made a checkpoint lies beside it."""
    name = script_beside(path)
    return (
        () if name is None else (f"--script {name} (it lies beside; all the rest is read there)",)
    )


def script_beside(path: Path) -> str | None:
    """The Python file or notebook beside a checkpoint that names it, else one with a network."""
    try:
        beside = [p for p in sorted(path.parent.iterdir()) if p.suffix in (".py", ".ipynb")]
    except OSError:
        return None
    texts = {file: _start_of(file) for file in beside[:_MOST_BESIDE]}
    named = [file for file, text in texts.items() if path.name in text]
    networks = [file for file, text in texts.items() if "nn.Module" in text or "nn.Seq" in text]
    both = [file for file in named if file in networks]
    found = next(iter([*both, *networks, *named]), None)
    return None if found is None else str(found)


def _start_of(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_MOST_READ).decode("utf-8", errors="replace")
    except OSError:
        return ""
