"""Options and the terminal in; the format of records, and the table for people, out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from toplabel._internal.text import fit, printable, printable_lines, text_width
from toplabel.cli.terminal import has_blocks, has_color, is_terminal, width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toplabel.inference.prediction import Candidate, Prediction


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
        return _csv_view()
    if quiet:
        return View(encode=_for_reader(partial(records.to_quiet, top_k=top_k or 1)))
    if not is_terminal(sys.stdout):
        return View(encode=partial(records.to_tsv, top_k=top_k or 1))
    return _table_view(names, top_k)


def with_columns(view: View, *, unknown: bool, precision: bool) -> View:
    """The same with more columns in CSV.

    Args:
        view: Any.
        unknown: The model tells unknown images.
        precision: Reduced precision was asked for.
    """
    more = [name for name, is_there in (("unknown", unknown), ("precision", precision)) if is_there]
    return _csv_view(*more) if view.header and more else view


def _csv_view(*more: str) -> View:
    from toplabel.inference import records

    def encode(prediction: Prediction) -> bytes:
        cells = {"unknown": records.unknown_cell(prediction), "precision": prediction.precision}
        return records.to_csv(prediction, [cells[name] for name in more])

    return View(encode=_for_reader(encode), header=records.csv_header(more), tells=True)


def _for_reader(encode: Callable[[Prediction], bytes]) -> Callable[[Prediction], bytes]:
    """`encode` as it is in a pipe; on a terminal, without what would control it."""
    if not is_terminal(sys.stdout):
        return encode

    def encode_printable(prediction: Prediction) -> bytes:
        text = encode(prediction).decode("utf-8", "surrogateescape")
        return printable_lines(text).encode()

    return encode_printable


def _table_view(names: Sequence[str], top_k: int | None) -> View:
    layout = Layout.of(names, width=width(), top_k=top_k, color=has_color(), blocks=has_blocks())
    encoding = sys.stdout.encoding

    def encode(prediction: Prediction) -> bytes:
        return to_rows(prediction, layout).encode(encoding, "replace")

    return View(encode=encode, is_table=True)


_EIGHTHS = " ▏▎▍▌▋▊▉█"
_MAX_LABEL_WIDTH = 30
_MAX_BAR_WIDTH = 24
_MIN_BAR_WIDTH = 6
_GAPS_AND_SCORE = 16  # "  " before the bar, " " before the score, "<0.01", and "  unsure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the table fits its terminal.

    Args:
        width: Columns of the terminal.
        source_width: Columns for the source; 0 for a single image, which needs no name.
        rows: How many classes to show for each image.
        color: Whether colours may be used.
        blocks: Whether the terminal's encoding has block characters for the bars.
    """

    width: int
    source_width: int
    rows: int
    color: bool = False
    blocks: bool = True

    @classmethod
    def of(
        cls, sources: Sequence[str], *, width: int, top_k: int | None, color: bool, blocks: bool
    ) -> Layout:
        """A layout for these sources (the first ones are enough).

        Without `top_k`, one image shows its five best classes, several show the best of each.
        """
        alone = len(sources) < 2
        longest = 0 if alone else max(text_width(printable(source)) for source in sources)
        return cls(
            width=width,
            source_width=min(longest, max(12, width * 2 // 5)),
            rows=top_k or (5 if alone else 1),
            color=color,
            blocks=blocks,
        )


def to_rows(prediction: Prediction, layout: Layout) -> str:
    """The rows of one prediction, each with its line end; for one failed image alone, none."""
    if prediction.top is None or prediction.error is not None:
        return _failed_row(prediction, layout)
    shown = prediction.top[: None if prediction.multi_label else layout.rows]
    shown = shown or _no_class(prediction)
    labels = [_label(candidate, prediction) for candidate in shown]
    label_width, bar_width = _widths(labels, layout)
    lines = []
    for place, candidate in enumerate(shown):
        label = fit(labels[place], label_width)
        bar = _bar(candidate.score, bar_width, blocks=layout.blocks)
        unsure = "  unsure" if place == 0 and prediction.unsure and prediction.top else ""
        source = prediction.source if place == 0 else ""
        bold = "1" if place == 0 else ""
        lines.append(
            f"{_source_cell(source, layout)}{_paint(label, bold, layout)}"
            f"  {_paint(bar, '36', layout)} {_score(candidate.score)}{unsure}\n"
        )
    return "".join(lines)


def _score(score: float) -> str:
    """Two decimals, but never 0.00 or 1.00 of what is neither: "<0.01", ">0.99"."""
    if 0 < score < 0.005:
        return "<0.01"
    if 0.995 <= score < 1:
        return ">0.99"
    return f"{score:5.2f}"


def _label(candidate: Candidate, prediction: Prediction) -> str:
    label = printable(candidate.label)
    if prediction.unknown and candidate.index == prediction.index:
        return f"unknown (nearest: {label})"
    return label


def _widths(labels: Sequence[str], layout: Layout) -> tuple[int, int]:
    """Columns for the label and for the bar.

    Among several images they are the same for each, so that the columns stand below each other.
    """
    source = layout.source_width + 2 if layout.source_width else 0
    free = max(20, layout.width - source - _GAPS_AND_SCORE)
    bar = max(_MIN_BAR_WIDTH, min(_MAX_BAR_WIDTH, free // 3))
    label = min(_MAX_LABEL_WIDTH, free - bar)
    if not layout.source_width:
        label = min(label, max(map(text_width, labels)))
    return label, bar


def _no_class(prediction: Prediction) -> tuple[Candidate, ...]:
    """A row that says that no class of a multi-label model applies, with the highest score."""
    from toplabel.inference.prediction import NO_CLASS, Candidate

    return (Candidate(NO_CLASS, -1, prediction.score or 0.0),)


def _failed_row(prediction: Prediction, layout: Layout) -> str:
    if not layout.source_width or prediction.error is None:
        return ""
    reason = _paint(f"({prediction.error.code})", "31", layout)
    return f"{_source_cell(prediction.source, layout)}{reason}\n"


def _source_cell(source: str, layout: Layout) -> str:
    if not layout.source_width:
        return ""
    return fit(printable(source), layout.source_width, keep_end=True) + "  "


def _bar(score: float, width: int, *, blocks: bool) -> str:
    """A bar of `width` columns, full at score 1."""
    share = min(max(score, 0.0), 1.0) * width
    if not blocks:
        return ("#" * round(share)).ljust(width)
    whole, eighths = divmod(round(share * 8), 8)
    return ("█" * whole + (_EIGHTHS[eighths] if eighths else "")).ljust(width)


def _paint(text: str, style: str, layout: Layout) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if layout.color and style else text
