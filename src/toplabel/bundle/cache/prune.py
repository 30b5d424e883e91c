"""Housekeeping: what is in the cache, and how it is emptied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from toplabel._internal import platform
from toplabel.bundle.cache import cache_dir
from toplabel.bundle.cache.jsonfile import read_json


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One thing in the cache.

    `kind` is "program", "model" (what a name became), or "other" (hashes, engine's copies,
    leftovers). `changed_at` is the time of its last change, in seconds since 1970.
    """

    kind: str
    name: str
    size_bytes: int
    changed_at: float
    path: Path


def list_entries() -> list[CacheEntry]:
    """Everything in the cache, programs first, each kind sorted by name."""
    entries = [_entry("program", path.name, path) for path in _visible(cache_dir() / "programs")]
    for path in _visible(cache_dir() / "entries"):
        spec = (read_json(path) or {}).get("spec")
        entries.append(_entry("model", spec if isinstance(spec, str) else path.stem, path))
    for folder in ("optimised", "hashes"):
        entries += [_entry("other", f"{folder}/{p.name}", p) for p in _all(cache_dir() / folder)]
    leftovers = [path for path in _all(cache_dir() / "programs") if path.name.startswith(".")]
    entries += [_entry("other", f"programs/{path.name}", path) for path in leftovers]
    return entries


def clear(names: Sequence[str] | None = None) -> int:
    """Remove things from the cache; returns how many bytes that freed.

    A program that another process is building right now stays.

    Args:
        names: Names or beginnings of names as `list_entries` gives them; None for everything.

    Raises:
        OSError: Something cannot be removed.
    """
    freed = 0
    for entry in list_entries():
        wanted = names is None or any(name and entry.name.startswith(name) for name in names)
        if wanted and not _is_being_built(entry.path):
            if entry.path.is_dir():
                platform.remove_folder(entry.path)
            else:
                entry.path.unlink(missing_ok=True)
            freed += entry.size_bytes
    return freed


def _is_being_built(path: Path) -> bool:
    if not path.name.startswith(".building-"):
        return False
    key = path.name.split("-")[1]  # .building-KEY-PID
    try:
        with platform.lock_file(cache_dir() / "locks" / key, wait=False) as held:
            return not held
    except OSError:
        return False


def _entry(kind: str, name: str, path: Path) -> CacheEntry:
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    size, changed = 0, 0.0
    for file in files:
        with suppress(OSError):  # another process may remove it meanwhile
            status = file.lstat()
            size += status.st_size if file.is_file() else 0
            changed = max(changed, status.st_mtime)
    return CacheEntry(kind, name, size, changed, path)


def _all(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in _all(folder) if not path.name.startswith("."))
