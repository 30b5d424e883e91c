"""Parquet: typed columns, zstd; as pandas, DuckDB and Spark read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toplabel._internal.optional import require
from toplabel._internal.text import escape_name, name_bytes, written_out
from toplabel.inference.prediction import Prediction
from toplabel.runs.formats import Columns
from toplabel.runs.labelling import Outcome

pa: Any = require("pyarrow", extra="parquet", purpose="writing Parquet")
pq: Any = require("pyarrow.parquet", extra="parquet", purpose="writing Parquet")

_TOP = pa.list_(pa.struct([("label", pa.string()), ("index", pa.int32()), ("score", pa.float32())]))
_COLUMNS = (
    ("source", pa.string()),
    ("label", pa.string()),
    ("index", pa.int32()),
    ("score", pa.float32()),
    ("top", _TOP),
    ("unsure", pa.bool_()),
    ("warnings", pa.list_(pa.string())),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("error_code", pa.string()),
    ("error_message", pa.string()),
    ("model", pa.string()),
    ("source_bytes", pa.binary()),
)
_ROWS_OF_GROUP = 131_072
_BYTES_OF_GROUP = 64 * 2**20


class ParquetFormat:
    """Typed columns; `source_bytes` is set only where a name is not UTF-8."""

    def encode(self, outcomes: Sequence[Outcome], columns: Columns) -> bytes:
        """One row group with all outcomes."""
        return _content(_table(outcomes, columns))

    def replace(self, part: Path, rows: Mapping[int, Outcome], columns: Columns) -> bytes:
        """The same rows, but for these."""
        table = pq.read_table(part, partitioning=None)
        pieces, at = [], 0
        for row in sorted(rows):
            pieces += [table.slice(at, row - at), _table([rows[row]], columns)]
            at = row + 1
        return _content(pa.concat_tables([*pieces, table.slice(at)]).combine_chunks())

    def merge(self, parts: Sequence[Path], target: Path) -> None:
        """The rows of all parts, in row groups of a useful size."""
        with pq.ParquetWriter(target, pq.read_schema(parts[0]), compression="zstd") as writer:
            for group in _groups(parts):
                writer.write_table(pa.concat_tables(group), row_group_size=_ROWS_OF_GROUP)


def _table(outcomes: Sequence[Outcome], columns: Columns) -> Any:
    fields = list(_COLUMNS)
    if columns.unknown:
        fields.append(("unknown", pa.bool_()))
    if columns.precision:
        fields.append(("precision", pa.string()))
    if columns.scores:
        fields.append(("scores", pa.list_(pa.float16())))
    rows = [_row(outcome.prediction, columns) for outcome in outcomes]
    table = pa.Table.from_pylist(rows, schema=pa.schema(fields))
    if not columns.embedding:
        return table
    return table.append_column("embedding", _embeddings(outcomes, columns.embedding))


def _embeddings(outcomes: Sequence[Outcome], size: int) -> Any:
    """A column of lists of that size; null where an input failed."""
    given = [outcome.prediction.features for outcome in outcomes]
    rows = np.zeros((len(given), size), np.float32)
    for row, features in zip(rows, given, strict=True):
        if features is not None:
            row[:] = features
    failed = pa.array([features is None for features in given], pa.bool_())
    kind = pa.list_(pa.float32(), size)
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=kind, mask=failed)


def _content(table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _groups(parts: Sequence[Path]) -> Iterator[list[Any]]:
    """Tables, as many together as make a row group."""
    group: list[Any] = []
    for part in parts:
        group.append(pq.read_table(part, partitioning=None))
        rows, size = sum(t.num_rows for t in group), sum(t.nbytes for t in group)
        if rows >= _ROWS_OF_GROUP or size >= _BYTES_OF_GROUP:
            yield group
            group = []
    if group:
        yield group


def _row(prediction: Prediction, columns: Columns) -> dict[str, Any]:
    error, top = prediction.error, prediction.top
    row: dict[str, Any] = {
        "source": escape_name(prediction.source),
        "source_bytes": _foreign_bytes(prediction.source),
        "label": _text(prediction.label),
        "index": prediction.index,
        "score": prediction.score,
        "top": top and [{"label": _text(c.label), "index": c.index, "score": c.score} for c in top],
        "unsure": prediction.unsure,
        "warnings": [_text(warning) for warning in prediction.warnings],
        "width": prediction.width,
        "height": prediction.height,
        "error_code": error and error.code,
        "error_message": _text(error.message if error else None),
        "model": _text(prediction.model),
    }
    if columns.unknown:
        row["unknown"] = prediction.unknown
    if columns.precision:
        row["precision"] = prediction.precision
    if columns.scores:
        row["scores"] = prediction.scores
    return row


def _text(text: str | None) -> str | None:
    return text and written_out(text)


def _foreign_bytes(name: str) -> bytes | None:
    """The name's own bytes, where they are not UTF-8."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return name_bytes(name)
    return None
