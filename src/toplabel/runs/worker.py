"""The worker: a process of its own that labels chunks, so that a crash costs the run nothing.

The other end of its socket sends a `Job` and then numbered chunks of entries. It is answered with
`Ready` or `Refused`, then with numbered outcomes, in any order, and with warnings.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from toplabel.runs.entry import Entry
from toplabel.runs.messages import Answer, Message, Ready, Refused, Warned
from toplabel.runs.outcome import label_entries

if TYPE_CHECKING:
    from toplabel.inference.batch import Many
    from toplabel.inference.predictor import Predictor
    from toplabel.runs.worker_spec import Job


class _Replies:
    """The way back, for one thread at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = threading.Lock()

    def send(self, message: Message) -> None:
        with self._turn:
            try:
                self._connection.send(message)
            except OSError:  # the run has ended, or was killed
                os._exit(0)


def main(descriptor: int) -> None:
    """Work until the other end closes; then end at once."""
    os.dup2(2, 1)  # whatever a library prints is no record
    warnings.filterwarnings("ignore", module="PIL")
    connection = Connection(descriptor)
    replies = _Replies(connection)
    try:
        job: Job = connection.recv()
        predictor = job.open(warn=lambda text: replies.send(Warned(text)))
        settings = job.settings
        many = predictor.many(
            top_k=settings.top_k,
            threshold=settings.threshold,
            all_scores=settings.all_scores,
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
