"""Readers: lists, archives, tables and remote stores in, entries out, and their bytes."""

import gzip
import io
import json
import os
import pickle
import tarfile
import threading
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import toplabel
from containers import IMAGES, write_parquet, write_tar, write_zip
from run_material import colour_bytes, draw_colours, local_predictor, read_jsonl
from toplabel.errors import ImageError, RunError, UsageError
from toplabel.image.options import ReadOptions
from toplabel.runs.entry import Entry
from toplabel.runs.readers.inputs import ArchiveMember, list_entries, open_source, stamp


def names(*inputs: str | Path, **options: Any) -> list[str]:
    return [entry.name for entry in list_entries([str(i) for i in inputs], **options)]


def contents(*inputs: str | Path, **options: Any) -> list[bytes]:
    return [
        source.read()
        for source in map(open_source, list_entries([str(i) for i in inputs], **options))
        if isinstance(source, ArchiveMember)
    ]


def read_or_code(member: ArchiveMember) -> bytes | str:
    try:
        return member.read()
    except ImageError as error:
        return error.code


# Local files and lists


def test_a_folder_gives_its_images_sorted(tmp_path: Path) -> None:
    draw_colours(tmp_path / "a" / "b", 2)
    draw_colours(tmp_path / "a", 1)
    (tmp_path / "a" / "notes.txt").write_text("x")
    assert [Path(n).relative_to(tmp_path).as_posix() for n in names(tmp_path / "a")] == [
        "a/00000.png",
        "a/b/00000.png",
        "a/b/00001.png",
    ]


def test_an_empty_folder_and_a_pattern_without_matches_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no images in the folder"):
        names(tmp_path)
    with pytest.raises(UsageError, match="nothing matches"):
        names(tmp_path / "*.jpg")


@pytest.mark.parametrize(
    ("suffix", "text", "column"),
    [
        ("txt", "{0}\n\n{1}\n", None),
        ("txt", "{0}\r\n{1}", None),
        ("csv", 'id,path\n1,"{0}"\n2,{1}\n', None),
        ("csv", "\ufeffpath,id\n{0},1\n{1},2\n", None),
        ("tsv", "id\twhere\n1\t{0}\n2\t{1}\n", "where"),
        ("jsonl", '{{"source": "{0}"}}\n\n{{"source": "{1}", "k": 1}}\n', None),
        ("ndjson", '{{"x": "{0}"}}\n{{"x": "{1}"}}\n', "x"),
        ("jsonl", '"{0}"\n"{1}"\n', None),
    ],
)
def test_lists_name_sources(tmp_path: Path, suffix: str, text: str, column: str | None) -> None:
    paths = draw_colours(tmp_path / "photos", 2)
    (tmp_path / f"list.{suffix}").write_text(text.format(*paths), encoding="utf-8", newline="")
    assert names(tmp_path / f"list.{suffix}", column=column) == paths


def test_a_list_may_name_folders_archives_and_names_that_are_not_text(tmp_path: Path) -> None:
    draw_colours(tmp_path / "photos", 2)
    write_tar(tmp_path / "a.tar")
    lines = [os.fsencode(tmp_path / "photos"), os.fsencode(tmp_path / "a.tar"), b"\xff.png"]
    (tmp_path / "list.txt").write_bytes(b"\n".join(lines))
    found = names(tmp_path / "list.txt")
    assert len(found) == 2 + 7 + 1
    assert os.fsencode(found[-1]) == b"\xff.png"


def test_lines_that_name_nothing_are_records_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"source": "a.png"}\n{"x": 1}\nnonsense\n[1]\n')
    found = list(list_entries([str(tmp_path / "a.jsonl")]))
    assert [e.kind for e in found] == ["path", "problem", "problem", "problem"]
    assert found[2].problem is not None
    assert "line 3 is not a JSON object" in found[2].problem.message
    (tmp_path / "b.txt").write_text("a.png\nother.txt\n")
    assert [e.kind for e in list_entries([str(tmp_path / "b.txt")])] == ["path", "problem"]


@pytest.mark.parametrize(
    ("name", "text", "column", "error", "message"),
    [
        ("a.txt", "\n\n", None, UsageError, "is empty"),
        ("a.csv", "", None, UsageError, "is empty"),
        ("a.csv", "id,x\n1,2\n", None, UsageError, "its columns are 'id', 'x'"),
        ("a.csv", "path\n1\n", "nope", UsageError, "no column 'nope'"),
        ("b.txt", None, None, RunError, "no such file"),
    ],
)
def test_lists_that_cannot_be_used_are_refused(
    tmp_path: Path,
    name: str,
    text: str | None,
    column: str | None,
    error: type[Exception],
    message: str,
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match=message):
        names(tmp_path / name, column=column)


# Archives


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_tars_give_their_images_in_order(tmp_path: Path, suffix: str, kind: int) -> None:
    mode = {"tar": "w", "tgz": "w:gz"}.get(suffix, f"w:{suffix[4:]}")
    path = write_tar(tmp_path / f"a.{suffix}", mode, format=kind)
    assert names(path) == [f"{path}#{name}" for name in IMAGES]
    assert contents(path) == list(IMAGES.values())
    backwards = [open_source(e) for e in reversed(list(list_entries([str(path)])))]
    assert [m.read(9) for m in backwards if isinstance(m, ArchiveMember)] == [
        content[:9] for content in reversed(IMAGES.values())
    ]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips_give_their_images_in_order(tmp_path: Path, compression: int) -> None:
    path = write_zip(tmp_path / "a.zip", compression)
    assert names(path) == [f"{path}#{name}" for name in IMAGES]
    assert contents(path) == list(IMAGES.values())


def test_members_may_be_read_by_many_threads_and_elsewhere(tmp_path: Path) -> None:
    for path in (write_tar(tmp_path / "a.tar.gz", "w:gz"), write_zip(tmp_path / "a.zip")):
        members = [open_source(e) for e in list_entries([str(path)])]
        found: dict[int, bytes] = {}

        def read(place: int, member: Any, found: dict[int, bytes] = found) -> None:
            found[place] = pickle.loads(pickle.dumps(member)).read()

        threads = [
            threading.Thread(target=read, args=(n, members[n % 7])) for n in reversed(range(70))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [found[n] for n in range(70)] == list(IMAGES.values()) * 10


def test_long_names_and_names_that_are_not_text_survive(tmp_path: Path) -> None:
    long = "x/" * 100 + os.fsdecode(b"\xff\n") + "y" * 90 + ".png"
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(tmp_path / "a.tar", "w", format=kind) as archive:
            info = tarfile.TarInfo(long)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
        assert names(tmp_path / "a.tar") == [f"{tmp_path}/a.tar#{long}"]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_a_tar_cut_short_gives_what_can_be_read_and_says_so(tmp_path: Path, suffix: str) -> None:
    whole = write_tar(tmp_path / f"a.{suffix}", "w" if suffix == "tar" else "w:gz")
    content = whole.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    for length in range(1, len(content) - (0 if suffix == "tar.gz" else 10240), 97):
        cut.write_bytes(content[:length])
        found = list(list_entries([str(cut)]))
        assert found[-1].kind == "problem", length
        assert found[-1].name == str(cut)
        assert found[-1].problem is not None
        assert found[-1].problem.code in ("truncated", "corrupt")
        for place, (entry, wanted) in enumerate(zip(found, IMAGES.values(), strict=False)):
            source = open_source(entry)
            if entry.problem is None and isinstance(source, ArchiveMember):
                assert read_or_code(source) in (wanted, "truncated")
                assert read_or_code(source) == wanted or place == len(found) - 2


def test_links_in_a_tar_are_records_that_say_so(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind in (tarfile.LNKTYPE, tarfile.SYMTYPE):
            info = tarfile.TarInfo("link.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    found = list(list_entries([str(tmp_path / "a.tar")]))
    assert [e.problem and e.problem.code for e in found] == ["unsupported_format"] * 2


def test_a_zip_that_is_encrypted_or_oddly_compressed_says_so(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\1\2", 0, content.rindex(b"PK\1\2"))
    content[at + 8] |= 1
    first = content.index(b"PK\1\2")
    content[first + 10] = 99
    path.write_bytes(content)
    problems = [e.problem.message for e in list_entries([str(path)]) if e.problem]
    assert any("compressed by method 99" in text for text in problems)
    assert any("encrypted" in text for text in problems)


def test_a_zip_bomb_is_not_inflated_beyond_what_is_asked_for(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(200 << 20))
    (source,) = map(open_source, list_entries([str(tmp_path / "a.zip")]))
    assert isinstance(source, ArchiveMember)
    tracemalloc.start()
    assert len(source.read(1000)) == 1000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_large_zips_have_zip64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    path = write_zip(tmp_path / "a.zip")
    assert b"PK\6\6" in path.read_bytes()
    assert contents(path) == list(IMAGES.values())


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip", "a.parquet"])
@pytest.mark.parametrize(
    ("content", "codes"),
    [(None, {"not_found"}), (b"", {"empty", "corrupt", "truncated"}), (b"no archive" * 99, None)],
)
def test_what_is_no_archive_is_one_record(
    tmp_path: Path, name: str, content: bytes | None, codes: set[str] | None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    (entry,) = list_entries([str(tmp_path / name)])
    assert entry.problem is not None
    assert entry.problem.code in (codes or {"corrupt", "truncated"})
    assert name in entry.problem.message


@pytest.mark.parametrize("make", [write_tar, write_zip])
def test_an_archive_that_was_rewritten_is_no_longer_read(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path / ("a.tar" if make is write_tar else "a.zip"))
    entries = list(list_entries([str(path)]))
    path.write_bytes(path.read_bytes() + b" ")
    source = open_source(entries[0])
    assert isinstance(source, ArchiveMember)
    with pytest.raises(ImageError, match="has changed since"):
        source.read()


@settings(max_examples=400)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["tar", "tar.gz", "zip", "parquet"]))
def test_damaged_archives_give_records_and_nothing_worse(
    seed: int, kind: str, archives: Callable[[str], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    chance = np.random.default_rng(seed)
    content = bytearray(archives(kind))
    for _ in range(int(chance.integers(1, 6))):
        content[int(chance.integers(len(content)))] = int(chance.integers(256))
    if chance.random() < 0.2:
        del content[int(chance.integers(len(content))) :]
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind}"
    path.write_bytes(content)
    try:
        entries = list(list_entries([str(path)]))
    except UsageError:  # a table whose column is no longer one of images
        assert kind == "parquet"
        return
    assert len(entries) < 100
    for entry in entries[:10]:
        source = open_source(entry)
        if entry.problem is None and isinstance(source, ArchiveMember):
            try:
                assert len(source.read(1 << 20)) <= 1 << 20
            except ImageError:
                continue


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    folder = tmp_path_factory.mktemp("archives")
    whole = {
        "tar": write_tar(folder / "a.tar").read_bytes(),
        "tar.gz": write_tar(folder / "a.tar.gz", "w:gz").read_bytes(),
        "zip": write_zip(folder / "a.zip").read_bytes(),
        "parquet": write_parquet(folder / "a.parquet").read_bytes(),
    }
    return lambda kind: whole[kind]


# Parquet


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_gives_every_row(tmp_path: Path, struct: bool) -> None:
    path = write_parquet(tmp_path / "a.parquet", struct=struct)
    assert names(path) == [f"{path}#{n}" for n in range(7)]
    assert contents(path) == list(IMAGES.values())
    backwards = [open_source(e) for e in reversed(list(list_entries([str(path)])))]
    found = [m.read(5) for m in backwards if isinstance(m, ArchiveMember)]
    assert found == [content[:5] for content in reversed(IMAGES.values())]


def test_parquet_without_images_names_its_columns(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": [1], "name": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="its columns are id, name"):
        names(tmp_path / "a.parquet")
    path = write_parquet(tmp_path / "b.parquet", thumb=[b"x"] * 7)
    assert len(names(path)) == 7  # "image" is the usual one
    assert contents(path, column="thumb") == [b"x"] * 7
    with pytest.raises(UsageError, match="columns with images: image, thumb"):
        names(path, column="id")
    pq.write_table(pa.table({"a": [b"x"], "b": [b"y"]}), tmp_path / "c.parquet")
    with pytest.raises(UsageError, match=r"several columns.*a, b.*column="):
        names(tmp_path / "c.parquet")


def test_rows_with_a_path_alone_and_with_nothing(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    (path,) = draw_colours(tmp_path, 1)
    rows = [{"bytes": None, "path": path}, {"bytes": None, "path": None}, None]
    pq.write_table(
        pa.table(
            {"image": pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}
        ),
        tmp_path / "a.parquet",
    )
    sources = [open_source(e) for e in list_entries([str(tmp_path / "a.parquet")])]
    first, second, third = (s for s in sources if isinstance(s, ArchiveMember))
    assert first.read() == Path(path).read_bytes()
    for one in (second, third):
        with pytest.raises(ImageError, match="no image") as caught:
            one.read()
        assert caught.value.code == "empty"


# Remote stores


def test_memory_urls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for name, content in IMAGES.items():
        memory.pipe(f"/bucket/{name}", content)
    memory.pipe("/bucket/notes.txt", b"x")
    memory.pipe("/bucket/a.zip", write_zip(tmp_path / "a.zip").read_bytes())
    wanted = sorted(f"memory:///bucket/{name}" for name in IMAGES)
    assert names("memory://bucket/") == wanted
    assert names("memory://bucket/**/*.png") == wanted
    assert names("memory://bucket/1/*.png") == [w for w in wanted if "/1/" in w]
    assert names("memory://bucket/0/000.png") == wanted[:1]
    assert contents("memory://bucket/a.zip") == list(IMAGES.values())
    (tmp_path / "list.txt").write_text("memory://bucket/0/000.png\n")
    assert contents(tmp_path / "list.txt") == [IMAGES["0/000.png"]]
    with pytest.raises(UsageError, match="there is no image at"):
        names("memory://bucket/*.gif")
    (gone,) = map(open_source, list_entries(["memory://bucket/none.png"]))
    assert isinstance(gone, ArchiveMember)
    with pytest.raises(ImageError) as caught:
        gone.read()
    assert caught.value.code == "not_found"


def test_file_urls_and_chains(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    draw_colours(tmp_path / "photos", 2)
    write_zip(tmp_path / "a.zip")
    assert names(f"file://{tmp_path}/photos") == [
        f"file://{tmp_path}/photos/{n:05d}.png" for n in range(2)
    ]
    found = names(f"zip://*/*.png::file://{tmp_path}/a.zip")
    assert found == sorted(f"zip://{name}::file://{tmp_path}/a.zip" for name in IMAGES)
    assert contents(f"zip://0/000.png::file://{tmp_path}/a.zip") == [IMAGES["0/000.png"]]


def test_an_unknown_protocol_is_one_line() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(UsageError, match="cannot open 'floppy://a/b.jpg'"):
        names("floppy://a/b.jpg")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a real S3 server on the loopback address, as the environment names it."""
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", "key-that-is-secret")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    yield "photos"
    patch.undo()
    server.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_real_s3_server_gives_objects_patterns_and_archives(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    monkeypatch.setattr("toplabel.runs.run.WAITS", (0.0,))  # one is not there

    store = s3fs.S3FileSystem()
    store.mkdir(bucket)
    for name, content in IMAGES.items():
        store.pipe(f"{bucket}/2024/{name}", content)
    store.pipe(f"{bucket}/2024/empty.png", b"")
    store.pipe(f"{bucket}/a.tar", write_tar(tmp_path / "a.tar").read_bytes())
    store.pipe(f"{bucket}/a.tar.gz", write_tar(tmp_path / "a.tar.gz", "w:gz").read_bytes())
    store.pipe(f"{bucket}/a.parquet", write_parquet(tmp_path / "a.parquet").read_bytes())
    wanted = sorted([*(f"s3://{bucket}/2024/{n}" for n in IMAGES), f"s3://{bucket}/2024/empty.png"])
    assert names(f"s3://{bucket}/2024/**/*.png") == wanted
    assert names(f"s3://{bucket}/2024/") == wanted
    assert contents(f"s3://{bucket}/2024/0/*.png") == [
        content for name, content in IMAGES.items() if name.startswith("0/")
    ]
    for name in ("a.tar", "a.tar.gz", "a.parquet"):
        assert contents(f"s3://{bucket}/{name}") == list(IMAGES.values())
    summary = toplabel.run(
        [f"s3://{bucket}/2024/**/*.png", f"s3://{bucket}/a.tar", f"s3://{bucket}/none.png"],
        tmp_path / "a.jsonl",
        model=local_predictor(),
    )
    assert summary.inputs == 8 + 7 + 1
    assert summary.errors == {"empty": 1, "not_found": 1}
    (problem,) = list_entries(["s3://no-such-bucket/**/*.png"])
    assert problem.problem is not None
    assert "secret" not in problem.problem.message


# Runs over all of them


def test_a_run_takes_archives_and_tables_as_it_takes_files(tmp_path: Path) -> None:
    inputs = [
        write_tar(tmp_path / "a.tar"),
        write_tar(tmp_path / "b.tar.gz", "w:gz"),
        write_zip(tmp_path / "c.zip"),
        write_parquet(tmp_path / "d.parquet"),
    ]
    (tmp_path / "cut.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:1500])
    summary = toplabel.run(
        [*inputs, tmp_path / "cut.tar"], tmp_path / "a.jsonl", model=local_predictor()
    )
    records = read_jsonl(tmp_path / "a.jsonl")
    expected = ["red", "green", "blue", "red", "green", "blue", "red"]
    assert [r["label"] for r in records[:28]] == expected * 4
    assert records[-1]["error"]["code"] == "truncated"
    assert records[-1]["source"] == str(tmp_path / "cut.tar")
    assert summary.failed == 1
    again = toplabel.run(
        [*inputs, tmp_path / "cut.tar"], tmp_path / "a.jsonl", model=local_predictor()
    )
    assert again.new == 0


def test_a_run_over_an_archive_that_was_rewritten_does_not_resume(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar")
    toplabel.run(tmp_path / "a.tar", tmp_path / "a.jsonl", model=local_predictor())
    write_tar(tmp_path / "a.tar", format=tarfile.GNU_FORMAT)
    with pytest.raises(RunError, match="rewritten.*restart=True"):
        toplabel.run(tmp_path / "a.tar", tmp_path / "a.jsonl", model=local_predictor())


def test_only_unreadable_inputs_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"?")
    with pytest.raises(RunError, match="a.tar"):
        toplabel.run(tmp_path / "a.tar", tmp_path / "a.jsonl", model=local_predictor())
    assert not (tmp_path / "a.jsonl").exists()


def test_stamps_are_those_of_files_and_containers(tmp_path: Path) -> None:
    (path,) = draw_colours(tmp_path, 1)
    status = os.stat(path)
    assert stamp(Entry(path)) == (status.st_size, status.st_mtime_ns)
    archive = write_tar(tmp_path / "a.tar")
    entry = next(list_entries([str(archive)]))
    assert stamp(entry) == (archive.stat().st_size, archive.stat().st_mtime_ns)
    assert stamp(Entry(str(tmp_path / "gone.png"))) is None
    assert stamp(Entry("https://example.org/a.png")) is None


def test_a_gzip_that_is_no_tar_is_one_record(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(json.dumps({}).encode()))
    (entry,) = list_entries([str(tmp_path / "a.tar.gz")])
    assert entry.problem is not None


# What a container, a list or a store does is no end of the others


def test_a_tar_whose_headers_go_on_and_on_is_one_record(tmp_path: Path) -> None:
    longname = tarfile.TarInfo("long")
    longname.type, longname.size = tarfile.GNUTYPE_LONGNAME, 0
    (tmp_path / "deep.tar").write_bytes(longname.tobuf(tarfile.GNU_FORMAT) * 5000)
    write_tar(tmp_path / "good.tar")
    found = list(list_entries([str(tmp_path / "deep.tar"), str(tmp_path / "good.tar")]))
    assert [entry.problem and entry.problem.code for entry in found] == ["corrupt", *[None] * 7]


def test_a_reader_that_fails_in_a_way_of_its_own_is_one_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toplabel.runs.readers import zip as reader

    def fail(*_: object) -> None:
        raise IndexError("index 7 is out of range")

    monkeypatch.setattr(reader, "find_directory", fail)
    write_zip(tmp_path / "a.zip")
    write_tar(tmp_path / "b.tar")
    found = list(list_entries([str(tmp_path / "a.zip"), str(tmp_path / "b.tar")]))
    assert [entry.problem and entry.problem.code for entry in found] == ["corrupt", *[None] * 7]


def test_the_checksum_of_a_compressed_tar_is_used(tmp_path: Path) -> None:
    with gzip.GzipFile(tmp_path / "a.tar.gz", "wb", compresslevel=0) as file:  # bytes as they are
        file.write(write_tar(tmp_path / "a.tar").read_bytes())
    content = bytearray((tmp_path / "a.tar.gz").read_bytes())
    content[content.index(b"IDAT") + 6] ^= 1
    (tmp_path / "a.tar.gz").write_bytes(content)
    *members, archive = list_entries([str(tmp_path / "a.tar.gz")])
    assert len(members) == 7
    assert archive.problem is not None
    assert archive.problem.code == "corrupt"
    assert "CRC" in archive.problem.message


def test_a_name_in_a_list_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a[1].png").write_bytes(colour_bytes(1))
    (tmp_path / "list.txt").write_text("a[1].png\ngone[2].png\n*.png\nempty\nmemory://x[1].png\n")
    found = list(list_entries(["list.txt"]))
    assert [entry.name for entry in found] == [
        *("a[1].png", "gone[2].png", "*.png", "empty", "memory:///x[1].png"),
    ]
    assert [bool(entry.problem) for entry in found] == [False, False, False, True, False]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_every_key_of_a_store_is_listed_once_whatever_its_folders_are_called(bucket: str) -> None:
    import s3fs

    keys = [
        *("odd/1.png", "odd//2.png", "odd///3.png", "odd/a//4.png", "odd/a/5.png", "odd/ /6.png"),
        *("odd/../7.png", "odd/./8.png", "odd/%2F/9.png", "odd/a?b/x.png", "odd/[x]/y.png"),
    ]
    store = s3fs.S3FileSystem()
    if not store.exists(bucket):
        store.mkdir(bucket)
    for key in keys:
        store.call_s3("put_object", Bucket=bucket, Key=key, Body=key.encode())
    store.call_s3("put_object", Bucket=bucket, Key="odd/", Body=b"")  # a marker of the folder
    store.invalidate_cache()
    url = f"s3://{bucket}/odd/"
    assert sorted(names(url)) == sorted(f"s3://{bucket}/{key}" for key in keys)
    assert sorted(contents(url)) == sorted(key.encode() for key in keys)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (zipfile.BadZipFile("bad magic"), "corrupt"),
        (EOFError("ended"), "truncated"),
        (gzip.BadGzipFile("CRC check failed"), "corrupt"),
        (TimeoutError("timed out"), "timeout"),
        (PermissionError("denied"), "permission_denied"),
        (FileNotFoundError("gone"), "not_found"),
        (ConnectionResetError("peer"), "fetch_failed"),
        (OSError("the store failed"), "fetch_failed"),
        (ImageError("too_large", "of a reader"), "too_large"),
        (zlib.error("invalid block"), "corrupt"),
        (RuntimeError("nobody knows"), "internal"),
    ],
)
def test_a_file_object_that_fails_says_what_happened_and_ends_no_list(
    error: Exception, code: str
) -> None:
    class Failing(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise error

    bad, good = local_predictor()([Failing(), io.BytesIO(colour_bytes(2))])
    assert bad.error is not None
    assert (bad.error.code, good.error) == (code, None)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_what_macos_adds_to_archives_is_no_input(tmp_path: Path, kind: str) -> None:
    extra = ["__MACOSX/photos/._a.png", "__MACOSX/._photos", "photos/._a.png", "./._b.jpg"]
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in ["photos/a.png", *extra]:
                archive.writestr(name, b"x")
    else:
        with tarfile.open(path, "w") as archive:
            for name in ["photos/a.png", *extra]:
                archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert names(path) == [f"{path}#photos/a.png"]


@pytest.mark.slow
def test_a_page_that_swells_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """300 kB on disk, 300 MB in memory, in its own page, in a dictionary, or many times a value."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    zeros = [bytes(150 << 20)]
    for number, more in enumerate(({"use_dictionary": False}, {"use_dictionary": True})):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"image": zeros}), path, compression="zstd", **more)
        assert path.stat().st_size < 1 << 20
        (entry,) = list_entries([str(path)])
        assert read_or_code(ArchiveMember(entry)) == "too_large"


def test_a_large_page_of_images_is_read(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = [np.random.default_rng(n).bytes(30 << 20) for n in range(4)]  # what writers do
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet")
    assert contents(tmp_path / "a.parquet") == images


def test_a_table_without_images_among_others_is_a_record(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_parquet(tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": [1], "name": ["x"]}), tmp_path / "b.parquet")
    twice = pa.Table.from_arrays([pa.array([b"x"])] * 2, names=["image", "image"])
    pq.write_table(twice, tmp_path / "c.parquet")
    for inputs in (["a.parquet", "b.parquet", "c.parquet"], ["*.parquet"]):
        found = list(list_entries([str(tmp_path / name) for name in inputs]))
        codes = [entry.problem and entry.problem.code for entry in found]
        assert codes == [*[None] * 7, "unsupported_format", "unsupported_format"]
    with pytest.raises(UsageError, match="several columns called 'image'"):
        names(tmp_path / "c.parquet")


@pytest.mark.slow
def test_a_column_with_a_dot_in_its_name_is_bounded_too(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"my.image": [bytes(150 << 20)]})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    (entry,) = list_entries([str(tmp_path / "a.parquet")])
    assert read_or_code(ArchiveMember(entry)) == "too_large"


def test_structs_with_further_fields_and_bytes_of_one_size_hold_images(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"id": n, "bytes": image} for n, image in enumerate(IMAGES.values())]
    pq.write_table(pa.table({"image": rows}), tmp_path / "a.parquet")
    assert contents(tmp_path / "a.parquet") == list(IMAGES.values())
    pq.write_table(pa.table({"image": pa.array([b"abc"], pa.binary(3))}), tmp_path / "b.parquet")
    assert contents(tmp_path / "b.parquet") == [b"abc"]


@pytest.mark.parametrize("kind", ["binary", "large_binary", "binary_view", "dictionary"])
def test_every_column_of_bytes_holds_images(tmp_path: Path, kind: str) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    column = pa.array(list(IMAGES.values()), pa.binary())
    column = (
        column.dictionary_encode() if kind == "dictionary" else column.cast(getattr(pa, kind)())
    )
    pq.write_table(pa.table({"image": column}), tmp_path / "a.parquet")
    assert contents(tmp_path / "a.parquet") == list(IMAGES.values())


def test_the_checksums_of_pages_are_used(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    values = [bytes([number]) * 5000 for number in range(10)]
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    pq.write_table(pa.table({"image": values}), tmp_path / "a.parquet", **options)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[content.index(bytes([5]) * 3000) + 7] ^= 1
    (tmp_path / "a.parquet").write_bytes(content)
    messages = set()
    for entry in list_entries([str(tmp_path / "a.parquet")]):
        with pytest.raises(ImageError, match="CRC") as caught:
            ArchiveMember(entry).read()
        messages.add((caught.value.code, caught.value.message))
    assert {code for code, _ in messages} == {"corrupt"}


def test_the_footer_of_a_table_of_many_row_groups_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    from toplabel.runs.readers import parquet

    table, opened = pa.table({"image": [b"x"] * 300}), []
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    really = parquet._open
    monkeypatch.setattr(parquet, "_open", lambda file: opened.append(file) or really(file))
    assert contents(tmp_path / "a.parquet") == [b"x"] * 300
    assert len(opened) == 2  # to list it, and to read it


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_page_headers_of_any_bytes_end_in_sizes_or_an_error(content: bytes) -> None:
    from toplabel.runs.readers.parquet_pages import PageError, largest_page

    try:
        page = largest_page(lambda at, size: content[at : at + size], 0, len(content))
    except PageError:
        return
    assert page.unpacked >= 0


# Memory, and what is odd


def _tar_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_headers_of_a_tar_that_swell_are_not_read_into_memory(tmp_path: Path, kind: bytes) -> None:
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        file.write(_tar_header("long", 64 << 20, kind))
        for _ in range(64):
            file.write(bytes(1 << 20))
    write_tar(tmp_path / "b.tar")
    tracemalloc.start()
    found = list(list_entries([str(tmp_path / "a.tar.gz"), str(tmp_path / "b.tar")]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [entry.problem and entry.problem.code for entry in found] == ["corrupt", *[None] * 7]
    assert peak < 20 << 20


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_large_members_are_refused_before_they_are_read(tmp_path: Path, kind: str) -> None:
    path, head = tmp_path / f"a.{kind}", colour_bytes(1)[:33]
    sizes = {"large.png": 60 << 20, "nothing.png": 30 << 20}
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, size in sizes.items():
                archive.writestr(name, (head if "large" in name else b"") + bytes(size))
    else:
        with gzip.open(path, "wb", compresslevel=1) as file:
            for name, size in sizes.items():
                file.write(_tar_header(name, size) + (head if "large" in name else b""))
                file.write(bytes(size - (len(head) if "large" in name else 0)))
            file.write(bytes(1024))
    sources = [open_source(entry) for entry in list_entries([str(path)])]
    predictor = local_predictor(threads=1, read=ReadOptions(max_bytes=40 << 20))
    tracemalloc.start()
    large, nothing = predictor(sources)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert large.error is not None
    assert nothing.error is not None
    assert (large.error.code, nothing.error.code) == ("too_large", "not_an_image")
    assert peak < 80 << 20  # of a compressed tar, what was passed is kept


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_without_images_says_so(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("notes.md", b"x")
    else:
        with tarfile.open(path, "w"):
            pass
    (entry,) = list_entries([str(path)])
    assert entry.problem is not None
    assert (entry.problem.code, entry.name) == ("empty", str(path))


def test_zeros_behind_a_tar_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from toplabel.runs.readers import tar

    write_tar(tmp_path / "a.tar")
    with open(tmp_path / "a.tar", "r+b") as file:
        file.truncate(1 << 40)
    assert len(names(tmp_path / "a.tar")) == 7
    monkeypatch.setattr(tar, "_MOST_TRAILING_BYTES", 2 << 20)
    with gzip.open(tmp_path / "b.tar.gz", "wb", compresslevel=1) as file:
        file.write(write_tar(tmp_path / "b.tar").read_bytes() + bytes(30 << 20))
    content = (tmp_path / "b.tar.gz").read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(content[:-8] + b"no check")
    assert len(names(tmp_path / "b.tar.gz")) == 7  # its end was not reached


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_an_archive_that_follows_another_is_told_of(tmp_path: Path, suffix: str) -> None:
    content = write_tar(tmp_path / f"a.{suffix}", "w" if suffix == "tar" else "w:gz").read_bytes()
    (tmp_path / f"b.{suffix}").write_bytes(content * 2)
    *members, last = list_entries([str(tmp_path / f"b.{suffix}")])
    assert len(members) == 7
    assert last.problem is not None
    assert "another archive follows" in last.problem.message


@pytest.mark.skipif(os.name != "posix", reason="needs pipes and sockets in the file system")
def test_what_never_ends_is_refused_at_once(tmp_path: Path) -> None:
    for name in ("a.png", "a.tar", "a.zip", "a.parquet"):
        os.mkfifo(tmp_path / name)
        (tmp_path / f"zero-{name}").symlink_to("/dev/zero")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "list.txt").write_text(
        "".join(f"{path}\n" for path in sorted(tmp_path.iterdir()) if path.suffix != ".txt")
    )
    summary = toplabel.run(
        [tmp_path / "list.txt", *draw_colours(tmp_path / "photos", 1)],
        tmp_path / "o.jsonl",
        model=local_predictor(),
    )
    assert (summary.labelled, summary.errors) == (1, {"not_a_file": 8, "not_found": 1})
    for name in ("b.txt", "b.csv"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(RunError, match="it is a pipe"):
            names(tmp_path / name)
