"""Member: one entry that is no file of its own, as something that can be read."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from toplabel.runs.entry import Entry
from toplabel.runs.readers.kinds import CONTAINERS

_READERS = {**CONTAINERS, "remote": "toplabel.runs.readers.remote"}


@dataclass(frozen=True, slots=True)
class Member:
    """A picture in an archive, a table or behind a URL. Reading image takes it as a file object.

    It may be read from several threads at once, and sent to other processes.
    """

    entry: Entry

    @property
    def name(self) -> str:
        """What its record calls it."""
        return self.entry.name

    def read(self, size: int = -1) -> bytes:
        """Its bytes, `size` of them at most; all where that is negative.

        Raises:
            ImageError: They cannot be had; `.code` says why.
        """
        read_member = import_module(_READERS[self.entry.kind]).read_member
        content: bytes = read_member(self.entry, size)
        return content
