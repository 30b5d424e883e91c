"""A lock that tells how often it was asked for, so that a test can wait until a thread waits."""

import threading
from typing import Any


class WatchedLock:
    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self._asked = threading.Semaphore(0)

    def wait_until_asked(self, times: int) -> None:
        """Wait until it was asked for so many times more; an error after a minute."""
        for _ in range(times):
            assert self._asked.acquire(timeout=60)

    def __enter__(self) -> None:
        self._asked.release()
        self.lock.acquire()

    def __exit__(self, *error: object) -> None:
        self.lock.release()
