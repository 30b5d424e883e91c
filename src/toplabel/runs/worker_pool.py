"""The crew: as many labellers as the machine deserves. Shards in, their outcomes out."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from queue import Empty, Queue

from toplabel.inference.batch import Settings
from toplabel.inference.predictor import Predictor
from toplabel.runs.labelling import Labeller, LocalLabeller, Seen, label_shards
from toplabel.runs.manifest import Shard
from toplabel.runs.outcome import Outcome
from toplabel.runs.subprocess_labeller import IsolatedLabeller
from toplabel.runs.worker_spec import Job

THREADS_OF_PROCESS = 8
"""More threads in one Python process would wait for its interpreter lock, not for the cores."""

Labelled = tuple[Shard, list[Outcome]]


@contextmanager
def open_crew(
    predictor: Predictor, settings: Settings, notify: Callable[[str], None]
) -> Iterator[Sequence[Labeller]]:
    """Worker processes for what ONNX Runtime runs, one for every eight threads.

    PyTorch stays on the threads of this process: a live network cannot be sent elsewhere.
    """
    bundle = predictor.classifier.bundle
    if bundle is None or os.name != "posix" or not sys.executable:
        yield [LocalLabeller(predictor, settings)]
        return
    job = Job.of(bundle, settings, batch_size=predictor.batch_size)
    with ExitStack() as stack:
        crew = []
        for threads in share_threads(predictor.threads):
            crew.append(IsolatedLabeller(replace(job, threads=threads), notify=notify))
            stack.callback(crew[-1].close)
        yield crew


def share_threads(threads: int) -> list[int]:
    """Threads of each process, about eight: 2 -> [2], 12 -> [6, 6], 64 -> eight times 8."""
    processes = max(1, round(threads / THREADS_OF_PROCESS))
    whole, more = divmod(threads, processes)
    return [whole + (place < more) for place in range(processes)]


def label_with(crew: Sequence[Labeller], shards: Iterable[Shard], seen: Seen) -> Iterator[Labelled]:
    """Each shard with its outcomes: in order by one labeller, as they come by several.

    Args:
        crew: Each takes the next shard when it has room for it.
        shards: Taken as they are needed.
        seen: Called in this thread with the outcomes of each chunk.
    """
    if len(crew) == 1:
        return label_shards(crew[0], shards, seen)
    return _label_together(crew, shards, seen)


def _label_together(
    crew: Sequence[Labeller], shards: Iterable[Shard], seen: Seen
) -> Iterator[Labelled]:
    pending = _Shared(iter(shards))
    found: Queue[Labelled | list[Outcome] | BaseException | None] = Queue(maxsize=4 * len(crew))
    threads = [
        threading.Thread(target=_work, args=(labeller, pending, found), daemon=True)
        for labeller in crew
    ]
    for thread in threads:
        thread.start()
    working = len(crew)
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
                seen(one)
    finally:  # also when the caller stops early: what is under way is finished and dropped
        pending.close()
        while any(thread.is_alive() for thread in threads):
            with suppress(Empty):
                found.get(timeout=0.05)


def _work(
    labeller: Labeller,
    pending: _Shared,
    found: Queue[Labelled | list[Outcome] | BaseException | None],
) -> None:
    """One labeller's thread: what it labels, and in the end None, or what went wrong."""
    try:
        for labelled in label_shards(labeller, pending, lambda some: found.put(list(some))):
            found.put(labelled)
        found.put(None)
    except BaseException as error:
        found.put(error)


class _Shared:
    """Shards that several threads take from, until it is closed."""

    def __init__(self, shards: Iterator[Shard]) -> None:
        self._shards = shards
        self._turn = threading.Lock()
        self._closed = False

    def __iter__(self) -> Iterator[Shard]:
        return self

    def __next__(self) -> Shard:
        with self._turn:
            if self._closed:
                raise StopIteration
            return next(self._shards)

    def close(self) -> None:
        """Give no more."""
        with self._turn:
            self._closed = True
