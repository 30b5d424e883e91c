"""Formats of a run's records: a shard's outcomes in, the bytes of a part out; parts merged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from toplabel.errors import UsageError
from toplabel.inference.records import csv_header, to_csv, to_json
from toplabel.runs.labelling import Outcome

FORMATS = ("parquet", "csv", "jsonl")
"""The names of formats, which are also the suffixes of their files."""


class Format(Protocol):
    """How records are written."""

    def encode(self, outcomes: Sequence[Outcome], *, all_scores: bool) -> bytes:
        """The whole content of a part: a file of this format."""

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
    return CsvFormat() if name == "csv" else JsonLinesFormat()


class CsvFormat:
    """CSV that is safe in spreadsheets: a header, then the columns of the command line and more."""

    def encode(self, outcomes: Sequence[Outcome], *, all_scores: bool) -> bytes:
        """A header, and a row for each outcome."""
        header = csv_header(("width", "height", *(("scores",) if all_scores else ())))
        return b"".join([header, *(self._row(one, all_scores=all_scores) for one in outcomes)])

    def merge(self, parts: Sequence[Path], target: Path) -> None:
        """The header once, then all rows."""
        with open(target, "wb") as file:
            for number, part in enumerate(parts):
                with open(part, "rb") as source:
                    header = source.readline()
                    if number == 0:
                        file.write(header)
                    shutil.copyfileobj(source, file)

    def _row(self, outcome: Outcome, *, all_scores: bool) -> bytes:
        prediction = outcome.prediction
        more: list[object] = [prediction.width, prediction.height]
        if all_scores:
            scores = _scores(outcome)
            more.append("" if scores is None else json.dumps(scores))
        return to_csv(prediction, more)


class JsonLinesFormat:
    """JSON lines: the records of the command line and the sizes of images, a line each."""

    def encode(self, outcomes: Sequence[Outcome], *, all_scores: bool) -> bytes:
        """A line of JSON for each outcome."""
        return b"".join([self._line(one, all_scores=all_scores) for one in outcomes])

    def merge(self, parts: Sequence[Path], target: Path) -> None:
        """One file after another."""
        with open(target, "wb") as file:
            for part in parts:
                with open(part, "rb") as source:
                    shutil.copyfileobj(source, file)

    def _line(self, outcome: Outcome, *, all_scores: bool) -> bytes:
        prediction = outcome.prediction
        more: dict[str, object] = {"width": prediction.width, "height": prediction.height}
        if all_scores:
            more["scores"] = _scores(outcome)
        return to_json(prediction, more)


def _scores(outcome: Outcome) -> list[float] | None:
    """Scores of all classes, in as few digits as give the same float16 again."""
    scores = outcome.prediction.scores
    return None if scores is None else [float(f"{score:.5g}") for score in scores.tolist()]
