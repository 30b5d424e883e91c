"""Formats of a run's records: typed, whole, and as other programs read them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import toplabel
from run_material import draw_colours, local_predictor, read_csv, read_jsonl

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    photos = folder / "photos"
    draw_colours(photos, 20)
    (photos / "00005.png").write_bytes(b"?")
    (photos / "=1+1.png").write_bytes((photos / "00000.png").read_bytes())
    for name in ("a.parquet", "a.csv", "a.jsonl", "out"):
        toplabel.run(
            photos, folder / name, model=local_predictor(), shard_size=8, all_scores=True, top_k=2
        )
    return folder


def test_parquet_has_typed_columns(runs: Path) -> None:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(runs / "a.parquet")
    types = {field.name: str(field.type) for field in file.schema_arrow}
    assert types == {
        "source": "string",
        "label": "string",
        "index": "int32",
        "score": "float",
        "top": "list<element: struct<label: string, index: int32, score: float>>",
        "unsure": "bool",
        "warnings": "list<element: string>",
        "width": "int32",
        "height": "int32",
        "error_code": "string",
        "error_message": "string",
        "model": "string",
        "source_bytes": "binary",
        "scores": "list<element: halffloat>",
    }
    assert file.num_row_groups == 1
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_all_formats_say_the_same(runs: Path) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(runs / "a.parquet").to_pylist()
    lines, rows = read_jsonl(runs / "a.jsonl"), read_csv(runs / "a.csv")
    assert len(table) == len(lines) == len(rows) == 21
    for typed, line, row in zip(table, lines, rows, strict=True):
        assert typed["source"] == line["source"] == row["source"]
        assert typed["label"] == line["label"] == (row["label"] or None)
        assert typed["error_code"] == (line["error"] or {}).get("code")
        assert typed["error_code"] == (row["error_code"] or None)
        assert typed["width"] == line["width"] == (int(row["width"]) if row["width"] else None)
        if line["score"] is not None:
            assert typed["score"] == pytest.approx(line["score"], abs=1e-6)
            assert float(row["score"]) == line["score"]
            assert [c["index"] for c in typed["top"]] == [c["index"] for c in line["top"]]
            assert json.loads(row["top"]) == line["top"]


def test_all_scores_are_float16_and_survive_text(runs: Path) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(runs / "a.parquet").to_pylist()
    lines, rows = read_jsonl(runs / "a.jsonl"), read_csv(runs / "a.csv")
    for typed, line, row in zip(table, lines, rows, strict=True):
        if line["error"]:
            assert typed["scores"] is None
            assert line["scores"] is None
            assert row["scores"] == ""
            continue
        wanted = np.array(typed["scores"], np.float16)
        assert len(wanted) == 3
        assert wanted.argmax() == line["index"]
        assert np.array_equal(np.array(line["scores"], np.float16), wanted)
        assert np.array_equal(np.array(json.loads(row["scores"]), np.float16), wanted)


def test_pandas_reads_file_and_folder(runs: Path) -> None:
    import pandas as pd

    one, many = pd.read_parquet(runs / "a.parquet"), pd.read_parquet(runs / "out")
    assert one.source.tolist() == many.source.tolist()
    assert one.label.value_counts().to_dict() == many.label.value_counts().to_dict()
    csv = pd.read_csv(runs / "a.csv")
    assert csv.label.fillna("").tolist() == one.label.fillna("").tolist()


def test_duckdb_reads_file_folder_and_text(runs: Path) -> None:
    duckdb = pytest.importorskip("duckdb")

    for source in ("a.parquet", "out/*.parquet", "a.csv", "a.jsonl"):
        query = f"select count(*), count(label), max(width) from '{runs / source}'"
        assert duckdb.connect().execute(query).fetchone() == (21, 20, 20), source
    query = (
        f"select top[1].label, scores[1] from '{runs / 'a.parquet'}' where label = 'red' limit 1"
    )
    label, score = duckdb.connect().execute(query).fetchone()
    assert label == "red"
    assert score > 0.9


def test_csv_is_safe_in_a_spreadsheet(runs: Path) -> None:
    text = (runs / "a.csv").read_text()
    assert text.count("source,label,index") == 1
    for line in text.splitlines():
        assert not line.startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_format_of_names_that_are_no_utf8_is_read_by_pandas_and_is_a_list_again(
    suffix: str, tmp_path: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    folder = tmp_path / "photos"
    paths = draw_colours(folder, 3)
    names = [b"a.png", b"caf\xe9.png", b"two \\xe9 \xff.png"]
    for path, name in zip(paths, names, strict=True):
        os.rename(os.fsencode(path), os.fsencode(folder) + b"/" + name)
    output = tmp_path / f"a.{suffix}"
    toplabel.run(folder, output, model=local_predictor())
    read = {"csv": pandas.read_csv, "parquet": pandas.read_parquet}.get(suffix)
    table = pandas.read_json(output, lines=True) if read is None else read(output)
    found = [source.rpartition("/")[2] for source in table["source"]]
    assert found == ["a.png", r"caf\xe9.png", r"two \\xe9 \xff.png"]
    if suffix != "parquet":  # which holds images, not names
        again = toplabel.run(output, tmp_path / "b.jsonl", model=local_predictor())
        assert (again.labelled, again.failed) == (3, 0)


def test_foreign_bytes_of_names_have_a_column_of_their_own(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    folder = tmp_path / "photos"
    draw_colours(folder, 1)
    foreign = os.fsencode(folder) + b"/\xff.png"
    os.rename(os.fsencode(folder) + b"/00000.png", foreign)
    draw_colours(folder, 1)
    toplabel.run(folder, tmp_path / "a.parquet", model=local_predictor())
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["source_bytes"] for row in rows] == [None, foreign]
    assert rows[1]["source"].endswith(r"\xff.png")
