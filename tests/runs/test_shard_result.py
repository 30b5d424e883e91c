"""Results of shards: what was written comes back, and a damaged one is none."""

import json
import zlib

import numpy as np
import pytest

from toplabel.inference.prediction import Candidate, Failure, Prediction
from toplabel.labels.labels import Labels
from toplabel.runs.labelling import Outcome
from toplabel.runs.shard_result import ShardResult, Tally

TOP = tuple(Candidate(f"class {n}", n, 0.5 / (n + 1)) for n in range(5))
OUTCOMES = (
    Outcome(Prediction("a", "class 0", 0, 0.5, TOP, True, (), "m"), 10, 20),
    Outcome(Prediction("b", None, None, None, None, None, (), "m", Failure("empty", "é\n"))),
    Outcome(Prediction("c", "class 2", 2, 0.1, TOP[2:3], True, (), "m"), 30, 2**62),
)


def test_a_result_comes_back() -> None:
    result = ShardResult.from_bytes(ShardResult.of(OUTCOMES, part_bytes=99).to_bytes())
    assert result is not None
    assert len(result) == 3
    assert result.part_bytes == 99
    assert result.indices.tolist() == [[0, 1, 2, 3, 4], [-1] * 5, [2, -1, -1, -1, -1]]
    assert result.scores[0].tolist() == np.float32([0.5, 0.25, 0.5 / 3, 0.125, 0.1]).tolist()
    assert result.unsure.tolist() == [True, False, True]
    assert result.sizes.tolist() == [10, -1, 30]
    assert result.mtimes.tolist() == [20, -1, 2**62]
    assert result.failures == {1: Failure("empty", "é\n")}


def test_a_result_of_three_classes_that_was_written_before_still_counts() -> None:
    content = ShardResult.of(OUTCOMES, part_bytes=99).to_bytes()
    header, _, packed = content.partition(b"\n")
    raw = zlib.decompress(packed)
    of_three = [
        np.frombuffer(raw[start : start + 60], kind).reshape(3, 5)[:, :3].tobytes()
        for start, kind in ((0, "<i4"), (60, "<f4"))
    ]
    known = json.loads(header)
    del known["kept"]
    before = json.dumps(known).encode() + b"\n" + zlib.compress(b"".join([*of_three, raw[120:]]))
    result = ShardResult.from_bytes(before)
    assert result is not None
    assert result.indices.tolist() == [[0, 1, 2, -1, -1], [-1] * 5, [2, -1, -1, -1, -1]]
    assert result.sizes.tolist() == [10, -1, 30]


def independent(*top: Candidate, score: float = 0.5) -> Outcome:
    """What a multi-label model says of an image."""
    best = top[0] if top else Candidate("", -1, score)
    label, index = (best.label, best.index) if top else (None, None)
    prediction = Prediction("a", label, index, best.score, top, not top, (), "m", multi_label=True)
    return Outcome(prediction, 1, 1)


def test_all_classes_that_apply_come_back_and_are_counted() -> None:
    outcomes = (independent(*TOP), independent(), independent(TOP[4]), OUTCOMES[1])
    result = ShardResult.from_bytes(ShardResult.of(outcomes, part_bytes=9).to_bytes())
    assert result is not None
    assert result.classes() == [[0, 1, 2, 3, 4], [], [4], []]
    assert result.scores[1, 0] == 0.5
    tally = Tally(Labels.indices(6))
    tally.add(result)
    assert {one.index: one.count for one in tally.labels} == {0: 1, 1: 1, 2: 1, 3: 1, 4: 2}
    assert (tally.rows, tally.failed, tally.unlabelled) == (4, 1, 1)
    changed = result.replaced({1: independent(*TOP[:4])}, part_bytes=9)
    assert changed.classes()[:2] == [[0, 1, 2, 3, 4], [0, 1, 2, 3]]


def test_a_model_of_exclusive_classes_has_one_class_for_an_image() -> None:
    assert ShardResult.of(OUTCOMES, part_bytes=9).classes() == [[0], [], [2]]


def test_a_result_of_nothing_comes_back() -> None:
    result = ShardResult.from_bytes(ShardResult.of((), part_bytes=0).to_bytes())
    assert result is not None
    assert len(result) == 0


@pytest.mark.parametrize("keep", range(0, 130, 7))
def test_a_result_cut_short_is_none(keep: int) -> None:
    content = ShardResult.of(OUTCOMES, part_bytes=99).to_bytes()
    assert ShardResult.from_bytes(content[: min(keep, len(content) - 1)]) is None


def test_a_result_with_a_flipped_byte_in_its_arrays_is_none() -> None:
    content = bytearray(ShardResult.of(OUTCOMES, part_bytes=99).to_bytes())
    for place in range(content.index(b"\n") + 3, len(content)):
        content[place] ^= 0x55
        assert ShardResult.from_bytes(bytes(content)) is None
        content[place] ^= 0x55
