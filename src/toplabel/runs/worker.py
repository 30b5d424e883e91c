"""The worker: a process of its own that labels batches, so that a crash costs the run nothing.

Through its socket it gets a `WorkerSpec` and then numbered batches of entries. It replies with
`Ready` or `Refused`, then with numbered outcomes in any order, and with what it logs and warns of.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self, TextIO

from toplabel._internal import notices
from toplabel.bundle.bundle import Bundle
from toplabel.bundle.program import Program
from toplabel.errors import ToplabelWarning
from toplabel.inference.batch import Many, Settings
from toplabel.inference.classifier import Classifier
from toplabel.inference.predictor import Predictor
from toplabel.runs.entry import Entry
from toplabel.runs.labelling import Outcome, label_entries


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """A model by its files on this machine, and how to run it. Can be pickled.

    Args:
        manifest: Of the bundle.
        program: The folder of its program.
        settings: Of every prediction.
        threads: Images worked on at once; None: one for each processor.
        batch_size: Images in one call of the engine; None: the engine's default.
    """

    manifest: dict[str, Any]
    program: str
    settings: Settings
    threads: int | None = None
    batch_size: int | None = None

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        settings: Settings,
        *,
        threads: int | None = None,
        batch_size: int | None = None,
    ) -> Self:
        """What a worker needs to label with `bundle`."""
        return cls(
            manifest=bundle.to_manifest(),
            program=os.fspath(bundle.program.path.parent),
            settings=settings,
            threads=threads,
            batch_size=batch_size,
        )

    @property
    def model(self) -> str:
        """The full name of the model."""
        return str(self.manifest["name"])

    def open(self) -> Predictor:
        """The predictor.

        Raises:
            BundleError: The files are gone or damaged.
        """
        bundle = Bundle.from_manifest(self.manifest, Program.read(Path(self.program)))
        return Predictor(
            Classifier.of_bundle(bundle),
            threads=self.threads,
            batch_size=self.batch_size,
            exact=self.settings.exact,
            read=self.settings.read,
            warn=notices.warn,
        )


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine is open: the best size of a batch, and how many batches run at once."""

    batch_size: int
    workers: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The worker cannot work at all."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Noticed:
    """What the worker logged at that level; at 0, what it warned of."""

    text: str
    level: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcomes of the batch of that number."""

    number: int
    outcomes: list[Outcome]


Message = Ready | Refused | Noticed | Answer


class _Replies:
    """Sends messages back, for one thread at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = threading.Lock()

    def send(self, message: Message) -> None:
        with self._turn:
            try:
                self._connection.send(message)
            except OSError:  # the run has ended, or was killed
                os._exit(0)


class _Forward(logging.Handler):
    """Sends what is logged, and what is warned of, to the run."""

    def __init__(self, replies: _Replies) -> None:
        super().__init__()
        self._replies = replies
        self._show = warnings.showwarning
        logger = logging.getLogger("toplabel")
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        warnings.simplefilter("always", ToplabelWarning)
        warnings.showwarning = self._warned

    def emit(self, record: logging.LogRecord) -> None:
        self._replies.send(Noticed(record.getMessage(), record.levelno))

    def _warned(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, ToplabelWarning):
            self._replies.send(Noticed(str(message)))
        else:
            self._show(message, category, filename, lineno, file, line)


def main(descriptor: int) -> None:
    """Work until the other end closes; then exit at once."""
    os.dup2(2, 1)  # whatever a library prints is no record
    warnings.filterwarnings("ignore", module="PIL")
    connection = Connection(descriptor)
    replies = _Replies(connection)
    _Forward(replies)
    try:
        spec: WorkerSpec = connection.recv()
        predictor = spec.open()
        settings = spec.settings
        many = predictor.many(
            top_k=settings.top_k, threshold=settings.threshold, all_scores=settings.all_scores
        )
    except EOFError:
        return
    except Exception as error:
        replies.send(Refused(error))
        return
    replies.send(Ready(many.chunk_size, many.workers))
    _work(connection, replies, predictor, many)


def _work(connection: Connection, replies: _Replies, predictor: Predictor, many: Many) -> None:
    def answer(number: int, entries: Sequence[Entry]) -> None:
        try:
            outcomes = label_entries(entries, many.label, model=predictor.name)
            predictor.pass_warnings_on()
            replies.send(Answer(number, outcomes))
        except BaseException as error:  # also one that is no image's fault: nothing may hang
            print(f"toplabel: worker: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)

    pool = ThreadPoolExecutor(many.workers, thread_name_prefix="toplabel")
    while True:
        try:
            number, entries = connection.recv()
        except (EOFError, OSError):  # the run has ended, or was killed
            os._exit(0)
        pool.submit(answer, number, entries)
