"""Isolated: a labeller whose work is done in another process, and which outlives its crashes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

from toplabel.errors import EngineError, ErrorCode, ImageError
from toplabel.runs.entry import Entry
from toplabel.runs.labelling import Chunk
from toplabel.runs.messages import Answer, Message, Ready, Refused, Warned
from toplabel.runs.outcome import Outcome, failed
from toplabel.runs.worker_spec import Job

_COMMAND = "from toplabel.runs.worker import main; main({})"
START_SECONDS = 300.0
STALL_SECONDS = 300.0
"""A worker that answers nothing for so long is ended as if it had crashed."""


class _Died(Exception):
    """The worker ended, or has to be ended, before it answered.

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


class IsolatedLabeller:
    """Labels in a worker process.

    Where the worker dies, what it had not answered is given to a new one: chunk by chunk, then
    image by image, so that only the image that kills it fails, with `worker_crash`.

    Args:
        job: What the worker is to do.
        notify: Called with one line of text for warnings and crashes.

    Raises:
        EngineError: The worker cannot be started.
    """

    def __init__(self, job: Job, *, notify: Callable[[str], None]) -> None:
        self._job = job
        self._notify = notify
        self._worker = _start(job, notify)

    @property
    def chunk_size(self) -> int:
        """How many entries a chunk has best."""
        return self._worker.ready.chunk_size

    def label(self, chunks: Iterable[Chunk]) -> Iterator[list[Outcome]]:
        """The outcomes of each chunk, in order; at most four chunks for each thread are ahead."""
        numbered = enumerate(chunks)
        window = 4 * self._worker.ready.workers
        sent: dict[int, Chunk] = {}
        answered: dict[int, list[Outcome]] = {}
        place = 0
        while True:
            while len(sent) + len(answered) < window and (following := next(numbered, None)):
                sent[following[0]] = following[1]
                self._worker.send(*following)
            if not sent:
                break
            found = self._receive(sent)
            answered |= found
            for number in found:
                del sent[number]
            while place in answered:
                yield answered.pop(place)
                place += 1

    def close(self) -> None:
        """End the worker."""
        self._worker.end()

    def _receive(self, sent: dict[int, Chunk]) -> dict[int, list[Outcome]]:
        """One answer by its number; after a crash, those of all chunks that were sent."""
        try:
            answer = self._worker.receive()
        except _Died as death:
            self._notify(f"a worker {death}; labelling what it had one by one")
            self._restart()
            return {number: self._label_suspect(chunk) for number, chunk in sent.items()}
        return {answer.number: answer.outcomes}

    def _label_suspect(self, chunk: Chunk) -> list[Outcome]:
        """The outcomes of a chunk that a worker died with; where another does, image by image."""
        try:
            self._worker.send(0, chunk)
            return self._worker.receive().outcomes
        except _Died as death:
            self._restart()
            if len(chunk) > 1:
                return [self._label_suspect([entry])[0] for entry in chunk]
            message = f"reading or labelling it {death.consequence}; look at this file by itself"
            return [failed(chunk[0], ImageError(death.code, message), model=self._job.model)]

    def _restart(self) -> None:
        self._worker.end()
        self._worker = _start(self._job, self._notify)


def _start(job: Job, notify: Callable[[str], None]) -> _Worker:
    """A worker that is ready; one that something ends before that is started once again."""
    try:
        return _Worker(job, notify)
    except _Died:
        pass
    try:
        return _Worker(job, notify)
    except _Died as death:
        raise EngineError(f"the process that labels {death} before it began") from death


class _Worker:
    """One worker process, and the connection to it."""

    def __init__(self, job: Job, notify: Callable[[str], None]) -> None:
        self._notify = notify
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
            with suppress(OSError):  # it is dead; waiting for its answer shows how it died
                self._connection.send(job)
            self.ready = self._start()
        except BaseException:
            self.end()
            raise

    def send(self, number: int, chunk: Sequence[Entry]) -> None:
        """Give it a chunk; a dead one is noticed when its answer is awaited."""
        with suppress(OSError):
            self._connection.send((number, list(chunk)))

    def receive(self) -> Answer:
        """Its next answer.

        Raises:
            _Died: There is none to come.
        """
        while True:
            message = self._next(STALL_SECONDS)
            if isinstance(message, Answer):
                return message
            if isinstance(message, Warned):
                self._notify(f"warning: {message.text}")

    def end(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _start(self) -> Ready:
        message = self._next(START_SECONDS)
        if isinstance(message, Refused):
            raise message.error
        assert isinstance(message, Ready)
        return message

    def _next(self, seconds: float) -> Message:
        try:
            if self._connection.poll(seconds):
                message: Message = self._connection.recv()
                return message
        except (EOFError, OSError) as error:
            raise _Died.of(self._process.wait()) from error
        raise _Died("gave no answer", f"took longer than {seconds:.0f} s", "timeout")
