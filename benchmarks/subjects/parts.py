"""What one part of 10,240 records costs the run, step by step; and one name in a comparison.

python parts.py FOLDER
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from toplabel.inference.prediction import Candidate, Prediction
from toplabel.labels.labels import Labels
from toplabel.runs.entry import Entry
from toplabel.runs.formats import load_format
from toplabel.runs.labelling import Outcome
from toplabel.runs.manifest import LARGEST_SHARD, Shard, find_additions
from toplabel.runs.shard_result import FinishedShard, commit, read_results
from toplabel.runs.state import Output, open_state

folder = Path(sys.argv[1])
ROWS, SHARDS = LARGEST_SHARD, 10
chance = np.random.default_rng(0)
labels = Labels(tuple(f"a class called {n}" for n in range(1000)))


def outcome(entry: Entry) -> Outcome:
    top = tuple(
        Candidate(labels[int(i)], int(i), float(s))
        for i, s in zip(chance.integers(0, 1000, 5), chance.random(5), strict=True)
    )
    best = top[0]
    prediction = Prediction(
        entry.name, best.label, best.index, best.score, top, False, (), "a/model@01234567"
    )
    return Outcome(prediction, 100_000, 1_700_000_000_000_000_000)


def timed(work: Callable[[], object]) -> tuple[float, object]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


names = [f"photos/2024/{n // 1000:05d}/{n:09d}.jpg" for n in range(ROWS * SHARDS)]
said: dict[str, float] = {}
encoding = load_format("parquet")
with open_state(Output.of(folder / "out"), {}) as state:
    entries = [Entry(name) for name in names]
    state.list_inputs(entries, shard_size=ROWS)
    said["manifest bytes of an input"] = (folder / "out/_toplabel/inputs/000.jsonl").stat().st_size
    said["manifest bytes of an input"] /= len(names)
    steps: dict[str, list[float]] = {}
    for number in range(SHARDS):
        seconds, found = timed(lambda n=number: list(state.manifest.read_shards([n])))
        steps.setdefault("read a shard's entries", []).append(seconds)
        (shard,) = found
        assert isinstance(shard, Shard)
        outcomes = [outcome(entry) for entry in shard.entries]
        seconds, finished = timed(
            lambda s=shard, o=outcomes: FinishedShard.of(s, o, encoding, all_scores=False)
        )
        steps.setdefault("encode a part and its mark", []).append(seconds)
        assert isinstance(finished, FinishedShard)
        seconds, _ = timed(lambda f=finished: commit(state, f))
        steps.setdefault("write, fsync, rename, mark", []).append(seconds)
        said["part bytes"] = len(finished.part)
        said["mark bytes"] = state.result(number).stat().st_size
    seconds, _ = timed(lambda: list(read_results(state)))
    steps["look back at a mark"] = [seconds / SHARDS]
    listed = folder / "listed"
    listed.write_bytes(b"".join(f"{e.to_line()}\n".encode() for e in [*entries, Entry("new.jpg")]))
    seconds, _ = timed(lambda: find_additions(state.manifest.lines(), listed, folder))
    said["names compared in a second"] = len(names) / seconds
print(json.dumps({"steps": {n: float(np.median(s)) for n, s in steps.items()}, **said}))
