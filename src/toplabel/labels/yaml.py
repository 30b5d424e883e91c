"""YAML as files of class names use it: lists and mappings of plain text, in blocks or in a line.

A whole parser would be a dependency of the base install. Nothing is taken for a number or a truth
but what is an index, so that a class may be called "no".
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from toplabel.errors import LabelsError

_KEY = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^\s'"#\[{,-][^:#]*?|\d+))\s*:(?:\s+(.*))?""")
_TOKEN = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[\[\]{},]|:(?=\s)|[^\[\]{},:]+)""")


def has_key(text: str, keys: Collection[str]) -> bool:
    """Whether the text is YAML with one of these keys, and something below it."""
    if not re.search(rf"^['\"]?(?:{'|'.join(keys)})['\"]?\s*:", text, re.MULTILINE):
        return False
    lines = [line for line in map(_without_comment, text.splitlines()) if line.strip()]
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        match = _KEY.fullmatch(line)
        if match is None or _text_of(match) not in keys or line[0].isspace():
            continue
        below = after[:1].isspace() or after.startswith("- ")
        return below if not match[4] else match[4].lstrip()[:1] in ("[", "{")
    return False


def parse(text: str) -> Any:
    """Its lists and mappings, with text in them.

    Raises:
        LabelsError: A line is neither an item nor a pair.
    """
    lines = [
        (number, cut)
        for number, line in enumerate(text.splitlines(), 1)
        if (cut := _without_comment(line)).strip() and cut.strip() not in ("---", "...")
    ]
    if not lines:
        raise LabelsError("it has no names; expected names: and a list of them")
    value, rest = _block(lines, _indent(lines[0][1]))
    if rest:
        raise LabelsError(f"line {rest[0][0]} is no YAML that is understood here")
    return value


Lines = list[tuple[int, str]]


def _block(lines: Lines, indent: int) -> tuple[Any, Lines]:
    """The list or mapping that begins at the first line, and the lines behind it."""
    if lines[0][1].lstrip()[:1] in ("[", "{"):
        return _flow(lines)
    items: list[Any] = []
    pairs: dict[str, Any] = {}
    is_list = _is_item(lines[0][1])
    while lines and _indent(lines[0][1]) == indent and _is_item(lines[0][1]) == is_list:
        number, line = lines[0]
        if is_list:
            item = line.lstrip()[1:]
            at = len(line) - len(item.lstrip())
            if item.strip() and _KEY.fullmatch(item):  # a mapping in the list
                value, lines = _block([(number, " " * at + item.lstrip()), *lines[1:]], at)
            else:
                value, lines = _value(item.strip(), lines, indent)
            items.append(value)
            continue
        match = _KEY.fullmatch(line)
        if match is None:
            raise LabelsError(f"line {number} is neither a list item nor a pair: {line.strip()!r}")
        key = _text_of(match)
        if key in pairs:
            raise LabelsError(f"the key {key!r} appears twice; expected each once")
        pairs[key], lines = _value((match[4] or "").strip(), lines, indent)
    return items if is_list else pairs, lines


def _value(text: str, lines: Lines, indent: int) -> tuple[Any, Lines]:
    """What stands behind a key or a dash, in its line or below it."""
    if text[:1] in ("[", "{"):
        return _flow([(lines[0][0], text), *lines[1:]])
    rest = lines[1:]
    if text:
        return _plain(text), rest
    if rest:
        below = _indent(rest[0][1])
        if below > indent or (below == indent and _is_item(rest[0][1])):
            return _block(rest, below)
    return "", rest


def _flow(lines: Lines) -> tuple[Any, Lines]:
    """[a, b] or {0: a, 1: b}, over as many lines as it needs."""
    text, depth = "", 0
    for used, (_, line) in enumerate(lines, 1):
        text += " " + line.strip()
        tokens = _TOKEN.findall(text)
        depth = sum(t in "[{" for t in tokens) - sum(t in "]}" for t in tokens)
        if depth <= 0:
            value, _ = _flow_value([token.strip() for token in tokens if token.strip()])
            return value, lines[used:]
    raise LabelsError(f"line {lines[0][0]} opens a bracket that is not closed")


def _flow_value(tokens: list[str]) -> tuple[Any, list[str]]:
    if not tokens:
        raise LabelsError("a list in brackets ends too early")
    opened, tokens = tokens[0], tokens[1:]
    if opened not in ("[", "{"):
        while tokens and tokens[0] not in (",", "]", "}", ":"):
            opened, tokens = f"{opened}{tokens[0]}", tokens[1:]
        return _plain(opened), tokens
    items: list[Any] = []
    pairs: dict[str, Any] = {}
    while tokens and tokens[0] not in ("]", "}"):
        if tokens[0] == ",":
            tokens = tokens[1:]
            continue
        value, tokens = _flow_value(tokens)
        if tokens and tokens[0] == ":" and isinstance(value, str):
            if value in pairs:
                raise LabelsError(f"the key {value!r} appears twice; expected each once")
            pairs[value], tokens = _flow_value(tokens[1:])
        else:
            items.append(value)
    return pairs if opened == "{" else items, tokens[1:]


def _plain(text: str) -> str:
    """A scalar, without its quotes."""
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1].replace('\\"', '"')
    return text


def _text_of(match: re.Match[str]) -> str:
    return next(group for group in match.groups()[:3] if group is not None)


def _is_item(line: str) -> bool:
    return line.lstrip().startswith("- ") or line.strip() == "-"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _without_comment(line: str) -> str:
    """The line up to a `#` that begins a comment, and without anchors and tags."""
    line = re.sub(r"(:|-)\s+(?:[&!][\w!]+\s*)+(?=$|[\[{])", r"\1 ", line)
    quote = ""
    for at, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'" and (at == 0 or line[at - 1] in " [{,:-"):
            quote = character
        elif character == "#" and (at == 0 or line[at - 1].isspace()):
            return line[:at].rstrip()
    return line.rstrip()
