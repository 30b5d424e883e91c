"""A child process of Python, and the connection to it: nothing of the current folder is imported.

That may be a folder of images from somewhere, and hold a `numpy.py`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection

from toplabel._internal.platform import has_posix_processes


def can_start() -> bool:
    """Whether a child can be started here: descriptors are passed on in POSIX only."""
    return has_posix_processes() and bool(sys.executable)


def start_child(
    module: str, *, environment: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], Connection]:
    """A process in which `main(descriptor)` of a module runs, and this end of its connection.

    Args:
        module: "toplabel.runs.worker".
        environment: Variables beside those of this process.

    Raises:
        OSError: There is no memory or no descriptor for it.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", f"import {module} as m; m.main({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for this process, which ends its children
                env={**os.environ, **(environment or {}), "PYTHONPATH": _safe_path()},
            )
        except BaseException:
            ours.close()
            raise
    return process, Connection(ours.detach())


def _safe_path() -> str:
    """Where a child imports from: as this process does, but never the current folder."""
    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    here = os.path.realpath(os.curdir)
    kept = [path for path in sys.path if path and os.path.realpath(path) != here]
    # ours last: the current folder is a checkout's
    return os.pathsep.join(kept if ours in kept else [*kept, ours])
