"""Install: a fresh environment, the base install, and the first label ever given there."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.bench import ROOT, Bench
from benchmarks.measure import run
from benchmarks.results import Row, Section, Table

_NOT_OURS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils")


def measure(bench: Bench) -> Section:
    """Seconds, megabytes to download and megabytes installed, then the first `toplabel cat.jpg`."""
    folder = bench.folder / "install"
    shutil.rmtree(folder, ignore_errors=True)
    environment = bench.environment(cache=folder / "cache")
    python = folder / "env" / "bin" / "python"
    created = run([sys.executable, "-m", "venv", folder / "env"])
    pip = [python, "-m", "pip"]
    installed = run([*pip, "install", "-q", "--no-cache-dir", ROOT], environment=environment)
    command = [folder / "env" / "bin" / "toplabel", ROOT / "examples" / "cat.jpg"]
    first = run(command, environment=environment)
    again = run(command, environment=environment)
    wheels = folder / "wheels"
    run([*pip, "wheel", "-q", "-w", wheels, ROOT], environment=environment)
    downloads = {path.name: path.stat().st_size / 1e6 for path in wheels.iterdir()}
    packages = _packages(folder / "env")
    download, size = sum(downloads.values()), sum(packages.values())
    return Section(
        title="Base install on a fresh machine",
        rows=(
            Row(
                what="fresh environment, then `pip install .` with every download",
                figure=f"{created.seconds:.1f} s + {installed.seconds:.1f} s",
            ),
            Row(
                what="first `toplabel cat.jpg` ever",
                figure=f"{first.seconds:.2f} s",
                goal="< 1 s",
                met=first.seconds < 1,
            ),
            Row(what="second", figure=f"{again.seconds:.2f} s"),
            Row(
                what="download, all wheels with toplabel's own",
                figure=f"{download:.1f} MB",
                goal="< 90 MB",
                met=download < 90,
            ),
            Row(
                what="installed, without pip and setuptools (1 MB is 10^6 bytes)",
                figure=f"{size:.1f} MB",
                goal="< 200 MB",
                met=size < 200,
            ),
        ),
        tables=(
            Table(
                title="Wheels",
                header=("file", "MB"),
                rows=tuple((name, f"{mb:.1f}") for name, mb in _largest_first(downloads)),
            ),
            Table(
                title="Installed, 1 MB and more",
                header=("folder in site-packages", "MB"),
                rows=tuple((n, f"{mb:.1f}") for n, mb in _largest_first(packages) if mb >= 1),
            ),
        ),
        notes=(f"It said: `{first.output.strip().splitlines()[0].split(chr(9), 1)[1]}`.",),
        raw={"downloads_mb": downloads, "installed_mb": packages, "first": first.seconds},
    )


def _packages(environment: Path) -> dict[str, float]:
    """Megabytes of each entry of site-packages."""
    (site,) = environment.glob("lib/python*/site-packages")
    return {
        entry.name: sum(file.stat().st_size for file in _files(entry)) / 1e6
        for entry in site.iterdir()
        if entry.name.split("-")[0] not in _NOT_OURS
    }


def _files(entry: Path) -> list[Path]:
    return [path for path in entry.rglob("*") if path.is_file()] if entry.is_dir() else [entry]


def _largest_first(sizes: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(sizes.items(), key=lambda item: -item[1])
