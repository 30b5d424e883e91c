"""Work: a request's images in, a model's answers out, within the request's time.

Two bounded queues, each with a few threads, that all requests and models share: one for ordinary
images, the other for what may take long, so that nobody waits behind a bomb.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

from toplabel.image.ordinary import is_ordinary
from toplabel.serve.api_error import ApiError, busy
from toplabel.serve.decoders import Decoders, IsolatedImage

if TYPE_CHECKING:
    from starlette.requests import Request

    from toplabel.preprocess.custom import AnyPreprocess
    from toplabel.serve.metrics import Metrics
    from toplabel.serve.models import Answer, ServedModel
    from toplabel.serve.options import ServeOptions

Result = TypeVar("Result")

Source = bytes | IsolatedImage
"""An image file; never text, which would be a path or a URL to the reader."""

_SOON_SECONDS = 0.25
_GRACE_SECONDS = 0.05

Lane = Literal["ordinary", "heavy"]
"""What surely takes a moment, and what may take long: each has threads and a queue of its own."""


class Job(Generic[Result]):
    """One piece of work, and the place its result comes to.

    Args:
        work: Called in a worker's thread; what it raises comes to the future.
        deadline: By `time.monotonic`; a job that has not begun by then never does.
        lane: Which queue it waits in.
    """

    def __init__(
        self, work: Callable[[], Result], *, deadline: float, lane: Lane = "ordinary"
    ) -> None:
        self.work = work
        self.deadline = deadline
        self.lane = lane
        self.future: Future[Result] = Future()
        self.submitted = time.monotonic()
        self.queue_seconds = 0.0

    @property
    def has_begun(self) -> bool:
        """Whether a worker has taken it."""
        return self.future.running() or self.future.done()


class Workers:
    """Threads that work on jobs; those of a lane in the order of their coming.

    Args:
        threads: How many, for each lane.
        capacity: Most jobs that wait in a lane; those that are being worked on do not count.
    """

    def __init__(self, threads: int, *, capacity: int) -> None:
        self.capacity = capacity
        self._lock = threading.Lock()
        self._lanes: dict[Lane, _Queue] = {lane: _Queue(self._lock) for lane in get_args(Lane)}
        self._closed = False
        for lane in self._lanes:
            self.grow(threads, lane)

    def grow(self, threads: int, lane: Lane = "ordinary") -> None:
        """Have so many threads in a lane, where there are fewer."""
        queue = self._lanes[lane]
        for number in range(queue.threads, threads):
            name = f"toplabel-{lane}-{number}"
            threading.Thread(target=self._work, args=(queue,), name=name, daemon=True).start()
        queue.threads = max(queue.threads, threads)

    @property
    def depth(self) -> int:
        """How many jobs wait."""
        return sum(len(queue.waiting) for queue in self._lanes.values())

    @property
    def is_full(self) -> bool:
        """Whether a job for an ordinary image would be refused now."""
        return len(self._lanes["ordinary"].waiting) >= self.capacity

    def is_stuck(self, seconds: float) -> bool:
        """Whether all threads for ordinary images have been at their job for so long."""
        return self._lanes["ordinary"].is_stuck(time.monotonic() - seconds)

    def submit(self, jobs: Sequence[Job[Any]]) -> None:
        """Put jobs into their queues: all, or none.

        Raises:
            ApiError: 503, there is no room for them.
        """
        with self._lock:
            given = [(q, [j for j in jobs if j.lane == lane]) for lane, q in self._lanes.items()]
            if any(more and len(q.waiting) + len(more) > self.capacity for q, more in given):
                raise busy("the queue is full")
            for queue, more in given:
                queue.waiting.extend(more)
                queue.changed.notify(len(more))

    def cancel(self, jobs: Sequence[Job[Any]]) -> None:
        """Take jobs out of their queue; those that have begun go on, and nobody hears of them."""
        with self._lock:
            for job in jobs:
                waiting = self._lanes[job.lane].waiting
                if job in waiting:
                    waiting.remove(job)
        for job in jobs:
            job.future.cancel()

    def close(self) -> None:
        """Let the threads end after what they are at. What waits is forgotten."""
        with self._lock:
            self._closed = True
            for queue in self._lanes.values():
                queue.waiting.clear()
                queue.changed.notify_all()

    def _work(self, queue: _Queue) -> None:
        me = threading.get_ident()
        while (job := self._next(queue)) is not None:
            queue.began[me] = time.monotonic()
            _run(job)
            del queue.began[me]
            del job  # what it holds, an image, is not kept until the next one comes

    def _next(self, queue: _Queue) -> Job[Any] | None:
        with queue.changed:
            while not queue.waiting and not self._closed:
                queue.changed.wait()
            return None if self._closed else queue.waiting.popleft()


class _Queue:
    """The jobs of one lane that wait, and when its threads began what they are at."""

    def __init__(self, lock: threading.Lock) -> None:
        self.threads = 0
        self.changed = threading.Condition(lock)
        self.waiting: deque[Job[Any]] = deque()
        self.began: dict[int, float] = {}

    def is_stuck(self, since: float) -> bool:
        began = list(self.began.values())
        return len(began) == self.threads and max(began) <= since


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
    """What a request wants to know of each image.

    Args:
        top_k, threshold: As of a prediction.
        exact: By no other way than the exact one.
        reduced: A reduced program may answer, where the server has one.
    """

    top_k: int = 5
    threshold: float | None = None
    exact: bool = False
    reduced: bool = True


class Labeller:
    """Has the workers label what requests bring.

    Args:
        workers: All requests and models share them.
        options: How long a request may take.
        metrics: Told of every image.
        decoders: Read what is no ordinary image; None: the workers themselves do.
    """

    def __init__(
        self,
        workers: Workers,
        options: ServeOptions,
        metrics: Metrics,
        decoders: Decoders | None = None,
    ) -> None:
        self._workers = workers
        self._options = options
        self._metrics = metrics
        self._decoders = decoders

    def check_ready(self) -> None:
        """Refuse where nobody could be answered now.

        Raises:
            ApiError: 503.
        """
        if self._workers.is_full:
            raise busy("the queue is full")
        if self._workers.is_stuck(self._options.request_timeout / 2):
            raise busy("no worker has been free for a long time")

    def source(
        self, request: Request, content: bytes, preprocess: AnyPreprocess | None = None
    ) -> tuple[Source, Lane]:
        """An image file as `read_image` takes it, and where reading it waits for its turn.

        With `preprocess`, one that another process reads gives what the model sees of it alone.
        """
        if is_ordinary(content):
            return content, "ordinary"
        if self._decoders is None:
            return content, "heavy"
        deadline = request.scope["state"]["deadline"]
        return IsolatedImage(content, self._decoders, deadline, preprocess), "heavy"

    async def label(
        self,
        request: Request,
        model: ServedModel,
        contents: Sequence[bytes],
        wanted: RequestOptions,
    ) -> tuple[list[Answer], float]:
        """An answer for each image, and the longest wait in a queue, in seconds.

        An image that cannot be labelled has a record with an error.

        Raises:
            ApiError: 503, where the queue is full or the time is up.
            ClientGone: Nobody waits for the answer any more.
        """

        def work_on(content: bytes) -> tuple[Callable[[], Answer], Lane]:
            preprocess = model.predictor.classifier.preprocess
            source, lane = self.source(request, bytes(content), preprocess)
            wants = partial(
                model.answer,
                top_k=wanted.top_k,
                threshold=wanted.threshold,
                exact=wanted.exact,
                reduced=wanted.reduced,
            )
            return partial(wants, source), lane

        jobs, answers = await self.run(request, [work_on(content) for content in contents])
        for job, answer in zip(jobs, answers, strict=True):
            self._count(job, answer, model)
        return answers, max(job.queue_seconds for job in jobs)

    async def run(
        self, request: Request, works: Sequence[tuple[Callable[[], Result], Lane]]
    ) -> tuple[list[Job[Result]], list[Result]]:
        """Results of work that the workers of its lane do for a request; all or none.

        Raises:
            ApiError: 503, where the queue is full or the time is up.
            ClientGone: Nobody waits for them any more.
        """
        deadline = request.scope["state"]["deadline"]
        jobs = [Job(work, deadline=deadline, lane=lane) for work, lane in works]
        self._workers.submit(jobs)
        try:
            return jobs, await self._wait(request, jobs, deadline)
        except BaseException:
            self._workers.cancel(jobs)
            raise

    async def _wait(
        self, request: Request, jobs: Sequence[Job[Result]], deadline: float
    ) -> list[Result]:
        futures = [asyncio.wrap_future(job.future) for job in jobs]
        results = futures[0] if len(futures) == 1 else asyncio.gather(*futures)
        await _first((results,), min(deadline, time.monotonic() + _SOON_SECONDS))
        if not results.done():
            await self._wait_long(request, jobs, results, deadline)
        results.result()  # raises what the first that failed has raised
        return [future.result() for future in futures]

    async def _wait_long(
        self,
        request: Request,
        jobs: Sequence[Job[Any]],
        results: asyncio.Future[Any],
        deadline: float,
    ) -> None:
        """Wait for results while the client is there and has time.

        Most requests are answered before this is worth its while: watching a client takes a task.

        Raises:
            ApiError: 503, the time is up.
            ClientGone: Nobody waits for them any more.
        """
        gone = asyncio.ensure_future(_disconnected(request))
        half_closed = request.scope["state"]["connection"].half_closed
        try:
            await _first((results, gone, half_closed), deadline)
            if half_closed.done() and not results.done():
                # It may have left: what is at work is ended, but nothing waits for it.
                await _first((results, gone), min(deadline, time.monotonic() + _GRACE_SECONDS))
                if any(not job.has_begun for job in jobs):
                    raise busy("there is no worker for a client that sends no more")
                await _first((results, gone), deadline)
        finally:
            gone.cancel()
        if results.done():
            return
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
        if model.reduced is not None and error is None:
            self._metrics.count_reduced(model.name, answer.prediction)
        if answer.prediction.unknown is not None and model.last_hour is not None:
            self._metrics.unknown.labels(model.name).inc(answer.prediction.unknown)
            model.last_hour.add(answer.prediction.unknown)


async def _first(futures: Sequence[asyncio.Future[Any]], deadline: float) -> None:
    seconds = max(0.0, deadline - time.monotonic())
    await asyncio.wait(futures, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


async def _disconnected(request: Request) -> None:
    """Ends when the client has gone; its body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


_DAMAGED = ("corrupt", "truncated", "not_an_image", "empty")
_STRIPPED = "; curl -d takes line ends out of a file: use --data-binary @FILE, or -F file=@FILE"


def refuse_failed(answer: Answer, request: Request) -> None:
    """Refuse a request whose one image has no label.

    Raises:
        ApiError: With the image's code and a status of 4xx; 500 or 503 where it is our fault.
    """
    error = answer.prediction.error
    if error is None:
        return
    kind = request.headers.get("content-type", "")
    if kind.startswith("application/x-www-form-urlencoded") and error.code in _DAMAGED:
        error = replace(error, message=error.message + _STRIPPED)
    raise ApiError.of_image(error)
