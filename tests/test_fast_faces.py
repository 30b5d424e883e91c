"""Every face answers in reduced precision where it is asked to, and says so in its records."""

import csv
import json
import os
import subprocess
import sys
import zlib
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click import Context, Option

import toplabel
from reduced_material import (
    draw_photos,
    packed_with_reduced,
    reduced_bundle,
    with_margin,
    with_wrong_program,
)
from run_material import read_csv, read_jsonl
from serving import serving
from toplabel._internal.notices import ToplabelWarning
from toplabel.bundle.bundle import Bundle
from toplabel.cli.group import toplabel as group
from toplabel.errors import RunError, UsageError
from toplabel.inference.cascade import is_audited

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return reduced_bundle(tmp_path_factory.mktemp("kinds"))


@pytest.fixture
def model(bundle: Bundle, tmp_path: Path) -> Path:
    return packed_with_reduced(tmp_path, bundle)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Some whose label is clear, and some near to another."""
    return draw_photos(tmp_path_factory.mktemp("photos"), 30)


def command(*arguments: object, status: int = 0) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "toplabel", *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def exact_labels(model: Path, photos: list[str]) -> list[str | None]:
    return [one.label for one in toplabel.load(model)(photos)]


def test_the_command_line_says_it(model: Path, photos: list[str]) -> None:
    labels = exact_labels(model, photos)
    told, noted = command(*photos, "-m", model, "--fast", "--json")
    records = [json.loads(line) for line in told.splitlines()]
    assert [one["label"] for one in records] == labels
    assert {one.get("precision") for one in records} == {"int8", None}
    assert all("audit" not in one for one in records)
    again = sum("precision" not in one for one in records)
    assert f"int8; {100 * again / 30:.0f} % computed again; no label changed in 275 " in noted
    header, *rows = command(*photos, "-m", model, "--fast", "--csv")[0].splitlines()
    assert header.endswith(",error_message,precision")
    assert [row[-1] for row in csv.reader(rows)] == [one.get("precision", "") for one in records]
    quiet = command(*photos, "-m", model, "--fast", "-q")
    assert quiet == ("".join(f"{label}\n" for label in labels), "")


def test_without_it_nothing_is_said(model: Path, photos: list[str]) -> None:
    told, noted = command(photos[0], "-m", model, "--csv")
    assert "precision" not in told + noted


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_runs_say_it(suffix: str, model: Path, photos: list[str], tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    output = tmp_path / f"out{suffix}"
    summary = toplabel.run(photos, output, model=model, fast=True)
    read: dict[str, Any] = {".csv": read_csv, ".jsonl": read_jsonl, ".parquet": read_parquet}
    records = read[suffix](output)
    assert [one["label"] for one in records] == exact_labels(model, photos)
    assert {one["precision"] or None for one in records} == {"int8", None}
    assert summary.fast is not None
    counts = summary.fast.counts
    assert counts.images == 30
    assert counts.reduced == sum(one["precision"] == "int8" for one in records)
    assert "no label changed in 275" in str(summary.fast)
    assert json.loads(json.dumps(summary.to_dict()))["fast"]["counts"]["images"] == 30


def read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_a_run_tells_its_summary_on_the_terminal(
    model: Path, photos: list[str], tmp_path: Path
) -> None:
    _, noted = command(*photos, "-o", tmp_path / "out.csv", "-m", model, "--fast")
    assert "computed again; no label changed in 275 re-computations" in noted


def test_a_run_has_the_same_bytes_however_often_it_was_interrupted(
    model: Path, photos: list[str], tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    toplabel.run(photos, whole, model=model, fast=True, shard_size=7)
    toplabel.run(photos[:12], parts, model=model, fast=True, shard_size=7)
    toplabel.run(photos, parts, model=model, fast=True, shard_size=7)
    by_source = {one["source"]: one for one in read_jsonl(whole)}
    assert {one["source"]: one for one in read_jsonl(parts)} == by_source
    before = whole.read_bytes()
    toplabel.run(photos, whole, model=model, fast=True, shard_size=7, restart=True)
    assert whole.read_bytes() == before


def test_a_run_goes_on_only_with_the_same_margin_and_program(
    bundle: Bundle, photos: list[str], tmp_path: Path
) -> None:
    first = packed_with_reduced(tmp_path, bundle)
    toplabel.run(photos[:3], tmp_path / "out.csv", model=first, fast=True)
    with pytest.raises(
        RunError, match=r"was started with a reduced program \(fast=True\), and now"
    ):
        toplabel.run(photos[:3], tmp_path / "out.csv", model=first)
    toplabel.run(photos[:3], tmp_path / "exact.csv", model=first)
    with pytest.raises(RunError, match="without a reduced program, and now there is one; resume"):
        toplabel.run(photos[:3], tmp_path / "exact.csv", model=first, fast=True)
    (tmp_path / "other").mkdir()
    other = packed_with_reduced(tmp_path / "other", with_margin(bundle, 9.0))
    with pytest.raises(RunError, match="was started with different reduced precision"):
        toplabel.run(photos[:3], tmp_path / "out.csv", model=other, fast=True)


def test_a_run_whose_audit_finds_a_changed_label_says_what_is_unaudited(
    bundle: Bundle, tmp_path: Path
) -> None:
    photos = draw_photos(tmp_path / "photos", 12)
    names = (tmp_path / "photos" / f"audited-{number}.png" for number in count())
    audited = next(name for name in names if is_audited(zlib.crc32(os.fsencode(name))))
    Path(photos[-1]).rename(audited)
    photos[-1] = str(audited)
    (tmp_path / "wrong").mkdir()
    model = packed_with_reduced(tmp_path, with_wrong_program(bundle, tmp_path / "wrong"))
    with pytest.warns(ToplabelWarning, match="answers are unaudited"):
        summary = toplabel.run(photos, tmp_path / "out.jsonl", model=model, fast=True)
    assert summary.fast is not None
    counts = summary.fast.counts
    assert counts.audited == counts.changed >= 1
    assert counts.unaudited == counts.reduced
    assert any("unaudited" in text for text in summary.warnings)
    corrected = read_jsonl(tmp_path / "out.jsonl")[-1]
    assert corrected["label"] == exact_labels(model, [str(audited)])[0]
    assert corrected["precision"] is None
    with pytest.warns(ToplabelWarning, match="answers are unaudited"):  # also when all is done
        again = toplabel.run(photos, tmp_path / "out.jsonl", model=model, fast=True)
    assert again.fast == summary.fast


def test_the_server_says_it(model: Path, photos: list[str]) -> None:
    labels = exact_labels(model, photos)
    with serving("-m", model, "--fast") as server:
        records = [
            server.classify(Path(photo).read_bytes(), kind="image/png").json["predictions"][0]
            for photo in photos
        ]
        assert [one["label"] for one in records] == labels
        precisions = [one.get("precision") for one in records]
        assert set(precisions) == {"int8", None}
        clear = Path(photos[precisions.index("int8")]).read_bytes()
        assert server.post("/", clear, "image/png").headers["x-precision"] == "int8"
        (facts,) = server.ask("GET", "/v1/models").json["models"]
        assert facts["reduced"]["precision"] == "int8"
        assert facts["reduced"]["images"] == 31
        assert facts["reduced"]["reduced"] == precisions.count("int8") + 1
        assert facts["reduced"]["bound"] == pytest.approx(3 / 275, rel=0.01)
        assert server.metric("toplabel_reduced_images_total") == precisions.count("int8") + 1
        assert server.metric("toplabel_recomputed_images_total") == precisions.count(None)


@pytest.mark.parametrize("face", ["label", "run", "serve"])
def test_fast_and_exact_at_once_are_refused_in_one_line(
    face: str, model: Path, photos: list[str], tmp_path: Path
) -> None:
    arguments: dict[str, list[object]] = {
        "label": [photos[0]],
        "run": [photos[0], "-o", tmp_path / "out.csv"],
        "serve": ["serve", "--port", 0],
    }
    _, told = command(*arguments[face], "-m", model, "--fast", "--exact", status=2)
    assert "got --fast and --exact; expected one of them" in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize("name", ["evaluate", "calibrate", "explain", "train"])
def test_what_always_computes_exactly_refuses_to_be_fast(
    name: str, model: Path, photos: list[str], tmp_path: Path
) -> None:
    suffix = ".png" if name == "explain" else ".toplabel"
    output = [] if name == "evaluate" else ["-o", tmp_path / f"out{suffix}"]
    inputs = [photos[0] if name == "explain" else Path(photos[0]).parent]
    _, told = command(name, *inputs, "-m", model, *output, "--fast", status=2)
    assert f"got --fast; toplabel {name} always computes exactly: leave it out" in told


@pytest.mark.parametrize("name", ["evaluate", "calibrate", "explain", "train", "optimize", "pack"])
def test_help_offers_no_flag_that_the_command_cannot_use(name: str) -> None:
    shown = flags_in_help_of(name)
    assert "--labels" in shown
    assert shown.isdisjoint({"--fast", "--exact"})
    if name in ("optimize", "pack"):
        assert shown.isdisjoint({"--engine", "--device", "--dtype", "--threads"})


def flags_in_help_of(name: str) -> set[str]:
    command = group.get_command(Context(group), name)
    assert command is not None
    options = [one for one in command.params if isinstance(one, Option) and not one.hidden]
    return {flag for option in options for flag in option.opts}


def test_training_refuses_it_in_python_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="training always computes exactly"):
        toplabel.train(tmp_path, fast=True)


def test_evaluation_of_a_fast_predictor_is_exact(
    model: Path, photos: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    for place, photo in enumerate(photos[:12]):
        target = tmp_path / "val" / ("ant", "bee")[place % 2] / f"{place}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(Path(photo).read_bytes())
    models = [toplabel.load(model, fast=flag) for flag in (True, False)]
    found, expected = (toplabel.evaluate(one, tmp_path / "val") for one in models)
    assert (found.outputs.logits == expected.outputs.logits).all()
