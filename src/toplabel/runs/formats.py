"""Formats of a run's records: a shard's outcomes in, the bytes of a part out; parts merged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from toplabel.errors import UsageError
from toplabel.inference.prediction import Prediction
from toplabel.inference.records import csv_header, to_csv, to_json, unknown_cell
from toplabel.runs.labelling import Outcome

FORMATS = ("parquet", "csv", "jsonl")
"""The names of formats, which are also the suffixes of their files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What records have beyond the columns of every run.

    Args:
        scores: Those of all classes.
        embedding: D, the numbers of an image's features; 0: they are not written.
        unknown: Whether an image is unknown, of a model that can tell.
        precision: That of each answer, of a run in reduced precision.
    """

    scores: bool = False
    embedding: int = 0
    unknown: bool = False
    precision: bool = False


class Format(Protocol):
    """How records are written."""

    def encode(self, outcomes: Sequence[Outcome], columns: Columns) -> bytes:
        """The whole content of a part: a file of this format."""

    def replace(self, part: Path, rows: Mapping[int, Outcome], columns: Columns) -> bytes:
        """The content of a part with other records in these rows.

        Raises:
            OSError: It cannot be read.
        """

    def merge(self, parts: Sequence[Path], target: Path) -> None:
        """Write one file with the records of all parts, in their order.

        Raises:
            OSError: It cannot be written.
        """


def check_format(name: str) -> str:
    """The name, where there is a format of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in FORMATS:
        raise UsageError(f"got the format {name!r}; expected one of {', '.join(FORMATS)}")
    return name


def load_format(name: str) -> Format:
    """The format of that name.

    Raises:
        UsageError: There is none.
        MissingDependency: Its library is not installed.
    """
    if check_format(name) == "parquet":
        parquet: Format = import_module("toplabel.runs.formats_parquet").ParquetFormat()
        return parquet
    return _CSV if name == "csv" else _JSON_LINES


@dataclass(frozen=True, slots=True)
class TextFormat:
    """Records as the command line writes them, with the sizes of images.

    Args:
        header: Before the records; gets the names of further columns.
        record: One record; gets the values of further columns by name.
        header_lines: How many lines the header has.
        quoted: Whether a record may go on over a line's end within double quotes.
    """

    header: Callable[[Iterable[str]], bytes]
    record: Callable[[Prediction, dict[str, Any]], bytes]
    header_lines: int
    quoted: bool

    def encode(self, outcomes: Sequence[Outcome], columns: Columns) -> bytes:
        """The header, and a record for each outcome."""
        header = self.header(_further_columns(None, columns))
        return header + b"".join(
            [
                self.record(one.prediction, _further_columns(one.prediction, columns))
                for one in outcomes
            ]
        )

    def replace(self, part: Path, rows: Mapping[int, Outcome], columns: Columns) -> bytes:
        """The same lines, but for these records."""
        with open(part, "rb") as file:
            header = b"".join(file.readline() for _ in range(self.header_lines))
            records = list(self._records(file))
        for row, outcome in rows.items():
            prediction = outcome.prediction
            records[row] = self.record(prediction, _further_columns(prediction, columns))
        return header + b"".join(records)

    def _records(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        record = b""
        for line in lines:
            record += line
            if not self.quoted or record.count(b'"') % 2 == 0:
                yield record
                record = b""

    def merge(self, parts: Sequence[Path], target: Path) -> None:
        """The header once, then all records."""
        with open(target, "wb") as file:
            for number, part in enumerate(parts):
                with open(part, "rb") as source:
                    for _ in range(self.header_lines if number else 0):
                        source.readline()
                    shutil.copyfileobj(source, file)


def _further_columns(prediction: Prediction | None, columns: Columns) -> dict[str, Any]:
    """The values of a record's further columns by name; of no prediction the names alone."""
    more: dict[str, Any] = {
        "width": prediction and prediction.width,
        "height": prediction and prediction.height,
    }
    if columns.unknown:
        more["unknown"] = prediction and prediction.unknown
    if columns.precision:
        more["precision"] = prediction and prediction.precision
    if columns.scores:  # in as few digits as give the same float16 again
        scores = None if prediction is None else prediction.scores
        more["scores"] = None if scores is None else [float(f"{s:.5g}") for s in scores.tolist()]
    if columns.embedding:  # in as few digits as give the same float32 again
        features = None if prediction is None else prediction.features
        more["embedding"] = None if features is None else [float(str(f)) for f in features]
    return more


def _csv_row(prediction: Prediction, more: dict[str, Any]) -> bytes:
    if "unknown" in more:
        more["unknown"] = unknown_cell(prediction)
    if more.get("scores") is not None:
        more["scores"] = json.dumps(more["scores"])
    return to_csv(prediction, more.values())


_CSV = TextFormat(header=csv_header, record=_csv_row, header_lines=1, quoted=True)
_JSON_LINES = TextFormat(header=lambda more: b"", record=to_json, header_lines=0, quoted=False)
