"""The view: which format the records take, from the options and from who reads them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toplabel._internal.text import printable
from toplabel.cli.terminal import has_blocks, has_color, is_terminal, width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toplabel.inference.prediction import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How records are to look.

    Args:
        encode: The bytes of one record.
        header: What stands before the first record.
        tells: Whether the record itself says why an input failed; else standard error does.
        is_table: Whether it is for a person at a terminal.
    """

    encode: Callable[[Prediction], bytes]
    header: bytes = b""
    tells: bool = False
    is_table: bool = False


def choose_view(
    names: Sequence[str], *, as_json: bool, as_csv: bool, quiet: bool, top_k: int | None
) -> View:
    """The view that was asked for; else a table on a terminal and tab-separated lines in a pipe.

    Args:
        names: What the first sources are called, to lay out the table.
        as_json: The option of that name.
        as_csv: The same.
        quiet: The same.
        top_k: How many classes were asked for; None where nobody did.
    """
    from toplabel.inference import records

    if as_json:
        return View(encode=records.to_json, tells=True)
    if as_csv:
        header = records.csv_header()
        return View(encode=_for_reader(records.to_csv), header=header, tells=True)
    if quiet:
        return View(encode=_for_reader(records.to_quiet))
    if not is_terminal(sys.stdout):
        return View(encode=records.to_tsv)
    return _table_view(names, top_k)


def _for_reader(encode: Callable[[Prediction], bytes]) -> Callable[[Prediction], bytes]:
    """`encode` as it is in a pipe; on a terminal, without what would control it."""
    if not is_terminal(sys.stdout):
        return encode

    def encode_printable(prediction: Prediction) -> bytes:
        text = encode(prediction).decode("utf-8", "surrogateescape")
        return "".join(c if c in "\t\n" else printable(c) for c in text).encode()

    return encode_printable


def _table_view(names: Sequence[str], top_k: int | None) -> View:
    from toplabel.cli.table import Layout, to_rows

    layout = Layout.of(names, width=width(), top_k=top_k, color=has_color(), blocks=has_blocks())
    encoding = sys.stdout.encoding

    def encode(prediction: Prediction) -> bytes:
        return to_rows(prediction, layout).encode(encoding, "replace")

    return View(encode=encode, is_table=True)
