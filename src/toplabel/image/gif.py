"""GIF: bombs of many blocks, told before Pillow reads them one by one."""

from __future__ import annotations

import io
from typing import BinaryIO

from toplabel.errors import ImageError

_MOST_BLOCKS = 20_000  # before the first frame; a comment of a page has a dozen
_MOST_COMMENTS = 1 << 20  # bytes: Pillow joins them again and again
_COUNTED_BYTES = 1 << 16  # smaller files cannot hold what takes long
_COLOURS, _FRAME, _EXTENSION, _COMMENT = 0x80, b",", b"!", b"\xfe"


def check_blocks(file: BinaryIO) -> None:
    """Refuse a file with more than any program writes before its first frame.

    Raises:
        ImageError: `corrupt`.
    """
    if file.seek(0, io.SEEK_END) < _COUNTED_BYTES:
        return
    file.seek(0)
    head = file.read(13)
    if len(head) == 13 and head[10] & _COLOURS:
        file.seek(3 << ((head[10] & 7) + 1), io.SEEK_CUR)
    blocks, comments = 0, 0
    while (kind := file.read(1)) and kind != _FRAME:
        blocks += 1
        is_comment = kind == _EXTENSION and file.read(1) == _COMMENT
        while kind == _EXTENSION and (length := file.read(1)) not in (b"", b"\0"):
            file.seek(length[0], io.SEEK_CUR)
            blocks += 1
            comments += length[0] if is_comment else 0
            if blocks > _MOST_BLOCKS:
                break
        if blocks > _MOST_BLOCKS or comments > _MOST_COMMENTS:
            raise ImageError("corrupt", "the GIF has more blocks than any program writes")
