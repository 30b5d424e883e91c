"""Bombs: files that would cost a decoder minutes or gigabytes are refused before it begins."""

import io
import struct
import time
import zlib

import pytest
from PIL import Image

from toplabel.errors import ImageError
from toplabel.image.reading import read_image

MILLION = 1_000_000


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    head = (b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0))
    rows = zlib.compress(bytes(16 * 49))
    parts = []
    for kind, content in (head, *chunks, (b"IDAT", rows), (b"IEND", b"")):
        check = struct.pack(">I", zlib.crc32(kind + content))
        parts.append(struct.pack(">I", len(content)) + kind + content + check)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def gif(before: bytes) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0xF0, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + before + frame + b";"


def jpeg(before: bytes) -> bytes:
    file = io.BytesIO()
    Image.new("CMYK", (16, 16)).save(file, "JPEG")
    content = file.getvalue()
    return content[:2] + before + content[2:]


def tiff_of_one_tile(side: int) -> bytes:
    rows = zlib.compress(bytes(16))
    tags = [(256, 64), (257, 64), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side)]
    tags += [(324, 8 + 2 + 12 * 10 + 4), (325, len(rows))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, 10) + entries + bytes(4) + rows


PROFILE = (b"iCCP", b"a\0\0" + zlib.compress(bytes(900_000), 9))
BOMBS = {
    "png-text": png(*[(b"tEXt", b"a\0b")] * 100_000),
    "png-empty-pixels": png(*[(b"IDAT", b"")] * 100_000),
    "png-profiles": png(*[PROFILE] * 700),
    "gif-comments": gif(b"!\xfe\x01a\0" * 100_000),
    "gif-comment-of-short-blocks": gif(b"!\xfe" + b"\x01a" * MILLION + b"\0"),
    "gif-comment-of-long-blocks": gif(b"!\xfe" + (b"\xff" + bytes(255)) * 10_000 + b"\0"),
    "gif-loops": gif(b"!\xff\x0bNETSCAPE2.0\x03\1\0\0\0" * 100_000),
    "gif-nothing": gif(bytes(MILLION)),
    "jpeg-fill": jpeg(b"\xff" * 3 * MILLION),
    "ppm-comments": b"P3 1000 1000 255\n" + b"#\n" * MILLION,
    "tiff-tile": tiff_of_one_tile(32_768),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_by_what_can_be_counted(name: str):
    used = time.process_time()
    with pytest.raises(ImageError) as error:
        read_image(BOMBS[name])
    assert error.value.code in ("corrupt", "too_large")
    assert time.process_time() - used < 2.0


@pytest.mark.parametrize(
    "content",
    [
        png(*[(b"IDAT", b"")] * 10_000),
        png(*[(b"tEXt", b"a\0b")] * 1000),
        png(PROFILE),
        gif(b"!\xfe" + (b"\xff" + bytes(255)) * 1000 + b"\0"),
        gif(b"!\xfe\x01a\0" * 1000),
        jpeg(b"\xff" * 100_000),
        b"P3 2 1 255\n" + b"#\n" * 10_000 + b"1 2 3 4 5 6 ",
    ],
    ids=["png-pixels", "png-text", "png-profile", "gif-long", "gif-many", "jpeg", "ppm"],
)
def test_a_little_of_it_is_no_bomb(content: bytes):
    assert read_image(content).width >= 1


def test_an_animation_that_begins_with_nothing_is_looked_at_for_a_while_only():
    file = io.BytesIO()
    empty = Image.new("RGBA", (1000, 1000))
    empty.save(file, "GIF", save_all=True, append_images=[empty.copy() for _ in range(3)])
    content = file.getvalue()
    first = content.index(b"!\xf9")
    many = content[:first] + content[first:-1] * 400 + b";"
    used = time.process_time()
    assert read_image(many).width == 1000
    assert time.process_time() - used < 10.0
