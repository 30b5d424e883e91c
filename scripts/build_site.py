"""Build the documents' site into build/site with zensical; a warning or a missing page fails.

python scripts/build_site.py
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Build it, print what zensical says, and check what is there."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout, end="")
    warned = [line for line in done.stdout.splitlines() if line.startswith(("griffe:", "Warning"))]
    pages = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")]
    site = ROOT / "build" / "site"
    missing = [str(page) for page in pages if not (site / page.with_suffix(".html")).exists()]
    for page in missing:
        print(f"no page was made of docs/{page}", file=sys.stderr)
    print(f"{len(pages)} pages in {time.monotonic() - start:.0f} s")
    return 1 if done.returncode or warned or missing or "No issues found" not in done.stdout else 0


if __name__ == "__main__":
    sys.exit(main())
