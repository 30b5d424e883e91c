"""What a file is that was taken for another: each kind in the same words for images and models."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from toplabel._internal.mistaken import mistaken_for
from toplabel.bundle.file import describe_packed
from toplabel.bundle.onnx_import import describe_onnx
from toplabel.errors import ToplabelError
from toplabel.image.reading import read_image
from toplabel.models.checkpoint.header import read_checkpoint_info

KINDS = {
    "a Git LFS pointer": [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"],
    "a web page": [
        b"\n<!DOCTYPE html><html>",
        b"\xef\xbb\xbf<HTML lang=en>",
        b"<!-- saved from url --><!--\n--> <html>",
        b"<?xml version='1.0'?>\n<!DOCTYPE html PUBLIC>",
        b"<title>404 Not Found</title>",
    ],
    "an XML document": [b"<?xml version='1.0'?><Error>AccessDenied</Error>"],
    "an empty file": [b"\n"],
}
READERS = (read_image, read_checkpoint_info, describe_packed, describe_onnx)


@pytest.mark.parametrize(("kind", "start"), [(k, s) for k, starts in KINDS.items() for s in starts])
@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_whoever_reads_it_says_the_same(
    read: Callable[[Path], object], kind: str, start: bytes, tmp_path: Path
) -> None:
    (tmp_path / "file.bin").write_bytes(start)
    words = mistaken_for(start)
    assert words is not None
    assert words.startswith(kind)
    with pytest.raises(ToplabelError, match=re.escape(words)):
        read(tmp_path / "file.bin")


@pytest.mark.parametrize(
    "start", [b"\x89PNG", b"<?xml?><svg>", b"<svg>", b"{}", b"cat\n", b"<header>\n", b"<body_part>"]
)
def test_what_it_may_well_be_is_left_to_the_reader(start: bytes) -> None:
    assert mistaken_for(start) is None


def test_many_comments_take_no_time() -> None:
    assert mistaken_for(b"<!---->" * 600) is None
