"""Marks: what is remembered of a shard comes back, and a damaged one is none."""

import numpy as np
import pytest

from toplabel.inference.prediction import Candidate, Failure, Prediction
from toplabel.runs.outcome import Outcome
from toplabel.runs.shard_result import Mark

TOP = tuple(Candidate(f"class {n}", n, 0.5 / (n + 1)) for n in range(5))
OUTCOMES = (
    Outcome(Prediction("a", "class 0", 0, 0.5, TOP, True, (), "m"), 10, 20),
    Outcome(Prediction("b", None, None, None, None, None, (), "m", Failure("empty", "é\n"))),
    Outcome(Prediction("c", "class 2", 2, 0.1, (), True, (), "m"), 30, 2**62),
)


def test_a_mark_comes_back() -> None:
    mark = Mark.from_bytes(Mark.of(OUTCOMES, part_bytes=99).to_bytes())
    assert mark is not None
    assert len(mark) == 3
    assert mark.part_bytes == 99
    assert mark.indices.tolist() == [[0, 1, 2], [-1, -1, -1], [2, -1, -1]]
    assert mark.scores[0].tolist() == np.float32([0.5, 0.25, 0.5 / 3]).tolist()
    assert mark.unsure.tolist() == [True, False, True]
    assert mark.sizes.tolist() == [10, -1, 30]
    assert mark.mtimes.tolist() == [20, -1, 2**62]
    assert mark.failures == {1: Failure("empty", "é\n")}


def test_a_mark_of_nothing_comes_back() -> None:
    mark = Mark.from_bytes(Mark.of((), part_bytes=0).to_bytes())
    assert mark is not None
    assert len(mark) == 0


@pytest.mark.parametrize("keep", range(0, 130, 7))
def test_a_mark_cut_short_is_none(keep: int) -> None:
    content = Mark.of(OUTCOMES, part_bytes=99).to_bytes()
    assert Mark.from_bytes(content[: min(keep, len(content) - 1)]) is None


def test_a_mark_with_a_flipped_byte_in_its_arrays_is_none() -> None:
    content = bytearray(Mark.of(OUTCOMES, part_bytes=99).to_bytes())
    for place in range(content.index(b"\n") + 3, len(content)):
        content[place] ^= 0x55
        assert Mark.from_bytes(bytes(content)) is None
        content[place] ^= 0x55
