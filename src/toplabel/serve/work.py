"""Work: a request's images in, a model's answers out, within the request's time.

A bounded queue and a few threads that all requests and models share.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from toplabel.serve.api_error import ApiError, busy

if TYPE_CHECKING:
    from starlette.requests import Request

    from toplabel.serve.metrics import Metrics
    from toplabel.serve.models import Answer, ServedModel
    from toplabel.serve.options import ServeOptions

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
        self.future: Future[Result] = Future()
        self.submitted = time.monotonic()
        self.queue_seconds = 0.0


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
            ApiError: 503, there is no room for them.
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
            del job  # what it holds, an image, is not kept until the next one comes

    def _next(self) -> Job[Any] | None:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            return None if self._closed else self._waiting.popleft()


def _run(job: Job[Any]) -> None:
    if not job.future.set_running_or_notify_cancel():
        return
    now = time.monotonic()
    job.queue_seconds = now - job.submitted
    try:
        if now > job.deadline:
            raise busy("the request waited too long for its turn")
        job.future.set_result(job.work())
    except BaseException as error:
        job.future.set_exception(error)


class ClientGone(Exception):
    """The client has closed the connection before it got its answer."""


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What a request wants to know of each image."""

    top_k: int = 5
    threshold: float | None = None


class Labeller:
    """Has the workers label what requests bring.

    Args:
        workers: All requests and models share them.
        options: How long a request may take.
        metrics: Told of every image.
    """

    def __init__(self, workers: Workers, options: ServeOptions, metrics: Metrics) -> None:
        self._workers = workers
        self._options = options
        self._metrics = metrics

    async def label(
        self,
        request: Request,
        model: ServedModel,
        contents: Sequence[bytes],
        wanted: RequestOptions,
    ) -> tuple[list[Answer], float]:
        """An answer for each image, and the longest wait in the queue, in seconds.

        An image that cannot be labelled has a record with an error.

        Raises:
            ApiError: 503, where the queue is full or the time is up.
            ClientGone: Nobody waits for the answer any more.
        """

        def work_on(content: bytes) -> Callable[[], Answer]:
            return lambda: model.answer(content, top_k=wanted.top_k, threshold=wanted.threshold)

        jobs, answers = await self.run(request, [work_on(content) for content in contents])
        for job, answer in zip(jobs, answers, strict=True):
            self._count(job, answer, model)
        return answers, max(job.queue_seconds for job in jobs)

    async def run(
        self, request: Request, works: Sequence[Callable[[], Result]]
    ) -> tuple[list[Job[Result]], list[Result]]:
        """Results of work that the workers do for a request; all or none.

        Raises:
            ApiError: 503, where the queue is full or the time is up.
            ClientGone: Nobody waits for them any more.
        """
        deadline = request.scope["state"]["deadline"]
        jobs = [Job(work, deadline=deadline) for work in works]
        self._workers.submit(jobs)
        try:
            return jobs, await self._wait(request, jobs, deadline)
        except BaseException:
            self._workers.cancel(jobs)
            raise

    async def _wait(
        self, request: Request, jobs: Sequence[Job[Result]], deadline: float
    ) -> list[Result]:
        results = asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs))
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait(
                (results, gone),
                timeout=max(0.0, deadline - time.monotonic()),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            gone.cancel()
        if results.done():
            return results.result()
        results.cancel()
        if gone.done() and not gone.cancelled():
            raise ClientGone
        seconds = self._options.request_timeout
        raise busy(f"the request was not answered within {seconds:g} seconds")

    def _count(self, job: Job[Answer], answer: Answer, model: ServedModel) -> None:
        stages = self._metrics.stage_seconds
        stages.labels("queue").observe(job.queue_seconds)
        stages.labels("read").observe(answer.read_seconds)
        stages.labels("model").observe(answer.model_seconds)
        error = answer.prediction.error
        outcome = "labelled" if error is None else error.code
        self._metrics.images.labels(model.name, outcome).inc()


async def _disconnected(request: Request) -> None:
    """Ends when the client has gone; its body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def refuse_failed(answer: Answer) -> None:
    """Refuse a request whose one image has no label.

    Raises:
        ApiError: With the image's code and a status of 4xx; 500 or 503 where it is our fault.
    """
    if answer.prediction.error is not None:
        raise ApiError.of_image(answer.prediction.error)
