"""Selection: any number of rows goes in; their counts, and those that the page shows, come out.

Memory is bounded by the number of images and of labels, whatever the number of inputs.
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from toplabel.errors import ErrorCode
from toplabel.inference.prediction import Failure

BINS = 20
"""Of the histogram of scores, equally wide, over [0, 1]."""

FAILURE_SHARE = 10  # at most one image in ten is a failure, while there are labelled ones
UNKNOWN_SHARE = 5  # at most one in five is there because it is unknown
LABEL_SHARE = 2  # at most one in two is there for its label; the others are the least certain


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One input of the report.

    Args:
        name: The record's source.
        source: What `toplabel.image.read_image` takes. It may be held until the page is written:
            give a path, a URL or a file object that reads late, not the bytes of a million files.
        top: (class index, score) of up to five classes, best first; () where it failed. The one
            class -1 with the highest score, where no class of a multi-label model applies.
        unsure: Its best score is below the threshold.
        error: Why it has no label; None where it has one.
        unknown: It is unlike everything that the model was trained on.
    """

    name: str
    source: object
    top: tuple[tuple[int, float], ...]
    unsure: bool
    error: Failure | None
    unknown: bool = False

    @property
    def score(self) -> float:
        """Of the best class, in [0, 1]; 0 where there is none."""
        return self.top[0][1] if self.top else 0.0


@dataclass(slots=True)
class Counts:
    """How many inputs there are of each kind.

    `labels` counts by class index; `scores` holds `BINS` counts, of the best scores.
    """

    inputs: int = 0
    unsure: int = 0
    unknown: int = 0
    labels: Counter[int] = field(default_factory=Counter)
    errors: Counter[ErrorCode] = field(default_factory=Counter)
    scores: list[int] = field(default_factory=lambda: [0] * BINS)

    @property
    def failed(self) -> int:
        """Inputs without a label."""
        return self.errors.total()

    def add(self, row: ReportRow) -> None:
        """Count one input."""
        self.inputs += 1
        if row.error is not None:
            self.errors[row.error.code] += 1
            return
        self.unsure += row.unsure
        self.unknown += row.unknown
        self.labels[row.top[0][0]] += 1
        self.scores[min(max(int(row.score * BINS), 0), BINS - 1)] += 1


class Least:
    """Of all that is added, the `capacity` with the smallest keys; of equal ones the earliest."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._heap: list[tuple[float, int, ReportRow]] = []  # negated: the largest key is on top

    def add(self, key: float, ordinal: int, row: ReportRow) -> None:
        """Take one in, and let the largest go where there are too many."""
        item = (-key, -ordinal, row)
        if len(self._heap) < self._capacity:
            heapq.heappush(self._heap, item)
        elif self._heap and item[:2] > self._heap[0][:2]:
            heapq.heapreplace(self._heap, item)

    def __iter__(self) -> Iterator[tuple[int, ReportRow]]:
        """(ordinal, input), smallest key first."""
        for _, ordinal, row in sorted(self._heap, key=lambda item: item[:2], reverse=True):
            yield -ordinal, row


class Selection:
    """Selects at most `max_images` of the inputs that are added."""

    def __init__(self, max_images: int) -> None:
        self._max_images = max_images
        self._inputs = 0
        self._by_label: Counter[int] = Counter()
        self._uncertain = Least(max_images)
        self._label_uncertain: dict[int, Least] = {}
        self._label_certain: dict[int, Least] = {}
        self._failures = Least(max_images)
        self._unknown = Least(max(1, max_images // UNKNOWN_SHARE))
        self._code_failures: dict[ErrorCode, Least] = {}

    def add(self, row: ReportRow) -> None:
        """Consider one input."""
        ordinal = self._inputs
        self._inputs += 1
        if row.error is not None:
            self._add_failure(row.error.code, ordinal, row)
            return
        label = row.top[0][0]
        self._by_label[label] += 1
        if row.unknown:
            self._unknown.add(_spread(row), ordinal, row)
        self._uncertain.add(row.score, ordinal, row)
        self._label_uncertain.setdefault(label, Least(1)).add(row.score, ordinal, row)
        self._label_certain.setdefault(label, Least(1)).add(-row.score, ordinal, row)

    def _add_failure(self, code: ErrorCode, ordinal: int, row: ReportRow) -> None:
        key = _spread(row)
        self._failures.add(key, ordinal, row)
        capacity = max(1, self._max_images // FAILURE_SHARE)
        self._code_failures.setdefault(code, Least(capacity)).add(key, ordinal, row)

    def images(self) -> list[ReportRow]:
        """The selected rows: the labelled ones, least certain first, then the failed ones.

        Failures take up to a tenth of the slots, in turns by code. Unknown images take up to a
        fifth, and with the most and the least certain input of each label, frequent labels first,
        half of the rest; the others are the least certain of all. Slots that remain go to more
        failures.
        """
        slots = self._max_images
        failed: dict[int, ReportRow] = {}
        _take(failed, in_turns(self._code_failures.values()), -(-slots // FAILURE_SHARE))
        labelled: dict[int, ReportRow] = {}
        slots -= len(failed)
        _take(labelled, self._unknown, self._max_images // UNKNOWN_SHARE)
        _take(labelled, self._for_labels(), max(len(labelled), slots // LABEL_SHARE))
        _take(labelled, self._uncertain, slots)
        _take(failed, self._failures, self._max_images - len(labelled))
        by_score = sorted(labelled.items(), key=lambda item: (item[1].score, item[0]))
        return [row for _, row in by_score] + [failed[key] for key in sorted(failed)]

    def _for_labels(self) -> Iterator[tuple[int, ReportRow]]:
        for label, _ in self._by_label.most_common():
            yield from self._label_certain[label]
            yield from self._label_uncertain[label]


def _spread(row: ReportRow) -> int:
    """A hash of the name: spread over the inputs, and the same ones in every run."""
    return zlib.crc32(row.name.encode("utf-8", "surrogatepass"))


def _take(
    selected: dict[int, ReportRow], items: Iterable[tuple[int, ReportRow]], limit: int
) -> None:
    """Add items, none twice, until `limit` are selected."""
    for ordinal, row in items:
        if len(selected) >= limit:
            return
        selected[ordinal] = row


def in_turns(groups: Iterable[Iterable[tuple[int, ReportRow]]]) -> Iterator[tuple[int, ReportRow]]:
    """The first of each group, the second of each, and so on."""
    waiting = [iter(group) for group in groups]
    while waiting:
        going = []
        for group in waiting:
            if (item := next(group, None)) is not None:
                yield item
                going.append(group)
        waiting = going
