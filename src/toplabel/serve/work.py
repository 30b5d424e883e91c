"""Work: jobs in from the event loop, results out; a bounded queue and a few threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from toplabel.serve.api_error import busy

Result = TypeVar("Result")


class Job(Generic[Result]):
    """One piece of work, and the place its result comes to.

    Args:
        work: Called in a worker's thread; what it raises comes to the future.
        deadline: By `time.monotonic`; a job that has not begun by then never does.
    """

    def __init__(self, work: Callable[[], Result], *, deadline: float) -> None:
        self.work = work
        self.deadline = deadline
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Result] = self.loop.create_future()
        self.submitted = time.monotonic()
        self.queue_seconds = 0.0

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():  # nobody waits any more
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def finish(self, result: Any, error: BaseException | None) -> None:
        """Hand the result over, from a worker's thread."""
        with suppress(RuntimeError):  # the loop has ended: the server was told to stop at once
            self.loop.call_soon_threadsafe(self._settle, result, error)


class Workers:
    """Threads that work on jobs, in the order of their coming.

    Args:
        threads: How many.
        capacity: Most jobs that wait; those that are being worked on do not count.
    """

    def __init__(self, threads: int, *, capacity: int) -> None:
        self.threads = 0
        self.capacity = capacity
        self._waiting: deque[Job[Any]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.grow(threads)

    def grow(self, threads: int) -> None:
        """Have so many threads, where there are fewer."""
        for number in range(self.threads, threads):
            name = f"toplabel-serve-{number}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        self.threads = max(self.threads, threads)

    @property
    def depth(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether a job would be refused now."""
        return len(self._waiting) >= self.capacity

    def submit(self, jobs: Sequence[Job[Any]]) -> None:
        """Put jobs into the queue: all, or none.

        Raises:
            Refusal: 503, there is no room for them.
        """
        with self._changed:
            if len(self._waiting) + len(jobs) > self.capacity:
                raise busy("the queue is full")
            self._waiting.extend(jobs)
            self._changed.notify(len(jobs))

    def cancel(self, jobs: Sequence[Job[Any]]) -> None:
        """Take jobs out of the queue; those that have begun go on, and nobody hears of them."""
        with self._changed:
            for job in jobs:
                if job in self._waiting:
                    self._waiting.remove(job)
        for job in jobs:
            job.future.cancel()

    def close(self) -> None:
        """Let the threads end after what they are at. What waits is forgotten."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            _run(job)
            del job  # what it holds, a picture, is not kept until the next one comes

    def _next(self) -> Job[Any] | None:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            return None if self._closed else self._waiting.popleft()


def _run(job: Job[Any]) -> None:
    now = time.monotonic()
    job.queue_seconds = now - job.submitted
    if now > job.deadline:
        job.finish(None, busy("the request waited too long for its turn"))
        return
    try:
        result = job.work()
    except BaseException as error:
        job.finish(None, error)
    else:
        job.finish(result, None)
