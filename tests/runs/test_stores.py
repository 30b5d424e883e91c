"""Stores: an S3 server that throttles, is away, denies, and has odd keys; nothing is lost."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import toplabel
from containers import write_parquet, write_tar, write_zip
from run_material import colour_bytes, local_predictor, read_jsonl
from store_proxy import AWAY, SLOW_DOWN, Answer, StoreProxy
from toplabel.errors import ImageError
from toplabel.runs.readers import remote
from toplabel.runs.readers.inputs import ArchiveMember, list_entries

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
BUCKET = "shots"


@pytest.fixture(scope="module")
def started() -> Iterator[StoreProxy]:
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = StoreProxy(*server.get_host_and_port())
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", "key")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_ENDPOINT_URL", proxy.url)
    patch.setenv("AWS_MAX_ATTEMPTS", "1")  # of botocore, which waits for seconds
    yield proxy
    patch.undo()
    proxy.stop()
    server.stop()


@pytest.fixture
def store(started: StoreProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreProxy]:
    """A bucket with eight photos and nothing else, in a good mood, and no waits on our side."""
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setattr(remote, "_WAITS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(remote, "_WAITS_FOR_ONE", (0.0, 0.0))
    monkeypatch.setattr(remote, "_SECONDS_AWAY", 0.0)
    monkeypatch.setattr("toplabel.runs.run.WAITS", (0.0, 0.0, 0.0))
    s3fs.S3FileSystem.clear_instance_cache()
    started.mood = lambda method, path, times: None
    fill(**{f"a/{number}.png": colour_bytes(number) for number in range(8)})
    started.asked.clear()
    yield started
    started.mood = lambda method, path, times: None
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.rm(BUCKET, recursive=True)


def fill(**contents: bytes) -> None:
    import s3fs

    files = s3fs.S3FileSystem(skip_instance_cache=True)
    if not files.exists(BUCKET):
        files.mkdir(BUCKET)
    for key, content in contents.items():
        files.call_s3("put_object", Bucket=BUCKET, Key=key, Body=content)


def label(output: Path, *sources: str, **options: Any) -> toplabel.RunSummary:
    names = list(sources) or [f"s3://{BUCKET}/a/"]
    return toplabel.run(names, output, model=local_predictor(), **options)


@pytest.mark.slow
@pytest.mark.parametrize("answer", [SLOW_DOWN, (500, "InternalError"), AWAY])
def test_a_store_that_answers_every_second_time_costs_no_image(
    store: StoreProxy, tmp_path: Path, answer: Answer
) -> None:
    store.mood = lambda method, path, times: answer if times % 2 == 0 else None
    summary = label(tmp_path / "a.jsonl")
    assert (summary.labelled, summary.failed, summary.passing) == (8, 0, 0)
    records = read_jsonl(tmp_path / "a.jsonl")
    assert [r["source"] for r in records] == [f"s3://{BUCKET}/a/{n}.png" for n in range(8)]


def test_a_store_that_goes_away_to_the_end_is_asked_again_by_the_same_command(
    store: StoreProxy, tmp_path: Path
) -> None:
    listed = "list-type=2"
    store.mood = lambda method, path, times: None if listed in path else AWAY
    summary = label(tmp_path / "a.jsonl")
    assert (summary.inputs, summary.passing, summary.labelled) == (8, 8, 0)
    assert summary.errors == {"fetch_failed": 8}
    store.mood = lambda method, path, times: None
    again = label(tmp_path / "a.jsonl")
    assert (again.inputs, again.recovered, again.passing, again.new) == (8, 8, 0, 0)
    assert label(tmp_path / "a.jsonl").recovered == 0


@pytest.mark.slow
def test_what_a_store_denies_is_not_asked_again_and_again(
    store: StoreProxy, tmp_path: Path
) -> None:
    denied = f"/{BUCKET}/a/3.png"
    store.mood = lambda _, path, times: (403, "AccessDenied") if path.startswith(denied) else None
    summary = label(tmp_path / "a.jsonl")
    assert summary.errors == {"permission_denied": 1}
    assert summary.passing == 1  # somebody may be let in by the next time
    assert sum(count for request, count in store.asked.items() if denied in request) == 1
    store.mood = lambda *_: None
    assert label(tmp_path / "a.jsonl").recovered == 1


def test_a_store_that_is_away_is_not_asked_for_each_of_its_objects(
    store: StoreProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_SECONDS_AWAY", 3600.0)
    monkeypatch.setattr(remote, "_outages", remote._Outages())
    members = [ArchiveMember(entry) for entry in list_entries([f"s3://{BUCKET}/a/"])]
    store.asked.clear()
    store.mood = lambda *_: AWAY
    codes = []
    for member in members:
        with pytest.raises(ImageError) as caught:
            member.read()
        codes.append(caught.value.code)
    assert codes == ["fetch_failed"] * 8
    assert set(store.asked) == {"HEAD /shots/a/0.png"}


@pytest.mark.slow
def test_containers_in_a_store_that_stumbles_are_read_whole(
    store: StoreProxy, tmp_path: Path
) -> None:
    paths = [
        write_tar(tmp_path / "a.tar"),
        write_tar(tmp_path / "b.tar.gz", "w:gz"),
        write_zip(tmp_path / "c.zip"),
        write_parquet(tmp_path / "d.parquet"),
    ]
    fill(**{path.name: path.read_bytes() for path in paths})
    store.mood = lambda method, path, times: SLOW_DOWN if times % 2 == 0 else None
    urls = [f"s3://{BUCKET}/{path.name}" for path in paths]
    summary = label(tmp_path / "a.jsonl", *urls)
    assert (summary.labelled, summary.errors) == (28, {})


@pytest.mark.slow
def test_a_container_that_is_away_in_its_middle_says_so_and_not_that_it_is_damaged(
    store: StoreProxy, tmp_path: Path
) -> None:
    """Of all kinds of containers, whatever their libraries make of an error."""
    paths = [
        write_tar(tmp_path / "xa.tar"),
        write_tar(tmp_path / "xb.tar.gz", "w:gz"),
        write_zip(tmp_path / "xc.zip"),
        write_parquet(tmp_path / "xd.parquet"),
    ]
    fill(**{path.name: path.read_bytes() for path in paths})
    for path in paths:
        url = f"s3://{BUCKET}/{path.name}"
        store.mood = lambda *_: None
        members = [ArchiveMember(entry) for entry in list_entries([url])]
        store.mood = lambda method, path, times: AWAY if method == "GET" else None
        (problem,) = list_entries([url])
        assert (problem.problem and problem.problem.code) == "fetch_failed", url
        with pytest.raises(ImageError) as caught:
            members[0].read()
        assert caught.value.code == "fetch_failed"
        store.mood = lambda *_: None
        assert members[0].read() == colour_bytes(0)


ODD_KEYS = [
    *("o/a//b.png", "o//c.png", "o/d e.png", "o/é/ö.png", "o/e\u0301.png", "o/100%.png"),
    *("o/%41.png", "o/a+b.png", "o/a&b=c.png", "o/q?x=1.png", "o/h#1.png", "o/[1].png"),
    *("o/*.png", "o/tail.png/in.png", "o/tail.png", "o/..png", "o/~.png", "o/'\".png"),
]


def test_odd_keys_are_labelled_once_each(store: StoreProxy, tmp_path: Path) -> None:
    fill(**{key: colour_bytes(1) for key in ODD_KEYS}, **{"o/": b"", "o/folder.png/": b""})
    summary = label(tmp_path / "a.jsonl", f"s3://{BUCKET}/o/")
    records = read_jsonl(tmp_path / "a.jsonl")
    assert sorted(r["source"] for r in records) == sorted(f"s3://{BUCKET}/{k}" for k in ODD_KEYS)
    assert summary.errors == {}
    again = label(tmp_path / "a.jsonl", f"s3://{BUCKET}/o/")
    assert (again.new, again.inputs) == (0, len(ODD_KEYS))
    (tmp_path / "list.txt").write_text("".join(f"s3://{BUCKET}/{key}\n" for key in ODD_KEYS))
    listed = label(tmp_path / "b.jsonl", os.fspath(tmp_path / "list.txt"))
    assert (listed.labelled, listed.errors) == (len(ODD_KEYS), {})
