"""Files that are made from the code: write one, or say that it is out of date."""

from __future__ import annotations

import sys
from pathlib import Path


def write_or_check(path: Path, text: str) -> int:
    """Write the file; with --check on the command line 1 where it is not that text already."""
    if "--check" not in sys.argv[1:]:
        path.write_text(text, encoding="utf-8")
        return 0
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return 0
    script = Path(sys.argv[0]).name
    print(f"{path} is out of date: run python scripts/{script}", file=sys.stderr)
    return 1
