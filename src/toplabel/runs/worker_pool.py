"""The worker pool: shards in, their outcomes out, from as many processes as suit the machine.

A labeller in a subprocess outlives the crashes of its worker.
"""

from __future__ import annotations

import contextvars
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from queue import Empty, Queue

from toplabel._internal.notices import warn
from toplabel.errors import EngineError, ErrorCode, ImageError
from toplabel.inference.batch import PredictOptions
from toplabel.inference.predictor import Predictor
from toplabel.runs.labelling import (
    Batch,
    Labeller,
    LocalLabeller,
    OnOutcomes,
    Outcome,
    label_shards,
)
from toplabel.runs.manifest import Shard
from toplabel.runs.worker import Answer, Ready, Refused, WorkerSpec

THREADS_OF_PROCESS = 8
"""More threads in one Python process would wait for its interpreter lock, not for the cores."""

START_SECONDS = 300.0
STALL_SECONDS = 300.0
"""A worker without any reply for so long is ended as if it had crashed."""

logger = logging.getLogger(__name__)

_COMMAND = "from toplabel.runs.worker import main; main({})"

Labelled = tuple[Shard, list[Outcome]]


@contextmanager
def open_pool(predictor: Predictor, settings: PredictOptions) -> Iterator[Sequence[Labeller]]:
    """Worker processes for what ONNX Runtime runs, one for every eight threads.

    PyTorch stays on the threads of this process: a live network cannot be sent elsewhere.
    """
    bundle = predictor.classifier.bundle
    if bundle is None or os.name != "posix" or not sys.executable:
        yield [LocalLabeller(predictor, settings)]
        return
    spec = WorkerSpec(bundle=bundle, settings=settings, batch_size=predictor.batch_size)
    with ExitStack() as stack:
        pool = []
        for threads in share_threads(predictor.threads):
            pool.append(SubprocessLabeller(replace(spec, threads=threads)))
            stack.callback(pool[-1].close)
        yield pool


def share_threads(threads: int) -> list[int]:
    """Threads of each process, about eight: 2 -> [2], 12 -> [6, 6], 64 -> eight times 8."""
    processes = max(1, round(threads / THREADS_OF_PROCESS))
    whole, more = divmod(threads, processes)
    return [whole + (number < more) for number in range(processes)]


def label_with(
    pool: Sequence[Labeller], shards: Iterable[Shard], on_outcomes: OnOutcomes
) -> Iterator[Labelled]:
    """Each shard with its outcomes: in order from one labeller, as they come from several.

    Args:
        pool: Each takes the next shard when it has room for it.
        shards: Taken as they are needed.
        on_outcomes: Called in this thread with the outcomes of each batch.
    """
    if len(pool) == 1:
        return label_shards(pool[0], shards, on_outcomes)
    return _label_together(pool, shards, on_outcomes)


def _label_together(
    pool: Sequence[Labeller], shards: Iterable[Shard], on_outcomes: OnOutcomes
) -> Iterator[Labelled]:
    pending, turn, closed = iter(shards), threading.Lock(), threading.Event()
    found: Queue[Labelled | list[Outcome] | BaseException | None] = Queue(maxsize=4 * len(pool))

    def take() -> Shard | None:
        with turn:
            return None if closed.is_set() else next(pending, None)

    def work(labeller: Labeller) -> None:
        """One labeller's thread: what it labels, and in the end None, or what went wrong."""
        try:
            for labelled in label_shards(
                labeller, iter(take, None), lambda some: found.put(list(some))
            ):
                found.put(labelled)
            found.put(None)
        except BaseException as error:
            found.put(error)

    threads = [  # in this context, so that whoever collects warnings gets those of all threads
        threading.Thread(target=contextvars.copy_context().run, args=(work, one), daemon=True)
        for one in pool
    ]
    for thread in threads:
        thread.start()
    working = len(pool)
    try:
        while working:
            one = found.get()
            if isinstance(one, BaseException):
                raise one
            if one is None:
                working -= 1
            elif isinstance(one, tuple):
                yield one
            else:
                on_outcomes(one)
    finally:  # also when the caller stops early: what is under way is finished and dropped
        closed.set()
        while any(thread.is_alive() for thread in threads):
            with suppress(Empty):
                found.get(timeout=0.05)


class _Died(Exception):
    """The worker ended, or has to be ended, before it replied.

    Args:
        text: What it did, after "the worker".
        consequence: What happened to the image, after "labelling it".
        code: The code of an image that does this alone.
    """

    def __init__(self, text: str, consequence: str, code: ErrorCode) -> None:
        super().__init__(text)
        self.consequence = consequence
        self.code = code

    @classmethod
    def of(cls, status: int) -> _Died:
        """The death of a process that ended with this status."""
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return cls(f"ended with {how}", f"ended the process with {how}, twice", "worker_crash")


class SubprocessLabeller:
    """Labels in a worker process.

    Where the worker dies, what it had not labelled is given to a new one: batch by batch, then
    image by image, so that only the image that kills it fails, with `worker_crash`.

    Args:
        spec: The model, and how to run it.

    Raises:
        EngineError: The worker cannot be started.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._worker = _start(spec)

    @property
    def batch_size(self) -> int:
        """The best number of entries in a batch."""
        return self._worker.ready.batch_size

    def label(self, batches: Iterable[Batch]) -> Iterator[list[Outcome]]:
        """The outcomes of each batch, in order; at most four batches for each thread are ahead."""
        numbered = enumerate(batches)
        window = 4 * self._worker.ready.workers
        sent: dict[int, Batch] = {}
        answered: dict[int, list[Outcome]] = {}
        number = 0
        while True:
            while len(sent) + len(answered) < window and (following := next(numbered, None)):
                sent[following[0]] = following[1]
                self._worker.send(*following)
            if not sent:
                break
            found = self._receive(sent)
            answered |= found
            for one in found:
                del sent[one]
            while number in answered:
                yield answered.pop(number)
                number += 1

    def close(self) -> None:
        """End the worker."""
        self._worker.end()

    def _receive(self, sent: dict[int, Batch]) -> dict[int, list[Outcome]]:
        """One answer by its number; after a crash, those of all batches that were sent."""
        try:
            answer = self._worker.receive()
        except _Died as death:
            logger.warning("a worker %s; labelling its images one by one", death)
            self._restart()
            return {number: self._label_suspect(batch) for number, batch in sent.items()}
        return {answer.number: answer.outcomes}

    def _label_suspect(self, batch: Batch) -> list[Outcome]:
        """The outcomes of a batch that a worker died with; where another does, image by image."""
        try:
            self._worker.send(0, batch)
            return self._worker.receive().outcomes
        except _Died as death:
            self._restart()
            if len(batch) > 1:
                return [self._label_suspect([entry])[0] for entry in batch]
            message = f"reading or labelling it {death.consequence}; check this file by itself"
            return [
                Outcome.failed(
                    batch[0], ImageError(death.code, message), model=self._spec.bundle.name
                )
            ]

    def _restart(self) -> None:
        self._worker.end()
        self._worker = _start(self._spec)


def _start(spec: WorkerSpec) -> _Worker:
    """A worker that is ready; one that dies before that is started once more."""
    with suppress(_Died):
        return _Worker(spec)
    try:
        return _Worker(spec)
    except _Died as death:
        raise EngineError(f"the worker process {death} before it was ready") from death


class _Worker:
    """One worker process, and the connection to it."""

    def __init__(self, spec: WorkerSpec) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND.format(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the run, which ends its workers
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._connection = Connection(ours.detach())
        try:
            with suppress(OSError):  # it is dead; waiting for its reply shows how it died
                self._connection.send(spec)
            ready = self._next(START_SECONDS)
            if isinstance(ready, Refused):
                raise ready.error
            assert isinstance(ready, Ready)
            self.ready = ready
        except BaseException:
            self.end()
            raise

    def send(self, number: int, batch: Batch) -> None:
        """Give it a batch; that it is dead shows when its answer is awaited."""
        with suppress(OSError):
            self._connection.send((number, list(batch)))

    def receive(self) -> Answer:
        """Its next answer.

        Raises:
            _Died: There is none to come.
        """
        answer = self._next(STALL_SECONDS)
        assert isinstance(answer, Answer)
        for text in answer.warnings:
            warn(text)
        return answer

    def end(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _next(self, seconds: float) -> Answer | Ready | Refused:
        """Its next message; what it logs is logged here."""
        try:
            while self._connection.poll(seconds):
                message: Answer | Ready | Refused | logging.LogRecord = self._connection.recv()
                if not isinstance(message, logging.LogRecord):
                    return message
                if logger.isEnabledFor(message.levelno):
                    logger.handle(message)
        except (EOFError, OSError) as error:
            raise _Died.of(self._process.wait()) from error
        raise _Died("did not reply", f"took longer than {seconds:.0f} s", "timeout")
