"""Protobuf: the bytes of a message in, its fields out. Nothing is copied."""

from __future__ import annotations

from collections.abc import Iterator

MAX_FIELDS = 1_000_000
"""In one file. EfficientNet-Lite0 has 3,400; a hostile file could be read for minutes."""

_FIXED_SIZES = {1: 8, 5: 4}  # wire type -> bytes


class Fields:
    """Reads messages of one file, and counts, so that a hostile file ends early."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def read(self, message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Each field of a message: its number, and an int or the bytes it holds.

        Raises:
            ValueError: These are not the bytes of a message, or there are too many fields.
        """
        position, end = 0, len(message)
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"more than {MAX_FIELDS:,} fields")
            tag, position = _varint(message, position)
            number, wire_type = tag >> 3, tag & 7
            if number == 0:
                raise ValueError("a field has the number 0")
            if wire_type == 0:
                value, position = _varint(message, position)
                yield number, value
                continue
            if wire_type == 2:
                size, position = _varint(message, position)
            elif wire_type in _FIXED_SIZES:
                size = _FIXED_SIZES[wire_type]
            else:
                raise ValueError(f"a field has the wire type {wire_type}")
            if size > end - position:
                raise ValueError("it ends in the middle of a field")
            yield number, message[position : position + size]
            position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """The number that starts at `position`, and where it ends."""
    value = shift = 0
    while position < len(message) and shift < 64:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number does not end")
