"""Choice: any number of inputs goes in, those whose pictures the page shows come out.

Memory is bounded by the number of pictures and of labels, whatever the number of inputs.
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator

from toplabel.errors import ErrorCode
from toplabel.runs.report.shown import Shown

FAILURE_SHARE = 10  # at most one picture in ten is a failure, while there are labelled ones
LABEL_SHARE = 2  # at most one in two is there for its label; the others are the least certain


class Least:
    """Of all that is added, the `capacity` with the smallest keys; of equal ones the earliest."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._heap: list[tuple[float, int, Shown]] = []  # negated: the largest key is on top

    def add(self, key: float, ordinal: int, shown: Shown) -> None:
        """Take one in, and let the largest go where there are too many."""
        item = (-key, -ordinal, shown)
        if len(self._heap) < self._capacity:
            heapq.heappush(self._heap, item)
        elif self._heap and item[:2] > self._heap[0][:2]:
            heapq.heapreplace(self._heap, item)

    def __iter__(self) -> Iterator[tuple[int, Shown]]:
        """(ordinal, input), smallest key first."""
        for _, ordinal, shown in sorted(self._heap, key=lambda item: item[:2], reverse=True):
            yield -ordinal, shown


class Choice:
    """Chooses at most `max_pictures` of the inputs that are added."""

    def __init__(self, max_pictures: int) -> None:
        self._max_pictures = max_pictures
        self._inputs = 0
        self._by_label: Counter[int] = Counter()
        self._uncertain = Least(max_pictures)
        self._label_uncertain: dict[int, Least] = {}
        self._label_certain: dict[int, Least] = {}
        self._failures = Least(max_pictures)
        self._code_failures: dict[ErrorCode, Least] = {}

    def add(self, shown: Shown) -> None:
        """Consider one input."""
        ordinal = self._inputs
        self._inputs += 1
        if shown.error is not None:
            self._add_failure(shown.error.code, ordinal, shown)
            return
        label = shown.top[0][0]
        self._by_label[label] += 1
        self._uncertain.add(shown.score, ordinal, shown)
        self._label_uncertain.setdefault(label, Least(1)).add(shown.score, ordinal, shown)
        self._label_certain.setdefault(label, Least(1)).add(-shown.score, ordinal, shown)

    def _add_failure(self, code: ErrorCode, ordinal: int, shown: Shown) -> None:
        # By a hash of the name: spread over the inputs, and the same ones in every run.
        key = zlib.crc32(shown.name.encode("utf-8", "surrogatepass"))
        self._failures.add(key, ordinal, shown)
        capacity = max(1, self._max_pictures // FAILURE_SHARE)
        self._code_failures.setdefault(code, Least(capacity)).add(key, ordinal, shown)

    def pictures(self) -> list[Shown]:
        """Those chosen: the labelled ones, least certain first, then the failed ones.

        Failures take up to a tenth of the places, in turns by code. Half of the rest goes to the
        most and the least certain input of each label, frequent labels first; the others are the
        least certain of all. Places that remain go to more failures.
        """
        places = self._max_pictures
        failed: dict[int, Shown] = {}
        _take(failed, in_turns(self._code_failures.values()), -(-places // FAILURE_SHARE))
        labelled: dict[int, Shown] = {}
        places -= len(failed)
        _take(labelled, self._for_labels(), places // LABEL_SHARE)
        _take(labelled, self._uncertain, places)
        _take(failed, self._failures, self._max_pictures - len(labelled))
        by_score = sorted(labelled.items(), key=lambda item: (item[1].score, item[0]))
        return [shown for _, shown in by_score] + [failed[key] for key in sorted(failed)]

    def _for_labels(self) -> Iterator[tuple[int, Shown]]:
        for label, _ in self._by_label.most_common():
            yield from self._label_certain[label]
            yield from self._label_uncertain[label]


def _take(chosen: dict[int, Shown], items: Iterable[tuple[int, Shown]], limit: int) -> None:
    """Add items, none twice, until `limit` are chosen."""
    for ordinal, shown in items:
        if len(chosen) >= limit:
            return
        chosen[ordinal] = shown


def in_turns(groups: Iterable[Iterable[tuple[int, Shown]]]) -> Iterator[tuple[int, Shown]]:
    """The first of each group, the second of each, and so on."""
    waiting = [iter(group) for group in groups]
    while waiting:
        going = []
        for group in waiting:
            if (item := next(group, None)) is not None:
                yield item
                going.append(group)
        waiting = going
