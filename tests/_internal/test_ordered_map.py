"""Ordered work on threads: order, bounds, early stop."""

import threading
import time

import pytest

from toplabel._internal.ordered_map import batched, ordered_map


def test_chunks_start_with_singles() -> None:
    assert list(batched(range(7), 3, singles=2)) == [[0], [1], [2, 3, 4], [5, 6]]


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_whatever_finishes_first(workers: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3 == 0))
        return number

    assert list(ordered_map(work, range(50), workers=workers)) == list(range(50))


def test_takes_only_a_bounded_number_ahead() -> None:
    taken: list[int] = []
    results = ordered_map(lambda n: n, (taken.append(n) or n for n in range(1000)), workers=2)
    next(results)
    assert len(taken) <= 5


def test_an_error_reaches_the_caller() -> None:
    def work(number: int) -> int:
        raise ZeroDivisionError("at work")

    with pytest.raises(ZeroDivisionError, match="at work"):
        list(ordered_map(work, [1], workers=2))


def test_stopping_early_begins_nothing_new() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        time.sleep(0.01)
        return number

    results = ordered_map(work, range(1000), workers=2)
    next(results)
    results.close()
    time.sleep(0.1)
    assert len(begun) <= 7


def test_works_on_several_at_once() -> None:
    meeting = threading.Barrier(2, timeout=60)
    list(ordered_map(lambda _: meeting.wait(), range(2), workers=2))
