"""The directory of a zip file, as zipfile writes it and as nobody should."""

import io
import random
import zipfile
from collections.abc import Callable

import pytest

from toplabel._internal.zip_directory import (
    NoDirectory,
    ZipError,
    data_start,
    find_directory,
    locate_stored,
    read_members,
)

CONTENTS = {"a.txt": b"first", "folder/b.txt": b"", "ä.txt": b"third" * 100}


def made(method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in CONTENTS.items():
            archive.writestr(name, content)
        archive.comment = comment
    return file.getvalue()


def reader(content: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, size: content[offset : offset + size]


def found(content: bytes) -> dict[str, bytes]:
    """The stored members and what they hold."""
    read_at = reader(content)
    directory = find_directory(read_at, len(content))
    members = list(read_members(read_at, directory))
    assert all(member.is_stored for member in members)
    extents = locate_stored(read_at, members, directory)
    return {
        name.decode(): content[extent.start : extent.start + extent.size]
        for name, extent in extents.items()
    }


def test_members_are_found_where_they_stand() -> None:
    content = made()
    assert found(content) == CONTENTS
    assert find_directory(reader(content), len(content)).plain


@pytest.mark.parametrize(
    ("before", "comment", "after"),
    [
        (b"#!/bin/sh\n", b"", b""),
        (b"", b"a comment", b""),
        (b"", b"", b"\0" * 9),
        (b"x", b"y", b""),
    ],
)
def test_what_stands_around_an_archive_is_noticed_and_no_harm(
    before: bytes, comment: bytes, after: bytes
) -> None:
    content = before + made(comment=comment) + after
    directory = find_directory(reader(content), len(content))
    assert not directory.plain
    assert directory.shift == len(before)
    assert found(content) == CONTENTS


def test_large_archives_have_a_second_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    content = made()
    assert b"PK\6\6" in content
    assert found(content) == CONTENTS
    at = content.rindex(b"PK\5\6") + 10
    other = content[:at] + b"\7\0" + content[at + 2 :]
    with pytest.raises(ZipError, match="differ"):
        find_directory(reader(other), len(other))


def test_compressed_members_are_not_stored() -> None:
    content = made(zipfile.ZIP_DEFLATED)
    members = read_members(reader(content), find_directory(reader(content), len(content)))
    assert [member.is_stored for member in members] == [False] * 3


@pytest.mark.parametrize(
    "content", [b"", b"PK\5\6", b"no archive at all, but a long text", made()[:-1]]
)
def test_what_has_no_directory_is_told_apart(content: bytes) -> None:
    with pytest.raises(NoDirectory, match="missing"):
        find_directory(reader(content), len(content))


def test_a_local_header_that_disagrees_is_refused() -> None:
    content = made().replace(b"a.txt", b"b.txt", 1)
    with pytest.raises(ZipError, match=r"'a.txt' is not where its directory says"):
        found(content)
    with pytest.raises(ZipError, match="a member is not where"):
        data_start(reader(content), 3)


def test_members_before_the_damage_are_given() -> None:
    content = bytearray(made())
    content[content.rindex(b"PK\1\2")] = 0
    read_at = reader(bytes(content))
    members = read_members(read_at, find_directory(read_at, len(content)))
    assert next(members).name == b"a.txt"
    assert next(members).name == b"folder/b.txt"
    with pytest.raises(ZipError, match="damaged"):
        next(members)


def test_damaged_bytes_end_in_no_other_error() -> None:
    rng = random.Random(0)
    whole = made(comment=b"x")
    for _ in range(3000):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 3, 20))):
            content[rng.randrange(len(content))] = rng.choice((0, 1, 0x50, 0xFF))
        try:
            read_at = reader(bytes(content))
            directory = find_directory(read_at, len(content))
            members = list(read_members(read_at, directory))
            extents = locate_stored(read_at, [m for m in members if m.is_stored], directory)
        except ZipError:
            continue
        assert all(e.start + e.size <= directory.start for e in extents.values())
