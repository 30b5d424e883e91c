"""Work on many things at once, results in order, memory bounded."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def batched(items: Iterable[Item], size: int, *, singles: int = 0) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one shorter; the first `singles` lists hold one each.

    Starting with single items gives every worker something at once, and the first result early.
    """
    iterator = iter(items)
    for item in itertools.islice(iterator, singles):
        yield [item]
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def ordered_map(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Iterator[Result]:
    """`map(work, items)` on `workers` threads: in order, at most 2 x `workers` items ahead."""
    if workers == 1:
        yield from map(work, items)
        return
    from concurrent.futures import Future, ThreadPoolExecutor  # 10 ms that one image does not need

    executor = ThreadPoolExecutor(workers, thread_name_prefix="toplabel")
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(work, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:  # also when the caller stops early: nothing new is begun, nothing is waited for
        executor.shutdown(wait=False, cancel_futures=True)
