"""The worker: a process of its own that labels batches, so that a crash costs the run nothing.

Through its socket it gets a `WorkerSpec` and then numbered batches of entries. It replies with
`Ready` or `Refused`, then with answers in any order; in between with what it logs.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection

from toplabel._internal import notices
from toplabel._internal.notices import Notice
from toplabel.bundle.bundle import Bundle
from toplabel.bundle.program import Program
from toplabel.errors import RunError
from toplabel.inference.batch import BatchLabeller, PredictOptions
from toplabel.inference.classifier import Classifier, Lazy
from toplabel.inference.engines import ProgramEngine
from toplabel.inference.predictor import Predictor
from toplabel.models.open import NetworkSource
from toplabel.runs.entry import Entry
from toplabel.runs.labelling import Outcome, label_entries


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """A model whose files are on this machine, and how to run it. Can be pickled.

    Args:
        bundle: The model.
        engine: What runs its program.
        settings: Of every prediction.
        threads: Images worked on at once; None: one for each processor.
        batch_size: Images in one call of the engine; None: the engine's default.
        network: Loads the bundle's network, for a GPU; None: it stays on the CPU.
        gpu: Which one it takes, "cuda:0", if PyTorch can use it.
    """

    bundle: Bundle
    settings: PredictOptions
    engine: ProgramEngine = "onnxruntime"
    threads: int | None = None
    batch_size: int | None = None
    network: NetworkSource | None = None
    gpu: str = ""

    def open(self) -> tuple[Predictor, BatchLabeller]:
        """The predictor, and what labels with it.

        Raises:
            RunError: The files are gone.
            ToplabelError: They are damaged, or cannot be run here.
        """
        folder, settings = self.bundle.program.path.parent, self.settings
        try:
            bundle = replace(self.bundle, program=Program.read(folder))
            predictor = Predictor(
                self._classifier(bundle),
                threads=self.threads,
                batch_size=self.batch_size,
                exact=settings.exact,
                read=settings.read,
            )
            return predictor, predictor.batch_labeller(
                top_k=settings.top_k,
                threshold=settings.threshold,
                fast=settings.fast,
                all_scores=settings.all_scores,
                keep_features=settings.keep_features,
                many=bool(self.gpu),
            )
        except Exception as error:
            if folder.exists():
                raise
            raise RunError("the cache was cleared meanwhile; run the same command again") from error

    def _classifier(self, bundle: Bundle) -> Classifier:
        classifier = Classifier.of_bundle(bundle, engine=self.engine)
        if self.network is None:
            return classifier
        return replace(classifier, lazy_module=Lazy(self.network), gpu=self.gpu)


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine is open, and where; the best size of a batch, and how many run at once."""

    batch_size: int
    workers: int
    device: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The worker cannot work at all."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcomes of the batch of that number, and what was warned of meanwhile."""

    number: int
    outcomes: list[Outcome]
    warnings: Sequence[Notice]


class _Replies:
    """Sends messages back, for one thread at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = threading.Lock()

    def send(self, message: Ready | Refused | Answer | logging.LogRecord) -> None:
        with self._turn:
            try:
                self._connection.send(message)
            except OSError:  # the run has ended, or was killed
                os._exit(0)

    put_nowait = send  # what a `QueueHandler` calls


def main(descriptor: int) -> None:
    """Work until the other end closes; then exit at once."""
    os.dup2(2, 1)  # whatever a library prints is no record
    notices.show_warnings(None)  # the run gives them
    connection = Connection(descriptor)
    replies = _Replies(connection)
    logger = logging.getLogger("toplabel")
    logger.addHandler(QueueHandler(replies))  # type: ignore[arg-type]
    logger.setLevel(logging.INFO)
    try:
        spec: WorkerSpec = connection.recv()
        predictor, labeller = spec.open()
    except EOFError:
        return
    except Exception as error:
        replies.send(Refused(error))
        return
    replies.send(Ready(labeller.batch_size, labeller.workers, labeller.device))
    _work(connection, replies, predictor, labeller)


def _work(
    connection: Connection, replies: _Replies, predictor: Predictor, labeller: BatchLabeller
) -> None:
    def answer(number: int, entries: Sequence[Entry]) -> None:
        try:
            with notices.collect_warnings() as noticed:
                outcomes = label_entries(entries, labeller.label, model=predictor.name)
                predictor.report_warnings()
            replies.send(Answer(number, outcomes, noticed))
        except BaseException as error:  # also one that is no image's fault: nothing may hang
            print(f"toplabel: worker: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)

    pool = ThreadPoolExecutor(labeller.workers, thread_name_prefix="toplabel")
    while True:
        try:
            number, entries = connection.recv()
        except (EOFError, OSError):  # the run has ended, or was killed
            os._exit(0)
        pool.submit(answer, number, entries)
