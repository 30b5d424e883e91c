"""Lists: text in any encoding in, the sources that it names out, each once."""

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import toplabel
from run_material import draw_colours, local_predictor, read_csv, read_jsonl
from toplabel._internal.text_table import as_text, encoding_of
from toplabel.errors import ImageError, UsageError
from toplabel.runs.readers import lists
from toplabel.runs.readers.inputs import list_entries


def entries(path: Path, **options: Any) -> list[tuple[str, str | None]]:
    """Name and error code of each entry."""
    found = list_entries([str(path)], **options)
    return [(entry.name, entry.problem and entry.problem.code) for entry in found]


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8", "utf-8-sig"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_of_every_system(tmp_path: Path, encoding: str, end: str) -> None:
    lines = ["photos/é 1.png", "图.png", *(f"photos/{number}.png" for number in range(60))]
    (tmp_path / "a.txt").write_bytes(end.join(lines).encode(encoding))
    table = end.join(["path,n", *(f"{line},1" for line in lines)])
    (tmp_path / "a.csv").write_bytes(table.encode(encoding))
    wanted = [(line, None) for line in lines]
    assert entries(tmp_path / "a.txt") == entries(tmp_path / "a.csv") == wanted


def test_names_that_end_in_nuls_as_find_writes_them(tmp_path: Path) -> None:
    names = [b"a.png", b"two\nlines.png", b"\xff.png", b"b.png"]
    (tmp_path / "a.txt").write_bytes(b"\0".join(names) + b"\0")
    assert [os.fsencode(name) for name, _ in entries(tmp_path / "a.txt")] == names


@pytest.mark.parametrize(
    "text",
    [
        "path;id\na.png;1,5\nb.png;2\n",
        "sep=;\nid;path\n1;a.png\n2;b.png\n",
        "id\tpath\n1\ta.png\n2\tb.png\n",
    ],
)
def test_the_delimiters_of_spreadsheets(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert entries(tmp_path / "a.csv") == [("a.png", None), ("b.png", None)]


def test_a_missing_quote_loses_no_row_in_silence(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('path,n\na.png,1\n"b.png,2\nc.png,3\nd.png,4\n')
    first, second = entries(tmp_path / "a.csv")
    assert (first, second) == (("a.png", None), (f"{tmp_path}/a.csv#3", "not_found"))
    summary = toplabel.run(tmp_path / "a.csv", tmp_path / "o.jsonl", model=local_predictor())
    assert summary.failed == 2
    assert "is a quote missing?" in read_jsonl(tmp_path / "o.jsonl")[1]["error"]["message"]


@pytest.mark.parametrize("suffix", ["txt", "csv", "jsonl"])
def test_lines_without_end_are_cut_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(lists, "_MOST_CHARACTERS", 100)
    path, long = tmp_path / f"a.{suffix}", "x" * 350
    if suffix == "csv":
        path.write_text(f'path\na.png\n"{long}\n{long}"\nb.png\n')
        assert entries(path)[1] == (str(path), "corrupt")
        return
    quoted = [json.dumps(one) if suffix == "jsonl" else one for one in ("a.png", long, "b.png")]
    path.write_text("\n".join(quoted))
    assert entries(path) == [("a.png", None), (f"{path}#2", "too_large"), ("b.png", None)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(9000), "a file of zeros"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + bytes(99), "a JPEG image"),
        (b"<!DOCTYPE html><html><title>404</title></html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        entries(tmp_path / "a.txt")


def test_a_list_that_fails_in_the_middle_is_a_record_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(io.RawIOBase):
        at = 0

        def __init__(self, file: object) -> None: ...

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            if self.at:
                raise ImageError("fetch_failed", "the store has gone")
            self.at = 1
            buffer[:12] = b"a.png\nb.png\n"
            return 12

    monkeypatch.setattr(lists, "FileObject", Failing)
    (tmp_path / "a.txt").write_text("a.png\n")
    found = list(list_entries([str(tmp_path / "a.txt"), *draw_colours(tmp_path, 1)]))
    assert [entry.problem and entry.problem.code for entry in found[:3]] == [
        *(None, None, "fetch_failed"),
    ]
    assert found[3].name.endswith("00000.png")


ODD = ["\ud800.png", "a\udfffb.png", "\udcff.png", "a\0b.png", "x\ny.png", "", "a::b.png"]
ODD += ["zip://a.png::file:///nope.zip", "\ud800.zip", "a\0.tar", "memory://a/\ud800.png"]
ODD += ["github://x/y.png", "http://[::1/x.png", "x" * 5000 + ".png", "file:///\0.png"]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_names_that_no_file_can_have_are_records_in_every_format(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("toplabel.runs.run.WAITS", ())
    good = draw_colours(tmp_path / "photos", 2)
    lines = [json.dumps(name) + "\n" for name in [good[0], *ODD, good[1]]]
    (tmp_path / "list.jsonl").write_text("".join(lines))
    output = tmp_path / f"a.{suffix}"
    summary = toplabel.run(
        tmp_path / "list.jsonl",
        output,
        model=local_predictor(),
        copy_to=tmp_path / "sorted",
        report=tmp_path / "a.html",
    )
    empty = ODD.count("")  # a JSON text that names nothing is a record, too
    assert (summary.inputs, summary.labelled) == (len(ODD) + 2, 2)
    assert set(summary.errors) == {"not_found", "fetch_failed"}
    assert empty == 1
    if suffix == "csv":
        assert read_csv(output)[1]["source"] == "\\ud800.png"


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_are_text_or_a_named_error(content: bytes) -> None:
    try:
        with as_text(io.BytesIO(content), content[:4096]) as file:
            text = file.read()
    except UnicodeDecodeError:
        assert encoding_of(content) not in ("utf-8-sig", "utf-8")
        return
    assert isinstance(text, str)


def test_a_list_leaves_the_processs_limit_of_cells_as_it_was(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text(f"path,note\na.jpg,{'x' * 200_000}\n")
    before = csv.field_size_limit()
    assert [entry.name for entry in list_entries([str(table)])] == ["a.jpg"]
    assert csv.field_size_limit() == before
