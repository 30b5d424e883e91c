"""Build the documents' site into build/site with zensical; a warning or a missing page fails.

python scripts/build_site.py
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
_SHIM = re.compile(r'<script src="https://unpkg.com/iframe-worker/shim"[^>]*></script>')


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
    for page in site.rglob("*.html"):
        page.write_text(_without_the_shim(page.read_text(encoding="utf-8"), page, site), "utf-8")
    print(f"{len(pages)} pages in {time.monotonic() - start:.0f} s")
    return 1 if done.returncode or warned or missing or "No issues found" not in done.stdout else 0


def _without_the_shim(text: str, page: Path, site: Path) -> str:
    """The page with our docs/worker.js for the script that the theme would fetch from elsewhere."""
    up = "../" * (len(page.relative_to(site).parts) - 1)
    return _SHIM.sub(f'<script src="{up}worker.js"></script>', text)


if __name__ == "__main__":
    sys.exit(main())
