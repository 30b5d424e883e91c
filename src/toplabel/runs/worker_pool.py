"""The worker pool: batches in, their outcomes out in order, from processes that may crash."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import wait
from time import monotonic

from toplabel._internal.child import can_start, start_child
from toplabel._internal.notices import warn
from toplabel._internal.platform import gpu_count
from toplabel.errors import EngineError, ErrorCode, ImageError
from toplabel.inference.batch import PredictOptions
from toplabel.inference.classifier import Classifier
from toplabel.inference.predictor import FEW_IMAGES, Predictor
from toplabel.models.open import NetworkSource
from toplabel.runs.labelling import Batch, Labeller, LocalLabeller, Outcome
from toplabel.runs.worker import Answer, Ready, Refused, WorkerSpec

THREADS_OF_PROCESS = 8
"""More threads in one Python process would wait for its interpreter lock, not for the cores."""

START_SECONDS = 300.0
STALL_SECONDS = 300.0
"""A worker without any reply for so long is ended as if it had crashed."""

logger = logging.getLogger(__name__)


@contextmanager
def open_labeller(
    predictor: Predictor, settings: PredictOptions, *, count: int
) -> Iterator[Labeller]:
    """Worker processes for a compiled model, one for every eight threads.

    They run its program, or on a GPU its network, which each loads again. What exists only in this
    process, a live network or preprocessing of the user's, stays on its threads.

    Args:
        predictor: The model.
        settings: Of every prediction.
        count: How many images the run has; few stay on the CPU.
    """
    classifier, many = predictor.classifier, count > FEW_IMAGES
    bundle = classifier.bundle
    gpus = gpu_count() if many and classifier.gpu else 0
    network = _network_of(classifier) if gpus else None
    if bundle is None or not can_start() or (gpus and network is None):
        yield LocalLabeller(predictor, settings, many=many)
        return
    spec = WorkerSpec(
        bundle=bundle,
        settings=settings,
        engine=classifier.program_engine,
        batch_size=predictor.batch_size,
        network=network,
    )
    workers = share_work(spec, predictor.threads, gpus=gpus)
    with closing(SubprocessLabeller(workers)) as labeller:
        yield labeller


def _network_of(classifier: Classifier) -> NetworkSource | None:
    """Its network, where another process can load that, too."""
    load = None if classifier.lazy_module is None else classifier.lazy_module.load
    return load if isinstance(load, NetworkSource) and load.is_plain else None


def share_work(spec: WorkerSpec, threads: int, *, gpus: int = 0) -> list[WorkerSpec]:
    """What each worker process is: its threads, and which of the GPUs it takes, in turns."""
    shares = share_threads(threads, least=gpus)
    return [
        replace(spec, threads=share, gpu=f"cuda:{number % gpus}" if gpus else "")
        for number, share in enumerate(shares)
    ]


def share_threads(threads: int, *, least: int = 1) -> list[int]:
    """Threads of each process, about eight: 2 -> [2], 12 -> [6, 6], 64 -> eight times 8.

    Args:
        threads: Of all.
        least: So many processes where there are threads for them: one for each GPU.
    """
    processes = max(1, round(threads / THREADS_OF_PROCESS), min(least, threads))
    whole, more = divmod(threads, processes)
    return [whole + (number < more) for number in range(processes)]


class SubprocessLabeller:
    """Labels in worker processes.

    Where a worker dies, what it had not labelled is given to a new one: batch by batch, then
    image by image, so that only the image that kills it fails, with `worker_crash`.

    Args:
        specs: Of each worker: the same model, and how to run it.

    Raises:
        EngineError: A worker cannot be started.
    """

    def __init__(self, specs: Sequence[WorkerSpec]) -> None:
        self._model = specs[0].bundle.name
        self._workers: list[_Worker] = []
        with ThreadPoolExecutor(len(specs)) as pool:  # to load a network takes seconds
            told = set[str]()  # what each says at its start is said once
            starting = [pool.submit(_Worker, spec, told) for spec in specs]
        try:
            for one in starting:
                self._workers.append(one.result())
        except BaseException:
            self._workers = [one.result() for one in starting if one.exception() is None]
            self.close()
            raise
        devices = sorted({worker.ready.device for worker in self._workers})
        if devices != ["cpu"]:
            logger.info("%s is labelled on %s", self._model, ", ".join(devices))

    @property
    def batch_size(self) -> int:
        """The best number of entries in a batch."""
        return self._workers[0].ready.batch_size

    @property
    def noticed(self) -> Sequence[str]:
        """What the outputs of the first images looked like, by now."""
        return [text for worker in self._workers for text in worker.noticed]

    def label(self, batches: Iterable[Batch]) -> Iterator[list[Outcome]]:
        """The outcomes of each batch, in order; at most four batches for each thread are ahead."""
        numbered = enumerate(batches)
        answered: dict[int, list[Outcome]] = {}
        number = 0
        window = sum(worker.window for worker in self._workers)
        while True:
            while len(answered) + sum(len(worker.sent) for worker in self._workers) < window:
                if (following := next(numbered, None)) is None:
                    break
                roomiest = min(self._workers, key=lambda worker: len(worker.sent) - worker.window)
                roomiest.send(*following)
            busy = [worker for worker in self._workers if worker.sent]
            if not busy:
                break
            answered |= self._receive(busy)
            while number in answered:
                yield answered.pop(number)
                number += 1
                for worker in busy:  # nobody waited for them meanwhile
                    worker.heard_at = monotonic()

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.end()

    def _receive(self, busy: Sequence[_Worker]) -> dict[int, list[Outcome]]:
        """Outcomes by the numbers of their batches; of a worker that died, those of all it had."""
        stalled_at = min(worker.heard_at for worker in busy) + STALL_SECONDS
        readable = wait([worker.connection for worker in busy], max(0, stalled_at - monotonic()))
        found: dict[int, list[Outcome]] = {}
        for worker in busy:
            try:
                if worker.connection in readable:
                    answer = worker.receive()
                    if isinstance(answer, Answer):
                        found[answer.number] = answer.outcomes
                        del worker.sent[answer.number]
                elif (
                    monotonic() >= worker.heard_at + STALL_SECONDS
                    and not worker.connection.poll()  # nothing came while another was attended to
                ):
                    raise _Died.stalled(STALL_SECONDS)
            except _Died as death:
                logger.warning("a worker %s; labelling its images one by one", death)
                suspects, worker.sent = worker.sent, {}
                worker.restart()
                found |= {n: self._label_suspect(worker, batch) for n, batch in suspects.items()}
        return found

    def _label_suspect(self, worker: _Worker, batch: Batch) -> list[Outcome]:
        """The outcomes of a batch that a worker died with; where it does again, of each image."""
        try:
            return worker.ask(batch)
        except _Died as death:
            worker.restart()
            if len(batch) > 1:
                return [self._label_suspect(worker, [entry])[0] for entry in batch]
            message = f"reading or labelling it {death.consequence}; check this file by itself"
            return [Outcome.failed(batch[0], ImageError(death.code, message), model=self._model)]


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

    @classmethod
    def stalled(cls, seconds: float) -> _Died:
        """The end of a process that did not reply for so long."""
        return cls("did not reply", f"took longer than {seconds:.0f} s", "timeout")


class _Worker:
    """One worker process, the connection to it, and the batches that it has not answered.

    Args:
        spec: The model, and how to run it.
        told: What was logged at the start of workers, which is not logged again.
    """

    def __init__(self, spec: WorkerSpec, told: set[str]) -> None:
        self._spec = spec
        self._told = told
        self._starting = True
        self.sent: dict[int, Batch] = {}
        self.noticed: dict[str, None] = {}  # in the order of its coming
        self._start_or_retry()

    @property
    def window(self) -> int:
        """How many batches it may have."""
        return 4 * self.ready.workers

    def send(self, number: int, batch: Batch) -> None:
        """Give it a batch; that it is dead shows when its answer is awaited."""
        if not self.sent:
            self.heard_at = monotonic()
        self.sent[number] = batch
        with suppress(OSError):
            self.connection.send((number, list(batch)))

    def ask(self, batch: Batch) -> list[Outcome]:
        """The outcomes of a batch, while it has no other.

        Raises:
            _Died: It did not answer.
        """
        with suppress(OSError):
            self.connection.send((0, list(batch)))
        answer = self._next(STALL_SECONDS)
        assert isinstance(answer, Answer)
        return answer.outcomes

    def receive(self) -> Answer | Ready | Refused | None:
        """Its next message, which has to be there; None where that was for the log.

        Raises:
            _Died: It ended.
        """
        try:
            message: Answer | Ready | Refused | logging.LogRecord = self.connection.recv()
        except (EOFError, OSError) as error:
            raise _Died.of(self._process.wait()) from error
        self.heard_at = monotonic()
        if isinstance(message, logging.LogRecord):
            text = message.getMessage()
            is_known = self._starting and text in self._told
            if self._starting:
                self._told.add(text)
            if logger.isEnabledFor(message.levelno) and not is_known:
                logger.handle(message)
            return None
        for notice in message.warnings if isinstance(message, Answer) else ():
            self.noticed |= {notice: None} if notice.about == "outputs" else {}
            warn(notice)
        return message

    def restart(self) -> None:
        """End it, and start another.

        Raises:
            EngineError: That cannot be started.
        """
        self.end()
        self._start_or_retry()

    def end(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self.connection.close()

    def _start_or_retry(self) -> None:
        """Start it; once more where it dies before it is ready."""
        with suppress(_Died):
            return self._start()
        try:
            return self._start()
        except _Died as death:
            raise EngineError(f"the worker process {death} before it was ready") from death

    def _start(self) -> None:
        self._starting = True
        self._process, self.connection = start_child("toplabel.runs.worker")
        try:
            with suppress(OSError):  # it is dead; waiting for its reply shows how it died
                self.connection.send(self._spec)
            ready = self._next(START_SECONDS)
            if isinstance(ready, Refused):
                raise ready.error
            assert isinstance(ready, Ready)
            self.ready, self._starting = ready, False
        except BaseException:
            self.end()
            raise

    def _next(self, seconds: float) -> Answer | Ready | Refused:
        """Its next message that is not for the log."""
        while self.connection.poll(seconds):
            if (message := self.receive()) is not None:
                return message
        raise _Died.stalled(seconds)
