"""Lines of text in, one class each, with or without its index or synset; the names in them out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain

from toplabel._internal.notices import warn
from toplabel.errors import LabelsError
from toplabel.labels.listed import SYNSET, ListedNames, counts_from
from toplabel.labels.tables import HEADINGS, find_names

_LINE_END = re.compile(r"\r\n|\r|\n")
_LETTERS = re.compile(r"[^\W\d_]+")
_WORDS = frozenset(("class", "label", "category", "index", "idx", "id", "item", "no", "nr"))
_WORD = r"(?:(?P<word>[^\W\d_]+)(?P<gap>\.?[\s_]*[:#=]?\s*))?"
_LAST_WORD = rf"(?:(?<![^\W\d_])(?P<word>{'|'.join(_WORDS)})\.?[\s_]*[:#=]?\s*)?"
_NUMBER = r"""(?P<quote>["']?)(?P<index>[0-9]{1,9}(?:\.0{1,9})?)(?P=quote)"""
_MARK = r"""(?:[^\w\s()\[\]{}<>"'#.]+>?|_+)"""
_FIRST = re.compile(
    rf"(?:[-*\u2022]\s+)?{_WORD}(?P<bracket>[\[(<{{#\u2116]*)\s*{_NUMBER}(?:\s*[\])>}}]+)?"
    rf"(?P<between>\s*(?:{_MARK}|\.)\s*|\s*)(?P<name>\S.*)",
    re.IGNORECASE,
)
_LAST = re.compile(
    rf"(?P<name>.*?\S)(?P<between>\s*{_MARK}\s*|\s*)(?P<bracket>[\[(<{{#]*)\s*{_LAST_WORD}{_NUMBER}"
    r"\s*[\])>}]*,?",
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"[(\[{]([^()\[\]{}]*)[)\]}],?")
_BULLET = re.compile(r"[-*\u2022]\s+(\S.*)")
_CLEARLY = re.compile(r"[:=,;|>\t]|\.\s")  # between an index and a name: not within a name
_SURELY = re.compile(r"\s*:\s|\t")
_LONGEST = 1000  # characters in a line that is looked into
_DISTINCT = {_FIRST: 0.9, _LAST: 0.99}  # of the names are, where numbers are no part of them


def listed_of_lines(text: str) -> ListedNames:
    """A name a line; with indices or synsets only where every line has one.

    Comments ("# ..."), a first line that says how many follow, and a heading are no names.

    Raises:
        LabelsError: A line is blank, or the indices in the lines are not one per class.
    """
    lines = [line.strip() for line in _LINE_END.split(text.rstrip())]
    numbered = [(number, line) for number, line in enumerate(lines, 1)]
    comments = [line for line in lines if re.match(r"#+\s", line)]
    if len(comments) < len(lines):
        numbered = [pair for pair in numbered if pair[1] not in comments]
    for number, line in numbered:
        if not line:
            raise LabelsError(
                f"line {number} is blank; expected a name, as a missing one would shift all that"
                " follow"
            )
    if len(numbered) == 1 and (cells := _split(numbered[0][1])):
        return with_indices(ListedNames(names=cells))
    rows = _without_heading(numbered)
    bullets = [match for _, line in rows if (match := _BULLET.fullmatch(line))]
    if len(bullets) == len(rows):
        rows = [(n, match[1]) for (n, _), match in zip(rows, bullets, strict=True)]
    listed = _of_tables(rows) or _of_rows(rows)
    if listed.keys is None and listed.ids is None and len(rows) > 3:
        below = _of_rows(rows[1:])
        if below.keys is not None and counts_from([int(float(key)) for key in below.keys]) == 0:
            warn(
                f"the first line of the class names, {rows[0][1]!r}, is taken for a heading, as all"
                " below it have an index"
            )
            return below
    return listed


def with_indices(listed: ListedNames) -> ListedNames:
    """Names that stand alone in their column, as the lines of a text: with their indices."""
    if listed.keys is not None or listed.ids is not None or not listed.names:
        return listed
    found = _of_rows(list(enumerate(listed.names, 1)))
    return listed if found.keys is None and found.ids is None else found


def _split(line: str) -> tuple[str, ...]:
    """The names in a single line; empty where it is one name."""
    mark = next((mark for mark in "\t|;," if mark in line), None)
    cells = [_bare(cell) for cell in line.split(mark)] if mark else []
    return tuple(cells) if all(cells) else ()


def _without_heading(rows: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The lines but a first one that is a heading, or the number of those that follow."""
    (_, first), rest = rows[0], rows[1:]
    is_count = first == str(len(rest)) and not all(line.isdecimal() for _, line in rest)
    if rest and (is_count or (_is_heading(first) and not any(_is_heading(r) for _, r in rest))):
        return rest
    return rows


def _is_heading(line: str) -> bool:
    words = _LETTERS.findall(line.lower())
    return not re.search(r"\d", line) and bool(words) and HEADINGS.issuperset(words)


def _of_tables(rows: list[tuple[int, str]]) -> ListedNames | None:
    """The lines as a table, where all have as many cells and a column of them counts."""
    for mark in "\t|;,":
        lines = rows
        if mark == "|":  # in Markdown they stand around a line, and dashes below the headings
            lines = [(n, line.strip("| ")) for n, line in rows if line.strip("|-: ")]
        cells = [(number, [_bare(c) for c in line.split(mark)]) for number, line in lines]
        width = len(cells[0][1]) if cells else 0
        if width > 1 and all(len(row) == width for _, row in cells):
            listed = find_names(cells)
            if listed is not None and listed.keys is not None:
                return listed
    return None


def _of_rows(rows: list[tuple[int, str]]) -> ListedNames:
    lines = [line for _, line in rows]
    bracketed = [match for line in lines if (match := _BRACKETED.fullmatch(line))]
    inner = [match[1].strip() for match in bracketed]
    keys, names = _split_indices(inner if len(inner) == len(lines) else lines)
    names = lines if keys is None else names
    ids, names = _split_synsets(names)
    if keys is None and ids is not None:
        keys, names = _split_indices(names)
    if keys is not None and len(lines) > 10 and lines == sorted(lines):
        _warn_of_text_order(keys)
    return ListedNames(
        names=tuple(names),
        keys=keys,
        ids=ids,
        where=lambda place: f"line {rows[place][0]}",
    )


def _split_indices(lines: Sequence[str]) -> tuple[tuple[str, ...] | None, Sequence[str]]:
    """The index in each line, and the rest of it; None where the numbers are part of the names.

    They are where they do not count the lines, unless it is clear what they were meant to do.
    """
    for pattern in (_FIRST, _LAST) if max(map(len, lines)) <= _LONGEST else ():
        matches = [match for line in lines if (match := pattern.fullmatch(line))]
        if len(matches) < len(lines) or len({(m["word"] or "").lower() for m in matches}) > 1:
            continue
        known = (matches[0]["word"] or "").lower() in _WORDS | {""}
        clear = all(m["bracket"] or _CLEARLY.search(m["between"]) for m in matches)
        apart = all(m["between"] or m["bracket"] for m in matches) and (
            known or (clear and all(m["gap"] for m in matches))
        )
        names = [_bare(m["name"]) for m in matches]
        numbers = [int(float(m["index"])) for m in matches]
        distinct = len(set(names)) > len(names) * _DISTINCT[pattern]
        counted = counts_from(numbers)
        if not apart:  # "2cedar": nothing else gives just these numbers, and in no order
            meant = counted == 0 and distinct and len(names) > 2 and numbers != sorted(numbers)
        elif counted is None:
            surely = (
                pattern is _FIRST and known and all(_SURELY.match(m["between"]) for m in matches)
            )
            meant = surely or (_almost_count(numbers) and (clear or (distinct and 0 in numbers)))
        else:
            meant = clear or distinct
        if meant and all(names):
            return tuple(m["index"] for m in matches), names
    return None, lines


def _almost_count(numbers: Sequence[int]) -> bool:
    """Whether numbers begin as indices do and are about as many, with a gap or one twice."""
    count = len(numbers)
    return count > 2 and min(numbers) <= 1 and count - 1 <= max(numbers) < 2 * count


def _split_synsets(lines: Sequence[str]) -> tuple[tuple[str, ...] | None, Sequence[str]]:
    """The synset at the start or end of each line, and the name beside it, or itself."""
    pairs = list(chain.from_iterable(map(_synset_and_name, lines)))
    if len(pairs) < len(lines):
        return None, lines
    return tuple(synset for synset, _ in pairs), [name or synset for synset, name in pairs]


def _synset_and_name(line: str) -> Iterator[tuple[str, str]]:
    for pattern in (
        rf"(?P<id>{SYNSET.pattern})(?:[\s,:;|=]+(?P<name>\S.*))?",
        rf"(?P<name>\S.*?)[\s,:;|=]+(?P<id>{SYNSET.pattern})",
    ):
        if match := re.fullmatch(pattern, line):
            yield match["id"], _bare(match["name"] or "")
            return


def _bare(text: str) -> str:
    """The name without the quotes around it."""
    text = text.strip().removesuffix(",").rstrip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].strip()
    return text


def _warn_of_text_order(keys: Sequence[str]) -> None:
    numbers = [int(float(key)) for key in keys]
    if numbers != sorted(numbers):
        warn(
            "the lines of the class names are sorted as text, and the numbers in them are not in"
            " order: taking each number as the output. If they are names of class folders, which"
            " ImageFolder numbers in the order of text, pass the folder that holds them instead",
            about="labels",
        )
