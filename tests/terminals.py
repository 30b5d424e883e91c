"""Terminals of tests: what a process writes to one, read until the process closes it."""

import os
from collections.abc import Iterator


def read_terminal(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            content = os.read(descriptor, 65536)
        except OSError:  # Linux: the other side has closed
            return
        if not content:
            return
        yield content
