"""The container image's size, by the sum of its parts: what the Dockerfile adds, as gzip packs it.

    python scripts/image_size.py [--base-mb 45]

Nothing is built here: toplabel with the extra `serve` is installed into a temporary folder with
this interpreter and packed as one layer. The base image's size is not measured but given.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


class _Counter:
    """A file that only counts what is written."""

    def __init__(self) -> None:
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        """Count it."""
        self.size_bytes += len(data)
        return len(data)


def packed_mb(folder: Path) -> float:
    """A folder's size as a compressed layer, in 10**6 bytes."""
    counter = _Counter()
    with tarfile.open(fileobj=counter, mode="w|gz") as archive:  # type: ignore[call-overload]
        archive.add(folder, arcname="layer")
    return counter.size_bytes / 1e6


def main() -> None:
    """Install, pack, add up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-mb", type=float, default=45.0, help="python:3-slim, compressed")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "site"
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(target)]
        subprocess.run([*pip, "--no-compile", f"{ROOT}[serve]"], check=True)
        size = sum(f.stat().st_size for f in target.rglob("*") if f.is_file()) / 1e6
        packed = packed_mb(target)
    print(f"toplabel[serve] and all it needs: {size:.0f} MB, as a layer {packed:.0f} MB")
    print(f"with a base image of {asked.base_mb:.0f} MB: {packed + asked.base_mb:.0f} MB")


if __name__ == "__main__":
    main()
