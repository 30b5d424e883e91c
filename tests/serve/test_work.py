"""The queue, the workers and the sharing of an engine, without a server around them."""

import asyncio
import threading
import time
from asyncio import wrap_future
from collections.abc import Callable

import numpy as np
import pytest

from serving import wait_until
from toplabel.errors import EngineError, UsageError
from toplabel.serve.api_error import ApiError
from toplabel.serve.models import BatchingEngine, PiecewiseEngine, split_alias
from toplabel.serve.options import ServeOptions
from toplabel.serve.work import Job, Workers


def jobs_of(*works: Callable[[], object], seconds: float = 60.0) -> list[Job[object]]:
    return [Job(work, deadline=time.monotonic() + seconds) for work in works]


def test_results_come_back_to_the_event_loop_and_errors_too():
    async def run() -> None:
        workers = Workers(1, capacity=8)
        good, bad = jobs_of(lambda: 7, lambda: 1 / 0)
        workers.submit([good, bad])
        assert await wrap_future(good.future) == 7
        with pytest.raises(ZeroDivisionError, match="division"):
            await wrap_future(bad.future)
        (after,) = jobs_of(lambda: 8)  # a worker outlives what its jobs raise
        for _ in range(2):
            workers.submit([after])
            assert await wrap_future(after.future) == 8
            (after,) = jobs_of(lambda: 8)
        workers.close()

    asyncio.run(run())


def test_a_full_queue_takes_all_of_a_request_or_nothing():
    async def run() -> None:
        workers = Workers(1, capacity=3)
        block = threading.Event()
        first = jobs_of(block.wait)
        workers.submit(first)
        while workers.depth:
            await asyncio.sleep(0.001)
        workers.submit(jobs_of(lambda: 1, lambda: 2))
        with pytest.raises(ApiError, match="the queue is full") as caught:
            workers.submit(jobs_of(lambda: 3, lambda: 4))
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "1")
        assert workers.depth == 2
        (last,) = jobs_of(lambda: 5)
        workers.submit([last])
        assert workers.is_full
        block.set()
        assert await wrap_future(last.future) == 5
        workers.close()

    asyncio.run(run())


def test_cancelled_jobs_leave_the_queue_and_are_never_begun():
    async def run() -> None:
        workers = Workers(1, capacity=4)
        block, begun = threading.Event(), []
        (first,) = jobs_of(block.wait)
        workers.submit([first])
        while workers.depth:
            await asyncio.sleep(0.001)
        waiting = jobs_of(lambda: begun.append(1), lambda: begun.append(2))
        workers.submit(waiting)
        workers.cancel(waiting)
        assert workers.depth == 0
        block.set()
        await wrap_future(first.future)
        (last,) = jobs_of(lambda: 1)
        workers.submit([last])
        await wrap_future(last.future)
        assert begun == []
        workers.close()

    asyncio.run(run())


def test_workers_grow_and_then_work_on_more_at_once():
    async def run() -> None:
        workers = Workers(1, capacity=8)
        workers.grow(4)
        together = threading.Barrier(4, timeout=60)
        jobs = jobs_of(*[together.wait] * 4)
        workers.submit(jobs)
        assert sorted(await asyncio.gather(*(wrap_future(job.future) for job in jobs))) == [
            0,
            1,
            2,
            3,
        ]
        workers.close()

    asyncio.run(run())


def test_a_job_whose_time_is_up_before_its_turn_is_not_begun():
    async def run() -> None:
        workers = Workers(1, capacity=4)
        begun: list[int] = []
        (first,) = jobs_of(lambda: time.sleep(0.2))
        (late,) = jobs_of(lambda: begun.append(1), seconds=0.05)
        workers.submit([first, late])
        with pytest.raises(ApiError, match="waited too long"):
            await wrap_future(late.future)
        assert begun == []
        workers.close()

    asyncio.run(run())


class Engine:
    """Answers each image with its own mean; remembers its batches; fails on negative images."""

    name = "torch"
    device = "cuda:0"
    normalises = None

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.calls = threading.Semaphore(0)
        self.active = 0
        self.before_first: Callable[[], object] = lambda: None

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.active += 1
        assert self.active == 1
        self.batches.append(len(batch))
        if len(self.batches) == 1:
            self.before_first()
        time.sleep(0.02)
        self.active -= 1
        if (batch < 0).any():
            raise EngineError("a negative image")
        return batch.mean(axis=(1, 2, 3))[:, None].astype(np.float32)

    def answer(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self(batch), batch.mean(axis=(2, 3))


def ask_all(engine: BatchingEngine, values: list[float]) -> list[float | str]:
    answers: list[float | str] = [0.0] * len(values)

    def ask(place: int) -> None:
        try:
            (row,) = engine(np.full((1, 3, 4, 4), values[place], np.float32))
            answers[place] = float(row[0])
        except EngineError as error:
            answers[place] = str(error)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(values))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_concurrent_calls_share_batches_and_each_gets_its_own_rows():
    inner = Engine()
    engine = BatchingEngine(inner, max_batch=16)
    inner.before_first = lambda: wait_until(lambda: len(engine._waiting) == 39)
    values = [float(n) for n in range(40)]
    assert ask_all(engine, values) == values
    assert sum(inner.batches) == 40
    assert len(inner.batches) < 20
    assert 1 < max(inner.batches) <= 16


def test_calls_with_pixels_and_with_tensors_do_not_share_a_batch():
    inner = Engine()
    engine = BatchingEngine(inner, max_batch=16)
    inner.before_first = lambda: wait_until(lambda: len(engine._waiting) == 7)
    found: dict[int, np.ndarray] = {}

    def ask(n: int) -> None:
        pixels = np.full((1, 4, 4, 3), n, np.uint8)
        found[n] = engine(pixels if n % 2 else pixels.astype(np.float32))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: float(rows[0, 0]) for n, rows in found.items()} == {n: n for n in range(8)}
    assert sorted(inner.batches) == [1, 3, 4]


def test_calls_with_and_without_features_share_batches():
    inner = Engine()
    engine = BatchingEngine(inner, max_batch=16)
    inner.before_first = lambda: wait_until(lambda: len(engine._waiting) == 7)
    found: dict[int, tuple[np.ndarray, ...]] = {}

    def ask(n: int) -> None:
        batch = np.full((1 + n % 2, 3, 4, 4), n, np.float32)
        found[n] = engine.answer(batch) if n % 3 else (engine(batch),)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inner.batches) == 2
    for n, rows in found.items():
        assert [one.shape for one in rows] == [(1 + n % 2, 1), (1 + n % 2, 3)][: len(rows)]
        assert len(rows) == (2 if n % 3 else 1)
        assert all((one == n).all() for one in rows)


def test_a_call_that_fails_fails_alone():
    inner = Engine()
    values = [1.0, 2.0, -1.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    answers = ask_all(BatchingEngine(inner, max_batch=8), values)
    assert answers == [1.0, 2.0, "a negative image", 3.0, 4.0, 5.0, 6.0, 7.0]


def test_a_lone_call_does_not_wait_for_company():
    inner = Engine()
    engine = BatchingEngine(inner, max_batch=8)
    assert ask_all(engine, [5.0]) == [5.0]
    assert inner.batches == [1]


def test_a_large_batch_is_computed_in_pieces():
    inner = Engine()
    engine = PiecewiseEngine(inner, max_batch=2)
    batch = np.arange(5, dtype=np.float32)[:, None, None, None] * np.ones((3, 4, 4), np.float32)
    assert engine(batch).tolist() == [[0], [1], [2], [3], [4]]
    assert inner.batches == [2, 2, 1]
    logits, features = engine.answer(batch[:3])
    assert (logits.shape, features.tolist()) == ((3, 1), [[0] * 3, [1] * 3, [2] * 3])


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_body": 0},
        {"header_timeout": float("nan")},
        {"max_images": -1},
        {"lame_duck": -0.5},
        {"port": -1},
        *({"cors_origins": [one]} for one in ("*", "app.example", "https://app.example/page")),
        {"queue": 1},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, float]):
    with pytest.raises(UsageError, match="expected"):
        ServeOptions(**wrong)  # type: ignore[arg-type]


def test_a_model_may_be_given_a_name():
    assert split_alias("cats=./best.toplabel") == ("cats", "./best.toplabel")
    assert split_alias("resnet50") == (None, "resnet50")
    assert split_alias("a/b=c.toplabel") == (None, "a/b=c.toplabel")
