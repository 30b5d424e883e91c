"""Retrying: what failed for a cause that may pass is tried again, and nothing else is."""

import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

import toplabel
from containers import IMAGES, write_tar
from run_material import colour_bytes, draw_colours, local_predictor, read_csv, read_jsonl
from toplabel.inference.prediction import Failure, Prediction
from toplabel.runs import retrying
from toplabel.runs.formats import Columns, load_format
from toplabel.runs.labelling import Outcome
from toplabel.runs.passing import may_pass


def label(source: Any, output: Path, **options: Any) -> toplabel.RunSummary:
    return toplabel.run(source, output, model=local_predictor(), shard_size=10, **options)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A list of 25 images of which two are not there yet, and one is no image."""
    names = draw_colours(tmp_path / "photos", 25)
    paths = [tmp_path / "photos" / Path(name).name for name in names]
    for index in (3, 14):
        paths[index].rename(paths[index].with_suffix(".later"))
    paths[20].write_bytes(b"no picture")
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    return tmp_path / "list.txt"


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_file_that_comes_later_is_labelled_by_the_same_command(
    listed: Path, tmp_path: Path, suffix: str
) -> None:
    whole, late = tmp_path / f"whole.{suffix}", tmp_path / f"late.{suffix}"
    first = label(listed, late)
    assert first.errors == {"not_found": 2, "not_an_image": 1}
    assert (first.passing, first.recovered) == (2, 0)
    again = label(listed, late)  # they are still not there
    assert (again.new, again.recovered, again.passing) == (0, 0, 2)
    for path in (tmp_path / "photos").glob("*.later"):
        path.rename(path.with_suffix(".png"))
    last = label(listed, late)
    assert (last.new, last.recovered, last.passing) == (0, 2, 0)
    assert (last.labelled, last.errors) == (24, {"not_an_image": 1})
    label(listed, whole)  # a run that found them there from the beginning
    if suffix == "parquet":
        table = pytest.importorskip("pyarrow.parquet")
        assert table.read_table(late).to_pylist() == table.read_table(whole).to_pylist()
    else:
        assert late.read_bytes() == whole.read_bytes()
    assert label(listed, late).recovered == 0


def test_a_cause_that_changes_is_written_down(listed: Path, tmp_path: Path) -> None:
    label(listed, tmp_path / "a.jsonl")
    (tmp_path / "photos" / "00003.png").write_bytes(b"something else")
    assert label(listed, tmp_path / "a.jsonl").errors == {"not_an_image": 2, "not_found": 1}
    assert read_jsonl(tmp_path / "a.jsonl")[3]["error"]["code"] == "not_an_image"


def test_what_is_damaged_is_not_read_again(listed: Path, tmp_path: Path) -> None:
    label(listed, tmp_path / "a.jsonl")
    (tmp_path / "photos" / "00020.png").write_bytes(colour_bytes(1))
    assert label(listed, tmp_path / "a.jsonl").errors == {"not_found": 2, "not_an_image": 1}
    assert label(listed, tmp_path / "a.jsonl", check_inputs=True).errors == {"not_found": 2}


def test_images_that_came_later_are_sorted_too(listed: Path, tmp_path: Path) -> None:
    label(listed, tmp_path / "a.jsonl", copy_to=tmp_path / "sorted")
    later = tmp_path / "photos" / "00003.later"
    later.rename(later.with_suffix(".png"))
    label(listed, tmp_path / "a.jsonl", copy_to=tmp_path / "sorted")
    assert len(list((tmp_path / "sorted").rglob("00003.png"))) == 1


class Store(ThreadingHTTPServer):
    """A server of images that is away for the first requests of each."""

    def __init__(self, away: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.away = away
        self.asked: dict[str, int] = {}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        store = self.server
        assert isinstance(store, Store)
        store.asked[self.path] = store.asked.get(self.path, 0) + 1
        away = store.asked[self.path] <= store.away
        content = b"" if away else colour_bytes(int(self.path[1:-4]))
        self.send_response(503 if away else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Silence."""


@pytest.fixture
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    server = Store(request.param)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("store", [2], indirect=True)
def test_a_store_that_is_away_for_a_while_costs_no_image(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "WAITS", (0.0, 0.0, 0.0))
    monkeypatch.setattr("toplabel.runs.run.WAITS", (0.0, 0.0, 0.0))
    urls = [f"http://127.0.0.1:{store.server_port}/{number}.png" for number in range(12)]
    summary = label(urls, tmp_path / "a.jsonl")
    assert (summary.labelled, summary.failed, summary.recovered) == (12, 0, 12)
    assert [record["label"] for record in read_jsonl(tmp_path / "a.jsonl")[:3]] == [
        *("red", "green", "blue")
    ]
    assert set(store.asked.values()) == {3}


@pytest.mark.parametrize("store", [100], indirect=True)
def test_a_store_that_stays_away_is_tried_a_few_times_and_again_by_the_next_call(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toplabel.runs.run.WAITS", (0.0, 0.0))
    url = f"http://127.0.0.1:{store.server_port}/1.png"
    summary = label([url], tmp_path / "a.csv")
    assert (summary.failed, summary.passing, summary.recovered) == (1, 1, 0)
    assert store.asked == {"/1.png": 3}
    store.away = 0
    assert label([url], tmp_path / "a.csv").recovered == 1
    assert read_csv(tmp_path / "a.csv")[0]["label"] == "green"


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_replaced_rows_are_those_of_an_encoding_of_all(tmp_path: Path, suffix: str) -> None:
    def outcome(number: int, label: str) -> Outcome:
        odd = ('a"b', "a\nb", 'x","y', "=1+1", "'", "é", "\udcff", "a,b")
        return Outcome(
            Prediction(
                source=f"{odd[number % len(odd)]}{number}", label=label, index=1, score=0.5,
                top=(), unsure=None, warnings=('says "so"\nand more',), model="m", width=1,
                height=2, scores=np.array([0.5, 0.25], np.float16),
                features=None if number % 5 == 0 else np.array([number / 7, -0.1], np.float32),
            )
        )  # fmt: skip

    before = [outcome(number, 'old "\n') for number in range(20)]
    after = [outcome(number, "new") if number % 3 == 0 else before[number] for number in range(20)]
    encoding = load_format(suffix)
    part = tmp_path / f"part.{suffix}"
    columns = Columns(scores=True, embedding=0 if suffix == "csv" else 2)
    part.write_bytes(encoding.encode(before, columns))
    rows = {number: after[number] for number in range(0, 20, 3)}
    assert encoding.replace(part, rows, columns) == encoding.encode(after, columns)


# What could not be listed


def test_an_archive_that_comes_later_is_labelled_in_its_place(tmp_path: Path) -> None:
    draw_colours(tmp_path / "photos", 3)
    inputs = [tmp_path / "photos", tmp_path / "late.tar", *draw_colours(tmp_path, 1, first=7)]
    output = tmp_path / "a.jsonl"
    first = label(inputs, output)
    assert (first.inputs, first.errors, first.passing) == (5, {"not_found": 1}, 1)
    assert label(inputs, output).passing == 1  # it is still not there
    write_tar(tmp_path / "late.tar")
    last = label(inputs, output)
    assert (last.inputs, last.errors, last.missing) == (4 + 7, {}, 0)
    assert (last.recovered, last.new) == (1, 6)
    records = read_jsonl(output)
    wanted = [f"{tmp_path}/late.tar#{name}" for name in IMAGES]
    assert [record["source"] for record in records[3:4] + records[5:]] == wanted
    assert {record["error"] for record in records} == {None}
    again = label(inputs, output)
    assert (again.inputs, again.new, again.missing) == (11, 0, 0)
    assert len(list((tmp_path / ".a.jsonl.run" / "_toplabel" / "inputs").iterdir())) == 4


def test_a_problem_that_becomes_another_is_written_down(tmp_path: Path) -> None:
    inputs = [*draw_colours(tmp_path, 1), tmp_path / "late.zip"]
    label(inputs, tmp_path / "a.jsonl")
    (tmp_path / "late.zip").write_bytes(b"no archive")
    summary = label(inputs, tmp_path / "a.jsonl")
    assert (summary.inputs, summary.errors, summary.passing) == (2, {"truncated": 1}, 0)
    assert label(inputs, tmp_path / "a.jsonl").errors == {"truncated": 1}


def test_a_folder_in_a_list_that_comes_later_is_labelled(tmp_path: Path) -> None:
    (tmp_path / "late").mkdir()
    (good,) = draw_colours(tmp_path, 1)
    (tmp_path / "list.txt").write_text(f"{good}\n{tmp_path}/late\n")
    first = label(tmp_path / "list.txt", tmp_path / "a.csv")
    assert first.errors == {"not_found": 1}
    draw_colours(tmp_path / "late", 4, first=1)
    last = label(tmp_path / "list.txt", tmp_path / "a.csv", copy_to=tmp_path / "sorted")
    assert (last.inputs, last.labelled, last.missing) == (5, 5, 0)
    assert len(list((tmp_path / "sorted").rglob("*.png"))) == 5


def test_a_kill_between_the_new_list_of_inputs_and_its_labels_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [*draw_colours(tmp_path, 3), tmp_path / "late.tar"]
    label(inputs, tmp_path / "a.jsonl")
    write_tar(tmp_path / "late.tar")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("toplabel.runs.run.label_shards", killed)
    with pytest.raises(KeyboardInterrupt):
        label(inputs, tmp_path / "a.jsonl")
    monkeypatch.undo()
    last = label(inputs, tmp_path / "a.jsonl")
    assert (last.inputs, last.errors) == (10, {})
    sources = [record["source"] for record in read_jsonl(tmp_path / "a.jsonl")]
    assert len(set(sources)) == 10


@pytest.mark.parametrize(
    ("code", "message", "passes"),
    [
        ("fetch_failed", "cannot read 'u': the server answered 503 Service Unavailable", True),
        ("fetch_failed", "cannot read 'u': the server answered 429 Too Many Requests", True),
        ("fetch_failed", "cannot read 'u': the server answered 404 Not Found", False),
        ("fetch_failed", "cannot read 'u': the server answered 403 Forbidden", False),
        ("fetch_failed", "cannot read 'u': the store is away", True),
        ("not_found", "cannot read 'a.png': no such file", True),
        ("corrupt", "cannot read 'a.png': the PNG data is damaged", False),
    ],
)
def test_what_lasts_is_not_tried_again(code: Any, message: str, passes: bool) -> None:
    assert may_pass(Failure(code, message)) is passes
