"""State: what a run remembers beside its parts, so that it can go on wherever it was stopped.

_toplabel/run.json     what it was begun with, its generations of inputs, what was joined
_toplabel/inputs/      the manifest
_toplabel/done/        a mark for each finished shard
_toplabel/lock         held while somebody works on it
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toplabel._internal import platform
from toplabel._internal.json_file import read_json, write_json
from toplabel.errors import RunError, UsageError
from toplabel.runs.additions import copy_new, find_additions
from toplabel.runs.entry import Entry
from toplabel.runs.fingerprint import check_same
from toplabel.runs.manifest import Generation, Listing, Manifest, write_listing
from toplabel.runs.output import Output

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Changes:
    """What a new listing brought: how many inputs are new, and how many known ones it lacks."""

    added: int
    missing: int


class State:
    """The memory of one run. Comes from `open_state`, and only one process has it at a time."""

    def __init__(self, output: Output, content: dict[str, Any]) -> None:
        self.output = output
        self._content = content
        generations = [Generation(**generation) for generation in content["generations"]]
        self.manifest = Manifest(output.state / "inputs", generations)

    @property
    def joined(self) -> dict[str, Any] | None:
        """Of a single file: its size, time and number of parts when it was written."""
        found = self._content["joined"]
        return found if isinstance(found, dict) else None

    def remember_joined(self, facts: dict[str, Any] | None) -> None:
        """Keep what `joined` gives from now on.

        Raises:
            OSError: It cannot be written.
        """
        self._content["joined"] = facts
        self._save()

    def is_sorted(self, place: str) -> bool:
        """Whether the images of all finished shards lie in that place."""
        return place in self._content.get("sorted", ())

    def remember_sorted(self, place: str) -> None:
        """Keep that they do; those of later shards are put there before these are marked.

        Raises:
            OSError: It cannot be written.
        """
        self._content["sorted"] = [*self._content.get("sorted", ()), place]
        self._save()

    def mark(self, number: int) -> Path:
        """The file of one shard's mark."""
        return self.output.state / "done" / f"{number:06d}.mark"

    def list_inputs(self, entries: Iterable[Entry], *, shard_size: int | None) -> Changes:
        """Take a listing: all of it at the first time, later what is new in it.

        Raises:
            UsageError: A reader found nothing, or a picture of an archive lies elsewhere now.
            RunError: None of the inputs can be read, or none is one of this run's.
            OSError: The disk is full.
        """
        folder = self.output.state / "inputs"
        listed = folder / "listing.tmp"
        try:
            listing = write_listing(entries, listed)
            if self._content["listing"] == asdict(listing):
                return Changes(0, 0)
            return self._take(listed, listing, shard_size)
        finally:
            listed.unlink(missing_ok=True)

    def _take(self, listed: Path, listing: Listing, shard_size: int | None) -> Changes:
        changes = Changes(listing.rows, 0)
        addition = listed
        if self.manifest.generations:
            changes, addition = self._find_new(listed)
        if changes.added:
            self.manifest = self.manifest.add(addition, changes.added, shard_size=shard_size)
        self._content["generations"] = [asdict(g) for g in self.manifest.generations]
        self._content["listing"] = asdict(listing)
        self._save()
        return changes

    def _find_new(self, listed: Path) -> tuple[Changes, Path]:
        found = find_additions(self.manifest.lines(), listed, listed.parent)
        known = self.manifest.rows
        if found.missing == known:
            raise RunError(
                f"{str(self.output.path)!r} holds a run over other inputs: none of its {known:,} is"
                " among these; write to another output, or begin this one anew with --restart"
            )
        if found.moved is not None:
            raise RunError(
                f"{found.moved!r} has another place in its file than when this run began: the file"
                " was written anew; begin the run anew with --restart"
            )
        addition = listed.with_name("addition.tmp")
        copy_new(listed, found.is_new, addition)
        return Changes(int(found.is_new.sum()), found.missing), addition

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
        RunError: Somebody else writes there now, it was begun with something else, or what
            stands there is no run's.
        OSError: It cannot be written to.
    """
    _check_place(output, restart=restart)
    is_ours = not output.parts.exists()
    for folder in ("inputs", "done"):
        (output.state / folder).mkdir(parents=True, exist_ok=True)
    with platform.lock_file(output.state / "lock", wait=False) as held:
        if held is False:
            raise RunError(
                f"another run is writing to {str(output.path)!r} at this moment; wait for it, or"
                " write to another output"
            )
        if restart:
            _clear(output)
        _remove_leftovers(output)
        try:
            yield State(output, _read_content(output, fingerprint))
        except BaseException:
            if not (output.state / "run.json").exists():  # it ended before it knew its inputs
                shutil.rmtree(output.parts if is_ours else output.state, ignore_errors=True)
            raise


def _read_content(output: Output, fingerprint: dict[str, Any]) -> dict[str, Any]:
    path = output.state / "run.json"
    content = read_json(path)
    if content is None and path.exists():
        raise RunError(f"{str(path)!r} is damaged; begin the run anew with --restart")
    if content is None:
        content = {"schema": SCHEMA, "format": output.format, "fingerprint": fingerprint}
        content |= {"generations": [], "listing": None, "joined": None}
    if content.get("schema") != SCHEMA:
        raise RunError(
            f"{str(output.path)!r} was begun by another version of toplabel (schema"
            f" {content.get('schema')!r}); begin the run anew with --restart"
        )
    if content["format"] != output.format:
        raise RunError(
            f"{str(output.path)!r} has parts in the format {content['format']!r}; got"
            f" {output.format!r}; use the same, or begin anew with --restart"
        )
    check_same(content["fingerprint"], fingerprint, output=str(output.path))
    return content


def _check_place(output: Output, *, restart: bool) -> None:
    """Refuse to write over what no run has written."""
    known = (output.state / "run.json").exists() or (output.state / "lock").exists()
    if output.is_file and output.path.is_dir():
        raise UsageError(f"got the output {str(output.path)!r}, which is a folder; expected a file")
    if output.is_file and os.path.lexists(output.path) and not known and not restart:
        raise RunError(
            f"{str(output.path)!r} exists, and there is no run beside it to go on with; name"
            " another output, or replace it with --restart"
        )
    if not output.is_file and output.path.exists() and not known:
        if not output.path.is_dir():
            raise UsageError(f"got the output {str(output.path)!r}, which is a file, as a folder")
        if any(output.path.iterdir()):
            raise RunError(
                f"the folder {str(output.path)!r} holds other files than a run's; name a new or"
                " empty one"
            )


def _clear(output: Output) -> None:
    """Remove the parts and what is remembered of them; the lock stays, as it is held."""
    (output.state / "run.json").unlink(missing_ok=True)  # first: without it nothing is known
    for part in output.parts.glob("part-*"):
        part.unlink()
    for folder in ("inputs", "done"):
        shutil.rmtree(output.state / folder)
        (output.state / folder).mkdir()


def _remove_leftovers(output: Output) -> None:
    """What a run that was killed had half written."""
    inputs, done = output.state / "inputs", output.state / "done"
    places = ((output.parts, ".part-*"), (output.state, ".*"), (inputs, "*.tmp"), (done, ".*"))
    for folder, pattern in places:
        for path in folder.glob(pattern):
            with suppress(OSError):
                path.unlink()
