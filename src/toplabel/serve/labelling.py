"""Labelling: a request's pictures in, a model's answers out, within the request's time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from toplabel.serve.api_error import Refusal, busy
from toplabel.serve.work import Job, Workers

if TYPE_CHECKING:
    from starlette.requests import Request

    from toplabel.serve.limits import Limits
    from toplabel.serve.metrics import Metrics
    from toplabel.serve.models import Answer, ServedModel

Result = TypeVar("Result")


class ClientGone(Exception):
    """The client has closed the connection before it got its answer."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request wants to know of each picture."""

    top_k: int = 5
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A request's answers, in the order of its pictures, and where the time went, in seconds."""

    answers: tuple[Answer, ...]
    queue_seconds: float

    @property
    def read_seconds(self) -> float:
        """For reading and preparing, all pictures together."""
        return sum(answer.read_seconds for answer in self.answers)

    @property
    def model_seconds(self) -> float:
        """For the engine, all pictures together."""
        return sum(answer.model_seconds for answer in self.answers)


class Labelling:
    """Has the workers label what requests bring.

    Args:
        workers: All requests and models share them.
        limits: How long a request may take.
        metrics: Told of every image.
    """

    def __init__(self, workers: Workers, limits: Limits, metrics: Metrics) -> None:
        self._workers = workers
        self._limits = limits
        self._metrics = metrics

    async def label(
        self, request: Request, model: ServedModel, contents: Sequence[bytes], wish: Wish
    ) -> Labelled:
        """An answer for each picture; one that cannot be labelled has a record with an error.

        Raises:
            Refusal: 503, where the queue is full or the time is up.
            ClientGone: Nobody waits for the answer any more.
        """

        def work_on(content: bytes) -> Callable[[], Answer]:
            return lambda: model.answer(content, top_k=wish.top_k, threshold=wish.threshold)

        jobs, answers = await self.run(request, [work_on(content) for content in contents])
        for job, answer in zip(jobs, answers, strict=True):
            self._count(job, answer, model)
        return Labelled(
            answers=tuple(answers), queue_seconds=max(job.queue_seconds for job in jobs)
        )

    async def run(
        self, request: Request, works: Sequence[Callable[[], Result]]
    ) -> tuple[list[Job[Result]], list[Result]]:
        """Results of work that the workers do for a request; all or none.

        Raises:
            Refusal: 503, where the queue is full or the time is up.
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
        results = asyncio.gather(*(job.future for job in jobs))
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
        seconds = self._limits.request_seconds
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
    """Refuse a request whose one picture has no label.

    Raises:
        Refusal: With the picture's code and a status of 4xx; 500 or 503 where it is our fault.
    """
    if answer.prediction.error is not None:
        raise Refusal.of_image(answer.prediction.error)
