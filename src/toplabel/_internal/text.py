"""Text for people, and names of files as text that every program can read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

LONGEST_ON_A_PAGE = 1000

# Control characters, line separators, those that reorder the text around them, and surrogates,
# which are no characters; not the joiners (U+200C, U+200D) that scripts and emoji need.
_HIDDEN = "[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]"


def first_line(error: BaseException | str, *, named: bool = False) -> str:
    """The first line of an exception's message; the name of its class where it has none.

    Args:
        error: The exception, or its message alone.
        named: Put the name of its class before the line.
    """
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    name = "" if isinstance(error, str) else type(error).__name__
    return f"{name}: {line}" if named and line else line or name


def percent(share: float, digits: int = 1) -> str:
    """A share in words: 0.1234 is "12.3 %"."""
    return f"{100 * share:.{digits}f} %"


def number_of(number: int, one: str, many: str = "") -> str:
    """A number with its noun: "1 image", "1,200 images", "3 classes"."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def is_or_are(number: int) -> str:
    """The verb of so many."""
    return "is" if number == 1 else "are"


def printable(text: str) -> str:
    r"""`text` with what disturbs a terminal written out: `\n`, `\x1b`, `\xff` for a byte."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _written_out(c) for c in text)


def printable_lines(text: str) -> str:
    """The same, but for line ends and tabs, which stay."""
    return "".join(c if c in "\t\n" else printable(c) for c in text)


def visible(text: str) -> str:
    r"""`text` for a page, with invisible characters and undecodable bytes written out: "caf\xe9".

    A text longer than `LONGEST_ON_A_PAGE` loses its middle.
    """
    text = re.sub(_HIDDEN, lambda match: _written_out(match[0]), text)
    half = LONGEST_ON_A_PAGE // 2
    return text if len(text) <= 2 * half else f"{text[:half]} … {text[-half:]}"


def escape_name(name: str) -> str:
    r"""A file's name as text, also where it is no UTF-8: `caf\xe9.png`; `unescape_name` undoes it.

    Only a name that is no UTF-8, or that could be taken for an escaped one, is changed: each byte
    that is none is written `\xhh`, each backslash `\\`.
    """
    if _is_utf8(name) and not _ESCAPED.search(name):
        return name
    return written_out(name.replace("\\", "\\\\"))


def unescape_name(text: str) -> str:
    """The name that `escape_name` was given, with surrogate escapes, as `os` functions take it."""
    if not _is_utf8(text) or not _ESCAPED.search(text):
        return text

    def undo(match: re.Match[bytes]) -> bytes:
        return bytes.fromhex(match[1].decode()) if match[1] else b"\\"

    return os.fsdecode(re.sub(rb"\\(?:\\|x([0-9a-f]{2}))", undo, text.encode()))


def name_bytes(name: str) -> bytes:
    """A name's own bytes: those of the file system; a surrogate that is no byte has three."""
    try:
        return os.fsencode(name)
    except UnicodeEncodeError:  # no file has this name, but an object of a store may
        return name.encode("utf-8", "surrogatepass")


def written_out(text: str, *, in_json: bool = False) -> str:
    r"""`text` with what no encoding has written out: `\xff` for a byte, `\ud800` for a surrogate.

    Args:
        text: Any.
        in_json: It is JSON, in whose texts a backslash is two.
    """
    if _is_utf8(text):
        return text
    backslash = "\\\\" if in_json else "\\"
    return _SURROGATE.sub(lambda one: _written_out(one[0]).replace("\\", backslash), text)


def ascii_json(value: object, *, default: Callable[[Any], object] | None = None) -> str:
    """JSON in ASCII that every program reads: lone surrogates, which are no text, written out.

    Args:
        value: As `json.dumps` takes it.
        default: The same.
    """
    import json  # which `--help` does without

    text = json.dumps(value, default=default)
    if "\\ud" in text:  # half of a character, or both halves
        text = json.dumps(value, default=default, ensure_ascii=False)
        text = json.dumps(json.loads(written_out(text, in_json=True)))
    return text


def _is_utf8(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


_ESCAPED = re.compile(r"\\x[0-9a-f]{2}")
_SURROGATE = re.compile("[\ud800-\udfff]")


def text_width(text: str) -> int:
    """How many columns `text` takes on a terminal."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # 1 MB that most names do not need

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, width: int, *, keep_end: bool = False) -> str:
    """`text` in exactly `width` columns: padded, or cut with an ellipsis at one end."""
    if text_width(text) > width:
        while text_width(text) > width - 1:
            text = text[1:] if keep_end else text[:-1]
        text = f"…{text}" if keep_end else f"{text}…"
    return text + " " * (width - text_width(text))


def _written_out(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
