"""FileStamp: what tells a file from a changed one without reading it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileStamp:
    """One state of one file.

    `path` is as it was given, absolute; `real_path` is behind all links.
    """

    path: str
    real_path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: str | Path) -> FileStamp:
        """The stamp of the file as it is now.

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
