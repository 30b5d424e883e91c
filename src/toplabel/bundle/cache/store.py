"""Cache: compiled programs by key, manifests by model name, hashes of files; all under one folder.

programs/KEY/               a program's files, written aside and renamed
optimised/KEY/              the engine's own copies of it
entries/NAME.json           what a model name became, and the weights files it was read from
hashes/NAME.json            the sha256 of files seen before
locks/KEY                   empty; held while the program is built
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from toplabel._internal import platform
from toplabel.bundle.cache.file_signature import FileStamp
from toplabel.bundle.cache.jsonfile import json_path, read_json, write_json
from toplabel.bundle.program import NotCompiled, Program
from toplabel.errors import BundleError, ToplabelError

ENTRY_SCHEMA = 1


def cache_dir() -> Path:
    """The cache's folder: TOPLABEL_CACHE, else toplabel in XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("TOPLABEL_CACHE"):
        return Path(own).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(home):  # the XDG rule: a relative one is to be ignored
        return Path(home) / "toplabel"
    return Path(os.path.expanduser("~"), ".cache", "toplabel").absolute()


def file_sha256(path: str | Path) -> str:
    """The file's sha256, 64 hexadecimal digits; an unchanged file is read only once.

    Raises:
        OSError: The file cannot be read.
    """
    stamp = FileStamp.of(os.path.realpath(path))
    index = json_path(cache_dir() / "hashes", stamp.real_path)
    known = read_json(index)
    if known is not None and known.get("file") == asdict(stamp):
        return str(known["sha256"])
    digest = _sha256(stamp.real_path)
    if FileStamp.of(stamp.path) == stamp:  # else it changed while it was read
        write_json(index, {"file": asdict(stamp), "sha256": digest})
    return digest


def _sha256(path: str) -> str:
    import hashlib  # loads OpenSSL: milliseconds that a warm start does not pay

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    if not all(_is_current(file, vanishing) for file in files):
        return None
    return manifest


def store_entry(
    spec: str,
    manifest: dict[str, Any],
    *,
    weights_files: Sequence[Path | FileStamp],
    weights_may_vanish: bool = True,
) -> bool:
    """Remember what a model name became; returns whether that could be written down.

    Args:
        spec: The model's name, in its canonical form.
        manifest: Plain data for JSON.
        weights_files: The files it was read from. Give stamps taken before they were read:
            a file that changes during the compilation then makes the entry stale.
        weights_may_vanish: A missing weights file leaves the entry good, as befits a zoo's cache.
    """
    try:
        stamps = [f if isinstance(f, FileStamp) else FileStamp.of(f) for f in weights_files]
    except OSError:
        return False
    entry = {
        "schema": ENTRY_SCHEMA,
        "spec": spec,
        "manifest": manifest,
        "weights_files": [asdict(stamp) for stamp in stamps],
        "weights_may_vanish": weights_may_vanish,
    }
    return write_json(json_path(cache_dir() / "entries", spec), entry)


def _is_current(file: Any, may_vanish: bool) -> bool:
    try:
        return bool(asdict(FileStamp.of(file["path"])) == file)
    except (FileNotFoundError, NotADirectoryError):
        return may_vanish
    except (OSError, TypeError, KeyError, ValueError):
        return False


# Programs


def find_program(key: str) -> Program | None:
    """The program of that key; None where there is none, or it is damaged."""
    try:
        program = Program.read(_programs() / key)
    except BundleError:
        return None
    return program if program.key == key else None


def store_program(
    key: str,
    build: Callable[[Path], Program | NotCompiled],
    *,
    note: Callable[[str], None] | None = None,
) -> Program | NotCompiled:
    """The program of that key from the cache, or built, checked and kept there.

    Of two processes at once, the second waits and finds what the first one built. Where the cache
    cannot be written to, or its disk is full, the program goes to a temporary folder that lives as
    long as this process.

    Args:
        key: 64 hexadecimal digits.
        build: Makes the program in the empty folder it is given.
        note: Called with one line for people, where something is unusual.

    Raises:
        ToplabelError: `build` raised it.
    """
    if found := find_program(key):  # before any lock: the cache may be read-only
        return found
    note = note or _ignore
    try:
        return _store_under_lock(key, build, note)
    except ToplabelError:
        raise
    except OSError as error:
        note(
            f"cannot write to the cache {cache_dir()} ({error.strerror or error}); the compiled"
            " model is kept for this process only; set TOPLABEL_CACHE to another folder"
        )
    return _build_for_this_process(build)


def _store_under_lock(
    key: str, build: Callable[[Path], Program | NotCompiled], note: Callable[[str], None]
) -> Program | NotCompiled:
    locks = cache_dir() / "locks"
    for folder in (_programs(), locks):
        folder.mkdir(parents=True, exist_ok=True)

    def waiting() -> None:
        note("another process is compiling this model; waiting for it")

    with platform.lock_file(locks / key, waiting=waiting) as held:
        if found := find_program(key):
            return found
        if held:
            for half_written in _programs().glob(f".building-{key}-*"):  # its owner is dead
                _remove(half_written)
        return _build_aside(key, build)


def _build_aside(key: str, build: Callable[[Path], Program | NotCompiled]) -> Program | NotCompiled:
    """Build in a folder beside, then rename it."""
    aside = _programs() / f".building-{key}-{os.getpid()}"
    aside.mkdir()
    try:
        built = build(aside)
        if not isinstance(built, Program):
            return built
        _remove(cache_dir() / "optimised" / key)  # copies of the program that is replaced here
        folder = _programs() / key
        platform.replace_folder(aside, folder)
        # not read again: `toplabel cache` may have cleared it a moment ago
        return replace(
            built,
            path=folder / built.path.name,
            goldens_path=folder / built.goldens_path.name,
        )
    finally:
        _remove(aside)


def _build_for_this_process(
    build: Callable[[Path], Program | NotCompiled],
) -> Program | NotCompiled:
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
        return NotCompiled(f"there is no room for it: {error}", lasting=False)


def forget_program(key: str) -> bool:
    """Remove a program and the engines' copies of it; returns whether it is gone."""
    _remove(cache_dir() / "optimised" / key)
    _remove(_programs() / key)
    return not (_programs() / key).exists()


def _programs() -> Path:
    return cache_dir() / "programs"


def optimised_folder(key: str) -> Path | None:
    """Where engines keep their own copies of the program of that key; None: nowhere.

    The program itself may lie elsewhere: the embedded one's folder may be read-only.
    """
    folder = cache_dir() / "optimised" / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def _remove(path: Path) -> None:
    """Remove a file or folder of our own, as far as possible."""
    with suppress(OSError):
        if path.is_dir():
            platform.remove_folder(path)
        else:
            path.unlink(missing_ok=True)


def _ignore(line: str) -> None:
    pass
