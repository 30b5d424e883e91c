"""The output of a run, and its state beside the parts, from which it resumes.

_toplabel/run.json     what it was begun with, its generations of inputs, what was merged
_toplabel/inputs/      the manifest
_toplabel/done/        a result for each finished shard
_toplabel/lock         held while a run works on it
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from toplabel._internal import platform
from toplabel._internal.json_file import read_json, write_json
from toplabel.errors import RunError, UsageError
from toplabel.runs.entry import Entry
from toplabel.runs.fingerprint import check_same
from toplabel.runs.formats import FORMATS, check_format
from toplabel.runs.manifest import Generation, Manifest, copy_new, find_additions, write_listing
from toplabel.runs.problems import find_solved

SCHEMA = 1
STATE_NAME = "_toplabel"
_SUFFIXES = {".ndjson": "jsonl", **{f".{name}": name for name in FORMATS}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where records go: a file that appears whole, or a folder of parts.

    Args:
        path: As the user named it.
        format: "parquet", "csv" or "jsonl".
        parts: The folder of parts: `path` itself, or for a single file `.NAME.run` beside it.
        is_file: Whether the parts are merged into one file at `path`.
    """

    path: Path
    format: str
    parts: Path
    is_file: bool

    @property
    def state(self) -> Path:
        """The run's state; readers of tables leave out folders that begin with _."""
        return self.parts / STATE_NAME

    def part(self, number: int) -> Path:
        """The file of one shard's records."""
        return self.parts / f"part-{number:06d}.{self.format}"

    @classmethod
    def of(cls, path: str | os.PathLike[str], *, format: str | None = None) -> Self:
        """The output that a user names: `labels.parquet`, or a folder.

        Args:
            path: A file with one of the suffixes .parquet, .csv and .jsonl; else a folder: one
                that exists, or a name that ends in a slash or has no suffix.
            format: Of the parts in a folder; by default Parquet.

        Raises:
            UsageError: It is neither, or `format` contradicts the suffix.
        """
        text = os.fspath(path)
        if "://" in text:
            raise UsageError(
                f"got the output {text!r}; expected a file or folder on this machine: write there,"
                " then copy it"
            )
        target = Path(text)
        suffix = target.suffix.lower()
        if text.endswith("/") or os.path.isdir(text) or not os.path.splitext(text)[1]:
            known = check_format(format or "parquet")
            return cls(path=target, format=known, parts=target, is_file=False)
        if suffix not in _SUFFIXES:
            raise UsageError(
                f"got the output {text!r}; expected a file with the suffix {', '.join(_SUFFIXES)},"
                " or a folder: a name without suffix, or with a slash at its end"
            )
        if format not in (None, _SUFFIXES[suffix]):
            raise UsageError(
                f"got the format {format!r} for {text!r}; leave the format out, the suffix of the"
                " file sets it"
            )
        parts = target.with_name(f".{target.name}.run")
        return cls(path=target, format=_SUFFIXES[suffix], parts=parts, is_file=True)


class State:
    """The state of one run. Comes from `open_state`, and only one process has it at a time."""

    def __init__(self, output: Output, content: dict[str, Any]) -> None:
        self.output = output
        self._content = content
        generations = [Generation(**generation) for generation in content["generations"]]
        self.manifest = Manifest(output.state / "inputs", generations)

    @property
    def merged(self) -> dict[str, Any] | None:
        """Of a single file: its size, time and number of parts when it was written."""
        found = self._content["joined"]
        return found if isinstance(found, dict) else None

    def remember_merged(self, facts: dict[str, Any] | None) -> None:
        """Store what `merged` gives from now on.

        Raises:
            OSError: It cannot be written.
        """
        self._content["joined"] = facts
        self._save()

    def is_sorted(self, target: str) -> bool:
        """Whether the images of all finished shards are in that target folder."""
        return target in self._content.get("sorted", ())

    def remember_sorted(self, target: str) -> None:
        """Store that they are; those of later shards are put there before these are committed.

        Raises:
            OSError: It cannot be written.
        """
        self._content["sorted"] = [*self._content.get("sorted", ()), target]
        self._save()

    @property
    def noticed(self) -> tuple[str, ...]:
        """What the outputs of the first images looked like, in this call or an earlier one."""
        return tuple(self._content.get("noticed", ()))

    def remember_noticed(self, texts: Sequence[str]) -> None:
        """Store what `noticed` gives from now on.

        Raises:
            OSError: It cannot be written.
        """
        self._content["noticed"] = list(texts)
        self._save()

    def result(self, number: int) -> Path:
        """The file of one shard's result."""
        return self.output.state / "done" / f"{number:06d}.mark"

    def list_inputs(self, entries: Iterable[Entry], *, shard_size: int | None) -> int:
        """Take a listing: all of it the first time, later what is new in it.

        Returns:
            How many known inputs are no longer listed.

        Raises:
            UsageError: A reader found nothing.
            RunError: None of the inputs can be read, none is one of this run's, or an image lies
                elsewhere in its archive now.
            OSError: The disk is full.
        """
        listed = self.output.state / "inputs" / "listing.tmp"
        try:
            listing = write_listing(entries, listed)
            if self._content["listing"] == asdict(listing):
                return 0
            addition, added, missing = listed, listing.rows, 0
            if self.manifest.generations:
                addition, added, missing = self._find_new(listed)
            if added:
                self.manifest = self.manifest.add(addition, added, shard_size=shard_size)
            self._content["generations"] = [asdict(g) for g in self.manifest.generations]
            self._content["listing"] = asdict(listing)
            self._save()
            self.manifest.remove_old()
            return missing
        finally:
            listed.unlink(missing_ok=True)

    def _find_new(self, listed: Path) -> tuple[Path, int, int]:
        """A file of the new lines, their number, and that of known inputs that are gone."""
        found = find_additions(self.manifest.lines(), listed, listed.parent)
        known = self.manifest.rows
        if found.missing == known:
            raise RunError(
                f"{str(self.output.path)!r} holds a run over other inputs: none of its {known:,}"
                " inputs is listed now; write to another output, or start over with restart=True"
            )
        if found.moved is not None:
            raise RunError(
                f"{found.moved!r} is elsewhere in its file than when this run began: the file was"
                " rewritten; start over with restart=True"
            )
        solved = find_solved(self.manifest.lines(), listed, found.is_new)
        if solved.lines:
            self.manifest = self.manifest.replace(solved.lines)
            found.is_new[list(solved.taken)] = False
        addition = listed.with_name("addition.tmp")
        copy_new(listed, found.is_new, addition)
        return addition, int(found.is_new.sum()), found.missing - solved.renamed

    def _save(self) -> None:
        write_json(self.output.state / "run.json", self._content)


@contextmanager
def open_state(
    output: Output, fingerprint: dict[str, Any], *, restart: bool = False
) -> Iterator[State]:
    """The run's state, new or as it was left, locked for the body.

    Args:
        output: Where the run writes.
        fingerprint: What it is to be run with.
        restart: Remove what an earlier run has done.

    Raises:
        RunError: Another run writes there now, it was begun with something else, or what is there
            is not a run's.
        OSError: It cannot be written to.
    """
    _check_output(output, restart=restart)
    is_ours = not output.parts.exists()
    for folder in ("inputs", "done"):
        (output.state / folder).mkdir(parents=True, exist_ok=True)
    with platform.lock_file(output.state / "lock", wait=False) as held:
        if held is False:
            raise RunError(
                f"another run is writing to {str(output.path)!r} right now; wait for it, or write"
                " to another output"
            )
        if restart:
            _clear(output)
        _remove_leftovers(output)
        try:
            yield State(output, _read_content(output, fingerprint))
        except BaseException:
            if not (output.state / "run.json").exists():  # it ended before it knew its inputs
                shutil.rmtree(output.state, ignore_errors=True)
                with suppress(OSError):  # somebody has put something there meanwhile
                    if is_ours:
                        output.parts.rmdir()
            raise


def _read_content(output: Output, fingerprint: dict[str, Any]) -> dict[str, Any]:
    path = output.state / "run.json"
    content = read_json(path)
    if content is None and path.exists():
        raise RunError(f"{str(path)!r} is damaged; start over with restart=True")
    if content is None:
        content = {"schema": SCHEMA, "format": output.format, "fingerprint": fingerprint}
        content |= {"generations": [], "listing": None, "joined": None}
    if content.get("schema") != SCHEMA:
        raise RunError(
            f"{str(output.path)!r} was started by another version of toplabel (schema"
            f" {content.get('schema')!r}); start over with restart=True"
        )
    if content["format"] != output.format:
        raise RunError(
            f"{str(output.path)!r} has parts in the format {content['format']!r}; got"
            f" {output.format!r}; use the same format, or start over with restart=True"
        )
    check_same(content["fingerprint"], fingerprint, output=str(output.path))
    return content


def _check_output(output: Output, *, restart: bool) -> None:
    """Refuse to overwrite what no run has written."""
    known = (output.state / "run.json").exists() or (output.state / "lock").exists()
    if output.is_file and output.path.is_dir():
        raise UsageError(f"got the output {str(output.path)!r}, which is a folder; expected a file")
    if output.is_file and os.path.lexists(output.path) and not known and not restart:
        raise RunError(
            f"{str(output.path)!r} exists, and there is no run beside it to resume; name another"
            " output, or replace it with restart=True"
        )
    if not output.is_file and output.path.exists() and not known:
        if not output.path.is_dir():
            raise UsageError(
                f"got the output {str(output.path)!r}, which is a file; expected a folder"
            )
        if any(output.path.iterdir()):
            raise RunError(
                f"the folder {str(output.path)!r} holds files that are not a run's; name a new or"
                " empty one"
            )


def _clear(output: Output) -> None:
    """Remove the parts and their state; the lock stays, as it is held."""
    (output.state / "run.json").unlink(missing_ok=True)  # first: without it nothing is known
    for part in output.parts.glob("part-*"):
        part.unlink()
    for folder in ("inputs", "done"):
        shutil.rmtree(output.state / folder)
        (output.state / folder).mkdir()


def _remove_leftovers(output: Output) -> None:
    """Remove what a run that was killed had half written."""
    inputs, done = output.state / "inputs", output.state / "done"
    leftovers = ((output.parts, ".part-*"), (output.state, ".*"), (inputs, "*.tmp"), (done, ".*"))
    for folder, pattern in leftovers:
        for path in folder.glob(pattern):
            with suppress(OSError):
                path.unlink()
