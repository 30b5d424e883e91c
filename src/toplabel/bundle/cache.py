"""Cache: compiled programs by key, manifests by model name, hashes of files; all under one folder.

programs/KEY/               a program's files, written aside and renamed
optimised/KEY/              the engine's own copies of it
reduced/KEY/                the same network in fewer bits, and how it was measured
entries/NAME.json           what a model name became, and the weights files it was read from
hashes/NAME.json            the sha256 of files seen before
refusals/KEY.json           why a model could not be compiled, and by what
background/NAME.json, .log  what compiling in the background has found and printed
features/MODEL/             of images that were trained on
training/KEY.pt             how far a network is that is being trained
locks/KEY, reduced KEY      empty; held while the program is built
"""

from __future__ import annotations

import logging
import math
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from toplabel._internal import platform
from toplabel._internal.json_file import json_path, read_json, write_json
from toplabel.bundle.program import NotCompiled, Program
from toplabel.errors import BundleError, ToplabelError

ENTRY_SCHEMA = 1

COPIES = "optimised"
"""A folder in that of a new program: the engine's copies that were made with it."""

Kept = TypeVar("Kept")
Build = Callable[[Path], Program | NotCompiled]
"""Makes a program in the empty folder it is given."""

logger = logging.getLogger(__name__)


def cache_dir() -> Path:
    """The cache's folder: TOPLABEL_CACHE, else toplabel in XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("TOPLABEL_CACHE"):
        return Path(own).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(home):  # the XDG rule: a relative one is to be ignored
        return Path(home) / "toplabel"
    return Path(os.path.expanduser("~"), ".cache", "toplabel").absolute()


# Files: whether they are the same as before


@dataclass(frozen=True, slots=True)
class FileSignature:
    """What tells a file from a changed one without reading it.

    `path` is as it was given, absolute; `real_path` is behind all links.
    """

    path: str
    real_path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: str | Path) -> Self:
        """The signature of the file as it is now.

        Raises:
            OSError: There is no such file, or it may not be seen.
        """
        real_path = os.path.realpath(path)
        status = os.stat(real_path)
        return cls(
            path=os.path.abspath(path),
            real_path=real_path,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            inode=status.st_ino,
        )


def file_sha256(path: str | Path) -> str:
    """The file's sha256, 64 hexadecimal digits; an unchanged file is read only once.

    Raises:
        OSError: The file cannot be read.
    """
    signature = FileSignature.of(os.path.realpath(path))
    index = json_path(cache_dir() / "hashes", signature.real_path)
    known = read_json(index)
    if known is not None and known.get("file") == asdict(signature):
        return str(known["sha256"])
    import hashlib  # loads OpenSSL: milliseconds that a warm start does not pay

    with open(signature.real_path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if FileSignature.of(signature.path) == signature:  # else it changed while it was read
        _keep(index, {"file": asdict(signature), "sha256": digest})
    return digest


# Entries: a model's name -> its manifest


def find_entry(spec: str) -> dict[str, Any] | None:
    """The manifest stored for a model name; None where there is none or its weights changed."""
    entry = read_json(json_path(cache_dir() / "entries", spec))
    if entry is None or entry.get("schema") != ENTRY_SCHEMA or entry.get("spec") != spec:
        return None
    manifest, files = entry.get("manifest"), entry.get("weights_files")
    if not isinstance(manifest, dict) or not isinstance(files, list):
        return None
    vanishing = entry.get("weights_may_vanish") is True
    return manifest if all(_is_current(file, vanishing) for file in files) else None


def store_entry(
    spec: str,
    manifest: dict[str, Any],
    *,
    weights_files: Sequence[FileSignature],
    weights_may_vanish: bool = True,
) -> bool:
    """Remember what a model name became; returns whether that could be written down.

    Args:
        spec: The model's name, in its canonical form.
        manifest: Plain data for JSON.
        weights_files: Signatures of the files it was read from, taken before they were read: a
            file that changes during the compilation then makes the entry stale.
        weights_may_vanish: A missing weights file leaves the entry good, as befits a zoo's cache.
    """
    entry = {
        "schema": ENTRY_SCHEMA,
        "spec": spec,
        "manifest": manifest,
        "weights_files": [asdict(file) for file in weights_files],
        "weights_may_vanish": weights_may_vanish,
    }
    return _keep(json_path(cache_dir() / "entries", spec), entry)


def _is_current(file: Any, may_vanish: bool) -> bool:
    try:
        return bool(asdict(FileSignature.of(file["path"])) == file)
    except (FileNotFoundError, NotADirectoryError):
        return may_vanish
    except (OSError, TypeError, KeyError, ValueError):
        return False


def _keep(path: Path, content: dict[str, Any]) -> bool:
    """Write a JSON object where that is possible; returns whether it was."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    except OSError:
        return False
    return True


# Programs


def find_program(key: str) -> Program | None:
    """The program of that key; None where there is none, or it is damaged."""
    try:
        program = Program.read(_programs() / key)
    except BundleError:
        return None
    return program if program.key == key else None


def store_program(key: str, build: Build, *, or_here: bool = True) -> Program | NotCompiled:
    """The program of that key from the cache, or built, checked and kept there.

    Of two processes at once, the second waits and finds what the first one built. Where the cache
    cannot be written to, or its disk is full, the program goes to a temporary folder that lives as
    long as this process.

    Args:
        key: 64 hexadecimal digits.
        build: Makes the program in the empty folder it is given.
        or_here: Use that temporary folder; else there is no program then.

    Raises:
        ToplabelError: `build` raised it.
    """
    if found := find_program(key):  # before any lock: the cache may be read-only
        return found
    try:
        return _store_under_lock(key, build)
    except ToplabelError:
        raise
    except OSError as error:
        if not or_here:
            return _not_written(error)
        logger.warning(
            "cannot write to the cache %s (%s); the compiled model is kept for this process only;"
            " set TOPLABEL_CACHE to a folder that can be written to",
            cache_dir(),
            error.strerror or error,
        )
    return _build_for_this_process(build)


def _store_under_lock(key: str, build: Build) -> Program | NotCompiled:
    locks = cache_dir() / "locks"
    for folder in (_programs(), locks):
        folder.mkdir(parents=True, exist_ok=True)

    def waiting() -> None:
        logger.info("another process is compiling this model; waiting for it")

    with platform.lock_file(locks / key, waiting=waiting) as held:
        if found := find_program(key):
            return found
        if held:
            for half_written in _programs().glob(f".building-{key}-*"):  # its owner is dead
                _remove(half_written)
        return _build_aside(key, build)


def _build_aside(key: str, build: Build) -> Program | NotCompiled:
    """Build in a folder beside, then rename it."""
    aside = _programs() / f".building-{key}-{os.getpid()}"
    aside.mkdir()
    try:
        built = build(aside)
        if not isinstance(built, Program):
            return built
        _replace_copies(key, aside / COPIES)
        folder = _programs() / key
        platform.replace_folder(aside, folder)
        # not read again: `toplabel cache` may have cleared it a moment ago
        return replace(
            built, path=folder / built.path.name, reference_path=folder / built.reference_path.name
        )
    finally:
        _remove(aside)


def _replace_copies(key: str, made: Path) -> None:
    """Put the copies of a new program where engines look for them, instead of older ones."""
    copies = cache_dir() / "optimised" / key
    _remove(copies)
    if made.is_dir():
        copies.parent.mkdir(exist_ok=True)
        os.rename(made, copies)


def _build_for_this_process(build: Build) -> Program | NotCompiled:
    import atexit  # these two serve only caches that cannot be written to
    import tempfile

    def remove() -> None:
        if os.getpid() == owner:  # a forked child runs these handlers, too
            _remove(folder)

    try:
        folder, owner = Path(tempfile.mkdtemp(prefix="toplabel-")), os.getpid()
        atexit.register(remove)
        return build(folder)
    except ToplabelError:
        raise
    except OSError as error:
        return _not_written(error)


def _not_written(error: OSError) -> NotCompiled:
    return NotCompiled(f"it could not be written: {error.strerror or error}", seconds=0)


def forget_program(key: str) -> bool:
    """Remove a program and the engines' copies of it; returns whether it is gone."""
    _remove(cache_dir() / "optimised" / key)
    _remove(_programs() / key)
    return not (_programs() / key).exists()


def optimised_folder(key: str) -> Path | None:
    """Where engines keep their own copies of the program of that key; None: nowhere.

    The program itself may lie elsewhere: the built-in one's folder may be read-only.
    """
    folder = cache_dir() / "optimised" / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def reduced_folder(key: str) -> Path:
    """Where the reduced program is kept that was made here for the program of that key."""
    return cache_dir() / "reduced" / key


def store_reduced(key: str, build: Callable[[Path], Kept]) -> Kept:
    """What `build` returns; what it put into its empty folder replaces what was kept there.

    Raises:
        OSError: The cache cannot be written to, or its disk is full.
    """
    folder, lock = reduced_folder(key), cache_dir() / "locks" / f"reduced {key}"
    for parent in (folder.parent, lock.parent):
        parent.mkdir(parents=True, exist_ok=True)
    beside = f".building-{lock.name}"
    with platform.lock_file(lock, wait=False) as held:
        if held:
            for half_written in folder.parent.glob(f"{beside}-*"):  # its owner is dead
                _remove(half_written)
        aside = folder.with_name(f"{beside}-{os.getpid()}-{threading.get_ident()}")
        _remove(aside)
        aside.mkdir()
        try:
            built = build(aside)
            platform.replace_folder(aside, folder)
            return built
        finally:
            _remove(aside)


def remember_failed_compile(key: str, why: NotCompiled, *, exporter: str) -> None:
    """Keep why there is no program of that key, so that no later start tries in vain.

    Args:
        key: What the program would have been kept under.
        why: What came of it, and how long that holds.
        exporter: What tried, with its version: a newer one may succeed.
    """
    until = None if math.isinf(why.seconds) else time.time() + why.seconds
    known = {"reason": why.reason, "exporter": exporter, "until": until}
    _keep(json_path(cache_dir() / "refusals", key), known)


def find_failed_compile(key: str, *, exporter: str) -> str | None:
    """Why this exporter could not compile the model of that key; None where it has not tried."""
    known = read_json(json_path(cache_dir() / "refusals", key))
    if known is None or known.get("exporter") != exporter:
        return None
    until = known.get("until")
    expired = isinstance(until, float) and until < time.time()
    return None if expired else str(known.get("reason"))


def _programs() -> Path:
    return cache_dir() / "programs"


def _remove(path: Path) -> None:
    """Remove a file or folder of our own, as far as possible."""
    with suppress(OSError):
        if path.is_dir():
            platform.remove_folder(path)
        else:
            path.unlink(missing_ok=True)


# Pruning: what there is, and how it is removed


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One thing in the cache.

    `kind` is "program", "model" (what a name became), or "other" (hashes, engine's copies,
    failed compiles, leftovers). `changed_at` is the time of its last change, in seconds since 1970.
    """

    kind: str
    name: str
    size_bytes: int
    changed_at: float
    path: Path


def list_entries() -> list[CacheEntry]:
    """Everything in the cache, programs first, each kind sorted by name."""
    programs, models, others = [], [], []
    for path in _files_in("programs"):
        if path.name.startswith("."):
            others.append(_entry("other", f"programs/{path.name}", path))
        else:
            programs.append(_entry("program", path.name, path))
    for path in _files_in("entries"):
        if not path.name.startswith("."):
            spec = (read_json(path) or {}).get("spec")
            models.append(_entry("model", spec if isinstance(spec, str) else path.stem, path))
    kinds = ("refusals", "background", "hashes", "optimised", "reduced", "features", "training")
    for folder in kinds:
        found = [_entry("other", f"{folder}/{path.name}", path) for path in _files_in(folder)]
        others = found + others
    return programs + models + others


def prune(names: Iterable[str] | None = None) -> int:
    """Remove things from the cache; returns how many bytes that freed.

    A program that another process is building right now stays.

    Args:
        names: Names or beginnings of names as `list_entries` gives them; None for everything.

    Raises:
        OSError: Something cannot be removed.
    """
    starts = None if names is None else tuple(filter(None, names))
    freed = 0
    for entry in list_entries():
        wanted = starts is None or entry.name.startswith(starts)
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
    lock = path.name.split("-")[1]  # .building-LOCK-PID...
    try:
        with platform.lock_file(cache_dir() / "locks" / lock, wait=False) as held:
            return not held
    except OSError:
        return False


def _entry(kind: str, name: str, path: Path) -> CacheEntry:
    size, changed = 0, 0.0
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    for file in [str(path), *files]:
        with suppress(OSError):  # another process may remove it meanwhile, as os.walk expects, too
            status = os.lstat(file)
            size += status.st_size if stat.S_ISREG(status.st_mode) else 0
            changed = max(changed, status.st_mtime)
    return CacheEntry(kind, name, size, changed, path)


def _files_in(folder: str) -> list[Path]:
    try:
        return sorted((cache_dir() / folder).iterdir())
    except OSError:
        return []
