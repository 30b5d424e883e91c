"""Embeddings of runs: a column of features, the same however often a run is interrupted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toplabel
from run_material import draw_colours, local_predictor, read_jsonl, save_model
from toplabel.errors import ModelError, RunError, UsageError

pytest.importorskip("pyarrow")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    draw_colours(tmp_path / "photos", 25)
    (tmp_path / "photos" / "00007.png").write_bytes(b"no image")
    return tmp_path / "photos"


def embed(photos: Path, output: Path, **options: Any) -> toplabel.RunSummary:
    options.setdefault("model", local_predictor())
    return toplabel.run(photos, output, embeddings=True, shard_size=10, **options)


def vectors(output: Path) -> tuple[str, list[list[float] | None]]:
    import pyarrow.parquet as pq

    column = pq.read_table(output)["embedding"]
    return str(column.type), column.to_pylist()


def test_parquet_has_lists_of_one_size_and_null_where_an_input_failed(
    photos: Path, tmp_path: Path
) -> None:
    assert embed(photos, tmp_path / "a.parquet").failed == 1
    kind, rows = vectors(tmp_path / "a.parquet")
    assert kind == "fixed_size_list<element: float>[3]"
    assert [place for place, row in enumerate(rows) if row is None] == [7]
    sources = sorted(photos.glob("*.png"))
    model = local_predictor()
    expected = [None if place == 7 else model.embed(path) for place, path in enumerate(sources)]
    for row, wanted in zip(rows, expected, strict=True):
        assert (row is None) == (wanted is None)
        assert wanted is None or np.array_equal(np.array(row, np.float32), wanted)


def test_json_lines_have_lists_that_give_the_same_float32(photos: Path, tmp_path: Path) -> None:
    embed(photos, tmp_path / "a.parquet")
    embed(photos, tmp_path / "a.jsonl")
    _, rows = vectors(tmp_path / "a.parquet")
    lines = [record["embedding"] for record in read_jsonl(tmp_path / "a.jsonl")]
    for row, line in zip(rows, lines, strict=True):
        assert row is None or np.array_equal(np.array(row, np.float32), np.array(line, np.float32))
    assert lines[7] is None


def test_a_part_without_any_label_has_the_same_type(photos: Path, tmp_path: Path) -> None:
    for path in sorted(photos.glob("*.png"))[:10]:
        path.write_bytes(b"no image")
    embed(photos, tmp_path / "out")
    kind, rows = vectors(tmp_path / "out")
    assert kind == "fixed_size_list<element: float>[3]"
    assert sum(row is None for row in rows) == 10


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_an_interrupted_run_gives_the_same_bytes(
    photos: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_model(tmp_path)
    embed(photos, tmp_path / f"whole.{suffix}", **model)

    def stop(progress: Any) -> None:
        if progress.done >= 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(photos, tmp_path / f"cut.{suffix}", progress=stop, **model)
    summary = embed(photos, tmp_path / f"cut.{suffix}", **model)
    assert 0 < summary.new < 25
    whole, cut = (tmp_path / f"{name}.{suffix}" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


def test_a_run_resumes_only_with_embeddings_as_it_was_begun(photos: Path, tmp_path: Path) -> None:
    embed(photos, tmp_path / "a.jsonl")
    with pytest.raises(RunError, match="started with different exact"):
        toplabel.run(photos, tmp_path / "a.jsonl", model=local_predictor(), shard_size=10)
    toplabel.run(photos, tmp_path / "b.jsonl", model=local_predictor(exact=True))
    with pytest.raises(RunError, match="started with different embeddings: false, now true"):
        embed(photos, tmp_path / "b.jsonl")


def test_what_failed_is_embedded_when_it_can_be_read(photos: Path, tmp_path: Path) -> None:
    paths = [*sorted(map(str, photos.glob("*.png"))), str(photos / "late.png")]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(paths))
    model = save_model(tmp_path)
    embed(listed, tmp_path / "a.parquet", **model)
    assert vectors(tmp_path / "a.parquet")[1][25] is None
    (photos / "late.png").write_bytes((photos / "00001.png").read_bytes())
    assert embed(listed, tmp_path / "a.parquet", **model).recovered == 1
    rows = vectors(tmp_path / "a.parquet")[1]
    assert rows[25] == rows[1] is not None


def test_csv_is_refused_before_anything_is_written(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"write to a .parquet or .jsonl file"):
        embed(photos, tmp_path / "a.csv")
    assert not (tmp_path / "a.csv").exists()
    assert not list(tmp_path.glob(".a.csv*"))


def test_a_model_without_features_is_refused_before_anything_is_written(
    photos: Path, tmp_path: Path
) -> None:
    from onnx import TensorProto, helper, save

    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["image"], ["logits"], axes=[2, 3], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
    )
    model = save_model(tmp_path)
    opsets = [helper.make_opsetid("", 13)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), model["model"])
    with pytest.raises(ModelError, match="gives no features"):
        embed(photos, tmp_path / "out", **model)
    assert not (tmp_path / "out").exists()
