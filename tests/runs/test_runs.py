"""Runs: every input one record, in order, once; resuming, adding, refusing."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import toplabel
from run_material import (
    COLOURS,
    colour_bytes,
    draw_colours,
    kill_with,
    local_predictor,
    read_csv,
    read_jsonl,
    save_model,
)
from toplabel._internal.text import unescape_name
from toplabel.errors import RunError, ToplabelWarning, UsageError
from toplabel.runs.state import Output, open_state
from toplabel.runs.summary import Progress
from toplabel.runs.worker_pool import share_threads


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    draw_colours(tmp_path / "photos", 25)
    return tmp_path / "photos"


def label(photos: Path | str, output: Path, **options: Any) -> toplabel.RunSummary:
    options.setdefault("shard_size", 10)
    return toplabel.run(photos, output, model=options.pop("model", local_predictor()), **options)


def test_every_input_gets_one_record_in_order(photos: Path, tmp_path: Path) -> None:
    (photos / "00003.png").write_bytes(b"no picture")
    summary = label(photos, tmp_path / "a.jsonl")
    records = read_jsonl(tmp_path / "a.jsonl")
    assert [Path(r["source"]).name for r in records] == sorted(os.listdir(photos))
    assert records[3]["error"]["code"] == "not_an_image"
    assert [r["label"] for r in records[4:8]] == ["green", "blue", "red", "green"]
    assert (records[4]["width"], records[4]["height"]) == (20, 16)
    assert (summary.inputs, summary.labelled, summary.failed, summary.new) == (25, 24, 1, 25)
    assert summary.errors == {"not_an_image": 1}
    assert {c.label: c.count for c in summary.labels} == {"red": 8, "green": 8, "blue": 8}


def test_what_outputs_look_like_is_in_all_records_of_a_shard_and_told_when_resumed(
    photos: Path, tmp_path: Path
) -> None:
    model = save_model(tmp_path, scale=0.3)
    with pytest.warns(ToplabelWarning, match="nearly uniform"):
        toplabel.run(photos, tmp_path / "a.jsonl", shard_size=10, **model)
    records = read_jsonl(tmp_path / "a.jsonl")
    (text,) = {text for record in records for text in record["warnings"]}
    assert [record["warnings"] for record in records] == [[text]] * 25
    draw_colours(photos, 3, first=30)  # too few to notice anything
    with pytest.warns(ToplabelWarning, match="nearly uniform"):
        summary = toplabel.run(photos, tmp_path / "a.jsonl", shard_size=10, **model)
    assert summary.new == 3
    assert summary.warnings == (text,)
    assert [record["warnings"] for record in read_jsonl(tmp_path / "a.jsonl")] == [[text]] * 28


def test_a_finished_run_does_nothing_again(photos: Path, tmp_path: Path) -> None:
    label(photos, tmp_path / "a.csv")
    before = (tmp_path / "a.csv").stat()
    summary = label(photos, tmp_path / "a.csv")
    assert summary.new == 0
    assert summary.inputs == 25
    assert (tmp_path / "a.csv").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_new_inputs_alone_are_labelled_and_stand_at_the_end(
    photos: Path, tmp_path: Path, suffix: str
) -> None:
    output = tmp_path / f"a.{suffix}"
    label(photos, output)
    (photos / "00000a.png").write_bytes(colour_bytes(1))
    (photos / "00030.png").write_bytes(colour_bytes(2))
    summary = label(photos, output)
    assert summary.new == 2
    assert summary.inputs == 27
    sources = _sources(output)
    assert [Path(s).name for s in sources[24:]] == ["00024.png", "00000a.png", "00030.png"]
    assert len(set(sources)) == 27
    assert label(photos, output).new == 0


def _sources(output: Path) -> list[str]:
    if output.suffix == ".jsonl":
        return [r["source"] for r in read_jsonl(output)]
    if output.suffix == ".csv":
        return [r["source"] for r in read_csv(output)]
    import pyarrow.parquet as pq

    return pq.read_table(output)["source"].to_pylist()


def test_inputs_that_are_gone_keep_their_records_and_are_counted(
    photos: Path, tmp_path: Path
) -> None:
    label(photos, tmp_path / "a.jsonl")
    (photos / "00007.png").unlink()
    summary = label(photos, tmp_path / "a.jsonl")
    assert (summary.inputs, summary.new, summary.missing) == (25, 0, 1)


def test_an_input_listed_twice_has_two_records(photos: Path, tmp_path: Path) -> None:
    one = str(photos / "00001.png")
    (tmp_path / "list.txt").write_text(f"{one}\n{one}\n")
    assert label(tmp_path / "list.txt", tmp_path / "a.jsonl").inputs == 2
    (tmp_path / "list.txt").write_text(f"{one}\n{one}\n{one}\n")
    assert label(tmp_path / "list.txt", tmp_path / "a.jsonl").new == 1
    assert len(read_jsonl(tmp_path / "a.jsonl")) == 3


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"top_k": 2}, "started with different top_k: 5, now 2"),
        ({"threshold": 0.5}, "started with different threshold: null, now 0.5"),
        ({"model": local_predictor(exact=True)}, "started with different exact"),
        ({"all_scores": True}, "started with different all_scores"),
    ],
)
def test_a_run_resumes_only_with_what_it_was_begun_with(
    photos: Path, tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    label(photos, tmp_path / "a.jsonl")
    with pytest.raises(RunError, match=text):
        label(photos, tmp_path / "a.jsonl", **changes)
    assert label(photos, tmp_path / "a.jsonl", restart=True, **changes).new == 25


def test_another_version_does_not_resume_it(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label(photos, tmp_path / "a.jsonl")
    monkeypatch.setattr("toplabel.runs.fingerprint.__version__", "99")
    with pytest.raises(RunError, match="different version of toplabel"):
        label(photos, tmp_path / "a.jsonl")


def test_an_output_over_other_inputs_is_refused(photos: Path, tmp_path: Path) -> None:
    label(photos, tmp_path / "a.jsonl")
    draw_colours(tmp_path / "others", 3)
    before = (tmp_path / "a.jsonl").read_bytes()
    with pytest.raises(RunError, match="none of its 25 inputs is listed now"):
        label(tmp_path / "others", tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == before


def test_nothing_that_no_run_has_written_is_written_over(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(RunError, match="no run beside it"):
        label(photos, tmp_path / "a.csv")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="holds files that are not a run's"):
        label(photos, tmp_path / "folder")
    assert (tmp_path / "a.csv").read_text() == "mine"
    assert label(photos, tmp_path / "a.csv", restart=True).new == 25


def test_a_folder_takes_parts_and_nothing_else_that_tables_would_read(
    photos: Path, tmp_path: Path
) -> None:
    summary = label(photos, tmp_path / "out", format="jsonl")
    names = sorted(os.listdir(tmp_path / "out"))
    assert names == ["_toplabel", *(f"part-{n:06d}.jsonl" for n in range(3))]
    assert sum(len(read_jsonl(tmp_path / "out" / name)) for name in names[1:]) == 25
    assert summary.output == tmp_path / "out"


def test_parts_of_another_format_are_refused(photos: Path, tmp_path: Path) -> None:
    label(photos, tmp_path / "out", format="jsonl")
    with pytest.raises(RunError, match="parts in the format 'jsonl'; got 'csv'"):
        label(photos, tmp_path / "out", format="csv")


@pytest.mark.parametrize("name", ["a.json", "a.txt", "a.parquet.gz", "s3://bucket/out/"])
def test_an_output_of_an_unknown_kind_is_refused(photos: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="expected a file"):
        toplabel.run(photos, name if "://" in name else tmp_path / name, model=local_predictor())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"copy_to": "a", "link_to": "b"}, "expected one of them"),
        ({"shard_size": 0}, "shard_size=0; expected at least 1"),
        ({"max_errors": -1}, "expected at least 0"),
        ({"on": "moon"}, "expected 'here' or 'ray'"),
        ({"format": "xml"}, "got the format 'xml'"),
        ({"report": "a.csv"}, "expected a file that ends in .html"),
        ({"top_k": 0}, "got top_k=0"),
        ({"threads": 2}, "got 'threads' beside a predictor"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    photos: Path, tmp_path: Path, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        label(photos, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_missing_inputs_end_it_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such file or folder"):
        label(tmp_path / "typo", tmp_path / "a.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images in the folder"):
        label(tmp_path / "empty", tmp_path / "a.csv")
    with pytest.raises(UsageError, match="standard input"):
        label("-", tmp_path / "a.csv")
    assert os.listdir(tmp_path) == ["empty"]


def test_an_empty_folder_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="no images in the folder"):
        label(tmp_path / "empty", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_what_somebody_puts_into_a_new_output_stays_when_the_inputs_cannot_be_listed(
    tmp_path: Path,
) -> None:
    def list_in_vain() -> None:
        (tmp_path / "out" / "theirs").touch()
        raise RunError("no such folder")

    with pytest.raises(RunError, match="no such"), open_state(Output.of(tmp_path / "out"), {}):
        list_in_vain()
    assert os.listdir(tmp_path / "out") == ["theirs"]


def test_two_runs_at_once_on_one_output_are_refused(photos: Path, tmp_path: Path) -> None:
    inside, go_on = threading.Event(), threading.Event()
    summaries = []

    def stop_in_the_middle(progress: Progress) -> None:
        inside.set()
        assert go_on.wait(60)

    def first() -> None:
        summaries.append(label(photos, tmp_path / "a.jsonl", progress=stop_in_the_middle))

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert inside.wait(60)
        with pytest.raises(RunError, match="another run is writing"):
            label(photos, tmp_path / "a.jsonl")
        with pytest.raises(RunError, match="another run is writing"):
            label(photos, tmp_path / "a.jsonl", restart=True)
    finally:
        go_on.set()
        thread.join()
    assert summaries[0].new == 25


def test_a_run_stops_after_too_many_errors_and_keeps_what_is_done(
    photos: Path, tmp_path: Path
) -> None:
    for index in range(12, 20):
        (photos / f"{index:05d}.png").write_bytes(b"?")
    with pytest.raises(RunError, match="more than max_errors=3"):
        label(photos, tmp_path / "a.jsonl", max_errors=3)
    assert not (tmp_path / "a.jsonl").exists()
    summary = label(photos, tmp_path / "a.jsonl", max_errors=8)
    assert (summary.failed, summary.inputs) == (8, 25)
    assert summary.new <= 15


def test_changed_inputs_are_labelled_anew_only_when_asked_for(photos: Path, tmp_path: Path) -> None:
    label(photos, tmp_path / "a.jsonl")
    (photos / "00000.png").write_bytes(colour_bytes(2))
    assert label(photos, tmp_path / "a.jsonl").new == 0
    summary = label(photos, tmp_path / "a.jsonl", check_inputs=True)
    assert summary.new == 10
    assert summary.inputs == 25
    assert read_jsonl(tmp_path / "a.jsonl")[0]["label"] == "blue"
    assert label(photos, tmp_path / "a.jsonl", check_inputs=True).new == 0


def test_a_torn_part_is_made_again(photos: Path, tmp_path: Path) -> None:
    label(photos, tmp_path / "out", format="jsonl")
    part = tmp_path / "out" / "part-000001.jsonl"
    whole = part.read_bytes()
    part.write_bytes(whole[:-7])
    assert label(photos, tmp_path / "out", format="jsonl").new == 10
    assert part.read_bytes() == whole


def test_a_torn_output_is_made_again_from_its_parts(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.jsonl"
    label(photos, output)
    whole = output.read_bytes()
    for cut in range(1, min(len(whole), 4096), 97):
        output.write_bytes(whole[:-cut])
        with pytest.warns(UserWarning, match="was changed since this run wrote it"):
            assert label(photos, output).new == 0
        assert output.read_bytes() == whole
    output.unlink()
    assert label(photos, output).new == 0
    assert output.read_bytes() == whole


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*was changed since this run wrote it")
def test_an_output_cut_at_any_of_its_last_bytes_is_made_again(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.jsonl"
    label(photos, output)
    whole = output.read_bytes()
    for cut in range(1, min(len(whole), 4096)):
        output.write_bytes(whole[:-cut])
        assert label(photos, output).new == 0
        assert output.read_bytes() == whole


def test_a_damaged_result_costs_its_shard_again(photos: Path, tmp_path: Path) -> None:
    label(photos, tmp_path / "out", format="csv")
    mark = tmp_path / "out" / "_toplabel" / "done" / "000002.mark"
    mark.write_bytes(mark.read_bytes()[:100])
    assert label(photos, tmp_path / "out", format="csv").new == 5


def test_a_damaged_state_is_refused(photos: Path, tmp_path: Path) -> None:
    label(photos, tmp_path / "out", format="csv")
    (tmp_path / "out" / "_toplabel" / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run.json' is damaged.*restart=True"):
        label(photos, tmp_path / "out", format="csv")


def test_names_that_are_not_text_come_back_as_they_were(tmp_path: Path) -> None:
    names = [b"\xff\n.png", b'a "b", c.png', b"=cmd.png", b"-x.png", "ü😀.png".encode()]
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in names:
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_bytes(colour_bytes(0))
    wanted = sorted(os.fsencode(folder) + b"/" + name for name in names)
    for suffix, read in (("jsonl", read_jsonl), ("csv", read_csv)):
        label(folder, tmp_path / f"a.{suffix}")
        found = [unescape_name(record["source"]) for record in read(tmp_path / f"a.{suffix}")]
        assert sorted(map(os.fsencode, found)) == wanted


def test_progress_is_reported_up_to_the_end(photos: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    (photos / "00024.png").write_bytes(b"?")
    label(photos, tmp_path / "a.jsonl", progress=told.append)
    assert told[0].done == 0
    assert (told[-1].done, told[-1].failed, told[-1].inputs) == (25, 1, 25)
    assert told[-1].seconds_left == 0
    assert [t.done for t in told] == sorted(t.done for t in told)


def test_the_summary_is_plain_data(photos: Path, tmp_path: Path) -> None:
    summary = label(photos, tmp_path / "a.jsonl")
    plain = json.loads(json.dumps(summary.to_dict()))
    assert plain["labels"][0] == {"label": "red", "index": 0, "count": 9}
    assert plain["output"].endswith("a.jsonl")


def test_a_model_from_a_file_is_run_in_a_process_of_its_own_and_gives_the_same(
    photos: Path, tmp_path: Path
) -> None:
    model = save_model(tmp_path)
    summary = toplabel.run(photos, tmp_path / "a.jsonl", shard_size=10, threads=2, **model)
    assert summary.labelled == 25
    label(photos, tmp_path / "b.jsonl")
    ours, theirs = read_jsonl(tmp_path / "a.jsonl"), read_jsonl(tmp_path / "b.jsonl")
    assert [r["label"] for r in ours] == [r["label"] for r in theirs]
    assert {r["label"] for r in ours} == set(COLOURS)


@pytest.mark.parametrize("how", ["os.abort()", "os.kill(os.getpid(), 9)", "os._exit(3)"])
def test_an_image_that_kills_its_worker_fails_alone(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    kill_with(tmp_path / "hook", "00013.png", how)
    monkeypatch.syspath_prepend(str(tmp_path / "hook"))
    summary = toplabel.run(photos, tmp_path / "a.jsonl", threads=2, **save_model(tmp_path))
    records = read_jsonl(tmp_path / "a.jsonl")
    assert [r["error"]["code"] for r in records if r["error"]] == ["worker_crash"]
    assert records[13]["error"]
    assert (summary.inputs, summary.failed) == (25, 1)
    assert any("a worker ended with" in line for line in caplog.messages)


@pytest.mark.slow
def test_two_images_that_kill_two_workers_fail_alone(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_with(tmp_path / "hook", ("00003.png", "00004.png", "00020.png"))
    monkeypatch.syspath_prepend(str(tmp_path / "hook"))
    monkeypatch.setattr("toplabel.runs.worker_pool.THREADS_OF_PROCESS", 1)
    toplabel.run(photos, tmp_path / "a.jsonl", threads=3, shard_size=10, **save_model(tmp_path))
    records = read_jsonl(tmp_path / "a.jsonl")
    failed = {n: r["error"]["code"] for n, r in enumerate(records) if r["error"]}
    assert failed == dict.fromkeys((3, 4, 20), "worker_crash")
    assert [Path(r["source"]).name for r in records] == sorted(os.listdir(photos))


def test_an_image_that_never_ends_is_a_timeout(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_with(tmp_path / "hook", "00002.png", "time.sleep(1000)")
    monkeypatch.syspath_prepend(str(tmp_path / "hook"))
    monkeypatch.setattr("toplabel.runs.worker_pool.STALL_SECONDS", 2.0)
    model = save_model(tmp_path)
    toplabel.run(photos, tmp_path / "a.jsonl", threads=2, batch_size=1, **model)
    records = read_jsonl(tmp_path / "a.jsonl")
    assert [r["error"]["code"] for r in records if r["error"]] == ["timeout"]
    assert records[2]["error"]


def test_a_worker_that_cannot_open_its_model_says_why(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "hook").mkdir()
    predictor = toplabel.load(**save_model(tmp_path))
    bundle = predictor.classifier.bundle
    assert bundle is not None
    bundle.program.path.unlink()
    with pytest.raises(toplabel.ToplabelError, match="program"):
        toplabel.run(photos, tmp_path / "a.jsonl", model=predictor)


def test_a_worker_whose_model_was_cleared_from_the_cache_says_what_to_do(
    photos: Path, tmp_path: Path
) -> None:
    predictor = toplabel.load(**save_model(tmp_path))
    bundle = predictor.classifier.bundle
    assert bundle is not None
    shutil.rmtree(bundle.program.path.parent)
    with pytest.raises(RunError, match="cache was cleared.* run the same command again"):
        toplabel.run(photos, tmp_path / "a.jsonl", model=predictor)


def test_the_run_imports_no_torch(photos: Path, tmp_path: Path) -> None:
    code = (
        "import sys, toplabel\n"
        f"toplabel.run({str(photos)!r}, {str(tmp_path / 'a.csv')!r})\n"
        "assert not {'torch', 'onnxruntime', 'pyarrow'} & set(sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_report_shows_the_inputs_of_all_calls(photos: Path, tmp_path: Path) -> None:
    (photos / "00002.png").write_bytes(b"?")
    label(photos, tmp_path / "a.jsonl")
    (photos / "<b>new.png").write_bytes(colour_bytes(2))
    label(photos, tmp_path / "a.jsonl", report=tmp_path / "a.html", threshold=None)
    text = (tmp_path / "a.html").read_text()
    assert text.lower().startswith("<!doctype html>")
    assert "00024.png" in text
    assert "not_an_image" in text
    assert "<b>new.png" not in text
    assert "test/colours@00000000" in text
    first = text
    label(photos, tmp_path / "a.jsonl", report=tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text() == first


def test_several_worker_processes_give_the_same_records(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_model(tmp_path)
    toplabel.run(photos, tmp_path / "one.jsonl", shard_size=4, threads=2, **model)
    monkeypatch.setattr("toplabel.runs.worker_pool.THREADS_OF_PROCESS", 1)
    told: list[Progress] = []
    toplabel.run(
        photos, tmp_path / "two.jsonl", shard_size=4, threads=2, progress=told.append, **model
    )
    assert (tmp_path / "two.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    assert told[-1].done == 25
    (photos / "00001.png").write_bytes(b"?")
    before = threading.active_count()
    with pytest.raises(RunError, match="max_errors"):
        toplabel.run(
            photos, tmp_path / "three.jsonl", shard_size=4, threads=2, max_errors=0, **model
        )
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("threads", "shares"),
    [(1, [1]), (2, [2]), (8, [8]), (12, [6, 6]), (20, [10, 10])] + [(64, [8] * 8)],
)
def test_threads_are_shared_among_processes(threads: int, shares: list[int]) -> None:
    assert share_threads(threads) == shares


def test_common_mistakes_are_warned_of_in_runs_too(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index in range(40):  # of no colour at all: the answers are near uniform
        grey = Image.new("RGB", (16, 16), (6 * index,) * 3)
        grey.save(tmp_path / "photos" / f"{index:03d}.png")
    with pytest.warns(ToplabelWarning) as told:
        summary = toplabel.run(tmp_path / "photos", tmp_path / "a.csv", **save_model(tmp_path))
    assert summary.warnings
    assert {str(one.message) for one in told} == set(summary.warnings)
    assert "warnings" in summary.to_dict()


def test_warnings_of_several_workers_reach_the_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toplabel.runs.worker_pool.THREADS_OF_PROCESS", 1)
    (tmp_path / "photos").mkdir()
    for index in range(80):
        grey = Image.new("RGB", (16, 16), (3 * index,) * 3)
        grey.save(tmp_path / "photos" / f"{index:03d}.png")
    with pytest.warns(ToplabelWarning):
        summary = toplabel.run(
            tmp_path / "photos",
            tmp_path / "a.csv",
            shard_size=40,
            threads=2,
            **save_model(tmp_path),
        )
    assert len(summary.warnings) == len(set(summary.warnings)) >= 1


def test_what_was_assumed_of_a_model_is_in_every_record(photos: Path, tmp_path: Path) -> None:
    model = save_model(tmp_path)
    del model["labels"]
    with pytest.warns(ToplabelWarning, match="without class names"):
        summary = toplabel.run(photos, tmp_path / "a.jsonl", **model)
    records = read_jsonl(tmp_path / "a.jsonl")
    assert any("without class names" in text for text in summary.warnings)
    assert {tuple(record["warnings"]) for record in records} == {summary.warnings}


def test_what_a_worker_logs_is_logged_by_the_run(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = "__import__('logging').getLogger('toplabel.there').info('%s is %d', 'it', 3)"
    kill_with(tmp_path / "hook", "00002.png", log)
    monkeypatch.syspath_prepend(str(tmp_path / "hook"))
    caplog.set_level("INFO", "toplabel")
    toplabel.run(photos, tmp_path / "a.jsonl", **save_model(tmp_path))
    assert ("toplabel.there", 20, "it is 3") in caplog.record_tuples
