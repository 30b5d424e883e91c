"""Hostile files through every command: a record each, whatever decoders do; the rest goes on."""

import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from run_material import (
    as_arguments,
    colour_bytes,
    draw_colours,
    local_predictor,
    read_jsonl,
    save_model,
)
from toplabel.analysis.compare import compare
from toplabel.analysis.data.dataset import Dataset
from toplabel.analysis.doctor.search import read_images
from toplabel.analysis.evaluate.evaluation import evaluate
from toplabel.analysis.explain.explain import explain
from toplabel.errors import ERROR_CODES, ImageError, UsageError

NULL_HEIGHT = (
    b"\xff\xd8\xff\xc0\0\x11\x08\0\0\0\x10\x03\1\x22\0\2\x11\1\3\x11\1"
    b"\xff\xda\0\x08\1\1\0\0\x3f\0\xff\xd9"
)


class Panic(BaseException):
    """As what a decoder in Rust raises is no `Exception`."""


class Failing(io.BytesIO):
    """A file that raises when it is read."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def read(self, *_: object) -> bytes:
        raise self.error


BAD: list[Any] = [
    NULL_HEIGHT,
    *map(Failing, (RuntimeError("nobody knows"), KeyError(7), StopIteration(), Panic("in Rust"))),
    *map(Failing, (RecursionError("deep"), AssertionError(), StopAsyncIteration(), MemoryError())),
    object(),
    "no such file.png",
]


def test_a_list_and_every_command_go_on_after_any_failure() -> None:
    good = colour_bytes(2)
    sources = [good, *(one for bad in BAD for one in (bad, good))]
    predictor = local_predictor(threads=2)
    found = predictor(sources)
    assert [one.error is None for one in found] == [True, *[False, True] * len(BAD)]
    assert found[1].error is not None
    assert found[1].error.code in ("corrupt", "truncated")
    assert {one.error.code for one in found if one.error} <= set(ERROR_CODES)
    compared = compare(predictor, predictor, sources)
    assert [bool(one.error) for one in compared.images] == [one.error is not None for one in found]
    read = read_images(sources, predictor.preprocess)  # as doctor does
    assert read.failed.total() == len(BAD)
    dataset = Dataset(tuple(sources), ("blue",) * len(sources), "a list")  # type: ignore[arg-type]
    assert evaluate(predictor, dataset).outputs.codes.total() == len(BAD)
    for bad in BAD:
        with pytest.raises(ImageError):
            explain(predictor, bad)


@pytest.mark.parametrize("arguments", [["run", "-o", "a.jsonl"], ["compare"], ["evaluate"], []])
def test_every_command_prints_its_output_and_exits_with_1(
    tmp_path: Path, arguments: list[str]
) -> None:
    model = save_model(tmp_path)
    photos = tmp_path / "photos" / "blue"
    draw_colours(photos, 3)
    (photos / "00001.jpg").write_bytes(NULL_HEIGHT)
    name, *more = arguments or ["predict"]
    data = str(tmp_path / "photos") if name == "evaluate" else str(photos)
    flags, program = as_arguments(model), model["model"]
    command = [name, *([program, program] if name == "compare" else []), data, *more]
    if name == "compare":
        flags = flags[2:]
    if name in ("compare", "evaluate", "predict"):
        command.append("--json")
    done = subprocess.run(
        [sys.executable, "-m", "toplabel", *command, *flags],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    if name == "run":
        records = read_jsonl(tmp_path / "a.jsonl")
    elif name == "predict":
        records = [json.loads(line) for line in done.stdout.splitlines()]
    else:
        found = json.loads(done.stdout)
        records = found["images"] if name == "compare" else []
        assert name == "compare" or sum(found["models"][0]["errors"].values()) == 1
    assert [bool(record["error"]) for record in records] in ([], [False, True, False, False])


# Runs the command line; prints its exit status and the peak of its processes in kB. It is small, as
# what a process has before it becomes another one counts.
WATCHER = """
import resource, subprocess, sys
print(subprocess.run([sys.executable, "-m", "toplabel", *sys.argv[1:]]).returncode)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def hostile(folder: Path) -> list[str]:
    return sorted(str(path) for path in (folder / "hostile").rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.shared_data
def test_every_hostile_file_has_a_record_in_a_run_that_stays_small(
    tmp_path: Path, shared_data: Path
) -> None:
    paths = hostile(shared_data)
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    arguments = ["run", "list.txt", "-o", "a.jsonl", *as_arguments(save_model(tmp_path))]
    done = subprocess.run(
        [sys.executable, "-c", WATCHER, *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    status, peak = map(int, done.stdout.split())
    assert status == 1, done.stderr
    records = read_jsonl(tmp_path / "a.jsonl")
    assert [record["source"] for record in records] == paths
    codes = Counter(record["error"]["code"] for record in records if record["error"])
    assert codes.keys().isdisjoint({"internal", "worker_crash", "timeout", "out_of_memory"})
    assert peak <= 300_000  # kB, of the run and its worker


@pytest.mark.slow
@pytest.mark.shared_data
def test_every_hostile_file_has_an_outcome_in_every_command(shared_data: Path) -> None:
    paths, predictor = hostile(shared_data), local_predictor()
    failed = [one.error is not None for one in predictor(paths)]
    compared = compare(predictor, predictor, paths)
    assert [bool(one.error) for one in compared.images] == failed
    assert compared.first is None
    evaluated = evaluate(predictor, Dataset(tuple(paths), ("red",) * len(paths), "all"))
    assert evaluated.outputs.codes.total() == sum(failed)
    assert read_images(paths, predictor.preprocess).failed.total() == sum(failed)
    for path, fails in zip(paths, failed, strict=True):
        try:
            assert 0 <= explain(predictor, path).score <= 1
            assert not fails
        except (ImageError, UsageError):
            assert fails, path
