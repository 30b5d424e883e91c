"""Formats: one prediction in, the bytes of one record out, for programs to read.

Every format gives exactly one record for each input, a failed one too. All are UTF-8, whatever a
file's name is (`toplabel._internal.text.escape_name`); only lines for a shell keep its bytes.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from toplabel._internal.text import written_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from toplabel.inference.prediction import Candidate, Prediction

CSV_COLUMNS = (
    "source",
    "label",
    "index",
    "score",
    "top",
    "unsure",
    "warnings",
    "model",
    "error_code",
    "error_message",
)
"""The keys of the JSON record, in its order; `error` makes two columns, `top` is JSON."""

# A line cannot hold these, so they are written as two characters each.
_LINE_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})

# JSON allows these in text, but many programs that read line by line end a line at them.
_JSON_ESCAPES = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})

# A spreadsheet takes a cell that begins so for a formula; "'" itself, so that it can be undone.
_FORMULA_STARTS = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "'",
    "\uff1d",
    "\uff0b",
    "\uff0d",
    "\uff20",
)


_NOTHING: Mapping[str, object] = MappingProxyType({})


def to_json(prediction: Prediction, more: Mapping[str, object] = _NOTHING) -> bytes:
    """One line of JSON, as `Prediction.to_dict` with its keys in order, then those of `more`."""
    return (_json_text({**prediction.to_dict(), **more}) + "\n").encode()


def to_tsv(prediction: Prediction, top_k: int = 1) -> bytes:
    r"""One line `source<TAB>label<TAB>score`; label and score are empty where the input failed.

    With `top_k` the further best classes follow, `label<TAB>score` each; of a multi-label model all
    that apply, or an empty label and the highest score. Last fields say `unsure` and `unknown`
    where that is so. In source and labels, backslash, tab, newline and carriage return are written
    `\\`, `\t`, `\n` and `\r`. Scores have four decimals.
    """
    found = [(prediction.label or "", prediction.score)]
    if prediction.top:
        found = [(one.label, one.score) for one in _shown(prediction, top_k)]
    cells = [as_line(prediction.source)]
    for label, score in found:
        cells += [as_line(label), "" if score is None else f"{score:.4f}"]
    return encode_text("\t".join([*cells, *_marks(prediction)]) + "\n")


def to_quiet(prediction: Prediction, top_k: int = 1) -> bytes:
    """One line with the label alone, escaped as in `to_tsv`; empty where the input failed.

    With `top_k` the further best ones follow, of a multi-label model all that apply, and `unsure`
    and `unknown` where that is so, with tabs between.
    """
    labels = [one.label for one in _shown(prediction, top_k)]
    return encode_text("\t".join([*map(as_line, labels), *_marks(prediction)]) + "\n")


def _shown(prediction: Prediction, top_k: int) -> tuple[Candidate, ...]:
    """The classes of a line: as many as are asked for; of a multi-label model all that apply."""
    return (prediction.top or ())[: None if prediction.multi_label else top_k]


def _marks(prediction: Prediction) -> tuple[str, ...]:
    unsure = ("unsure",) if prediction.unsure and prediction.label is not None else ()
    return (*unsure, "unknown") if prediction.unknown else unsure


def unknown_cell(prediction: Prediction) -> str:
    """What a column `unknown` of CSV has, of a model that can tell."""
    return "" if prediction.unknown is None else str(prediction.unknown).lower()


def csv_header(more: Iterable[str] = ()) -> bytes:
    """The first line of a CSV file; `more` columns stand at its end."""
    return _csv_row((*CSV_COLUMNS, *more))


def to_csv(prediction: Prediction, more: Iterable[object] = ()) -> bytes:
    """One row of CSV, quoted as Python's and every spreadsheet's reader undoes it.

    Text that a spreadsheet would run as a formula (it begins with `=`, `+`, `-`, `@`, also in
    full width, a tab or a line end) gets a `'` in front, and so does text that begins with `'`:
    taking away one leading `'` gives the text back. What is not known is empty.
    """
    record = prediction.to_dict()
    error = record["error"] or {"code": None, "message": None}
    cells = (
        csv_text(record["source"]),
        csv_text(record["label"]),
        record["index"],
        record["score"],
        "" if record["top"] is None else _json_text(record["top"]),
        "" if record["unsure"] is None else str(record["unsure"]).lower(),
        csv_text("; ".join(record["warnings"])),
        csv_text(record["model"]),
        error["code"],
        csv_text(error["message"]),
        *more,
    )
    return _csv_row(cells)


def as_line(text: str) -> str:
    r"""`text` without tabs and line ends: they are written `\t`, `\n`, `\r`, and `\` as `\\`."""
    return text.translate(_LINE_ESCAPES)


def _json_text(value: object) -> str:
    import json  # not needed for people's formats, and takes 2 ms

    text = json.dumps(value, ensure_ascii=False).translate(_JSON_ESCAPES)
    return written_out(text, in_json=True)


def csv_text(text: str | None) -> str:
    """A text as a cell that no spreadsheet takes for a formula; empty for None."""
    if text is None:
        return ""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _csv_row(cells: Iterable[object]) -> bytes:
    import csv  # needed for this format only
    import io

    row = io.StringIO(newline="")
    csv.writer(row, lineterminator="\r\n").writerow(cells)  # with "\n" it would not quote "\r"
    return written_out(row.getvalue().removesuffix("\r\n") + "\n").encode()


def encode_text(text: str) -> bytes:
    """UTF-8, in which bytes of file names that are none stay as they are."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, in a label from JSON
        return text.encode("utf-8", "backslashreplace")
