"""Text that others chose goes in, text that shows all there is in it comes out."""

from __future__ import annotations

import re

MAX_CHARACTERS = 1000
"""Of a name, a label or a message on the page."""

# Control characters, line separators, those that reorder the text around them, and surrogates,
# which are no characters; not the joiners (U+200C, U+200D) that scripts and emoji need.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]"
)


def visible(text: str) -> str:
    r"""The text with invisible characters and undecodable bytes as escapes: "a\nb", "caf\xe9".

    A text longer than `MAX_CHARACTERS` loses its middle.
    """
    text = _HIDDEN.sub(_escape, text)
    if len(text) <= MAX_CHARACTERS:
        return text
    half = MAX_CHARACTERS // 2
    return f"{text[:half]} … {text[-half:]}"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8 (`os.fsdecode`)
        return f"\\x{code - 0xDC00:02x}"
    return ascii(match[0])[1:-1]
