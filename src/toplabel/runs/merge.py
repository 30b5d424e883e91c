"""Joining: the parts of a run into the one file that was asked for; whole, or not at all."""

from __future__ import annotations

from typing import Any

from toplabel._internal import platform
from toplabel.runs.formats import Format
from toplabel.runs.state import State


def is_joined(state: State) -> bool:
    """Whether the file stands there as the run has written it last, with all parts."""
    return state.joined is not None and state.joined == _facts(state)


def was_changed(state: State) -> bool:
    """Whether somebody else has changed the file since the run wrote it."""
    before, now = state.joined, _facts(state)
    return before is not None and now is not None and {**before, "parts": 0} != {**now, "parts": 0}


def join_parts(state: State, encoding: Format) -> None:
    """Write the file from all parts, at once and durably.

    Raises:
        OSError: There is no room, or it may not be written.
    """
    output = state.output
    state.remember_joined(None)
    parts = [output.part(number) for number in range(state.manifest.shards)]
    aside = output.state / f"joined.{output.format}.tmp"
    try:
        encoding.join(parts, aside)
        platform.replace_file(aside, output.path)
    finally:
        aside.unlink(missing_ok=True)
    state.remember_joined(_facts(state))


def _facts(state: State) -> dict[str, Any] | None:
    try:
        status = state.output.path.stat()
    except OSError:
        return None
    return {
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "parts": state.manifest.shards,
    }
