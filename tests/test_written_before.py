"""What earlier versions wrote still opens: a bundle, a cache entry, half-finished runs.

The files were written by the code before it moved into its rooms (see their README.md).
"""

import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import toplabel
from run_material import draw_colours, local_predictor, read_jsonl
from toplabel.bundle.cache import FileSignature, cache_dir, json_path, write_json
from toplabel.models.options import ModelOptions

WRITTEN = Path(__file__).parent / "written_before"
COLOURS = ["red", "green", "blue"] * 2


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files, as the current folder."""
    shutil.copytree(WRITTEN, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photos(folder: Path) -> list[str]:
    return [f"photos/{path.name}" for path in sorted((folder / "photos").iterdir())]


def test_a_bundle_opens_and_labels_as_before(folder: Path) -> None:
    model = toplabel.load("mean.toplabel")
    assert model.name == "checkpoint/mean.pth@1468e3e3"
    expected = [json.loads(line) for line in (folder / "whole.jsonl").read_text().splitlines()]
    for prediction, record in zip(model.stream(photos(folder)), expected, strict=True):
        assert prediction.to_dict() == {k: record[k] for k in prediction.to_dict()}


def test_a_cache_entry_is_found_so_that_torch_is_not_needed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder / "cache", cache_dir(), dirs_exist_ok=True)
    entry = json.loads((folder / "entry.json").read_text())
    entry["spec"] = f"{folder / 'mean.pth'} {digest_of_options(folder)}"
    entry["weights_files"] = [
        asdict(FileSignature.of(folder / file["name"])) for file in entry["weights_files"]
    ]
    (cache_dir() / "entries").mkdir()
    write_json(json_path(cache_dir() / "entries", entry["spec"]), entry)
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it now fails
    model = toplabel.load(
        "mean.pth", arch="nets.py:Mean", labels="labels.txt", preprocess="preprocess.json"
    )
    assert [one.label for one in model(photos(folder))] == COLOURS
    assert model.engine == "onnxruntime on cpu"


def digest_of_options(folder: Path) -> str:
    """As today's: entries made by older rules of opening models are not found, and made anew."""
    options = ModelOptions(arch="nets.py:Mean", labels="labels.txt", preprocess="preprocess.json")
    digest = options.fingerprint(code=os.path.realpath(folder / "nets.py"))
    assert digest is not None
    return digest


def test_a_half_finished_run_resumes_and_equals_one_without_a_break(folder: Path) -> None:
    (folder / "labels.jsonl.run").rename(folder / ".labels.jsonl.run")
    part = folder / ".labels.jsonl.run" / "part-000000.jsonl"
    before = part.stat().st_mtime_ns
    summary = toplabel.run("photos", "labels.jsonl", model="mean.toplabel", shard_size=2)
    assert (summary.inputs, summary.new) == (6, 4)
    assert (folder / "labels.jsonl").read_bytes() == (folder / "whole.jsonl").read_bytes()
    assert part.stat().st_mtime_ns == before


def test_the_same_options_again_do_no_work(folder: Path) -> None:
    (folder / "labels.jsonl.run").rename(folder / ".labels.jsonl.run")
    toplabel.run("photos", "labels.jsonl", model="mean.toplabel", shard_size=2)
    assert toplabel.run("photos", "labels.jsonl", model="mean.toplabel").new == 0


def test_a_run_with_a_failed_input_resumes_with_its_options(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of its three shards are done, in one process, with options; an input was no image."""
    monkeypatch.setattr("toplabel.runs.fingerprint.__version__", "0.1.0")
    draw_colours(folder / "photos", 30)
    (folder / "photos" / "00002.png").write_bytes(b"?")
    (folder / "failed.jsonl.run").rename(folder / ".failed.jsonl.run")

    def label(output: str, **more: Any) -> toplabel.RunSummary:
        options = {"threshold": 0.5, "top_k": 2, "shard_size": 10}
        return toplabel.run("photos", output, model=local_predictor(), **options, **more)

    resumed = label("failed.jsonl")
    assert (resumed.inputs, resumed.new, resumed.failed) == (30, 10, 1)
    label("anew.jsonl")
    ours, theirs = read_jsonl(folder / "failed.jsonl"), read_jsonl(folder / "anew.jsonl")
    for record in (*ours, *theirs):
        record["error"] = record["error"] and record["error"]["code"]  # its words may change
    assert ours == theirs
    assert label("failed.jsonl", report="report.html").new == 0
