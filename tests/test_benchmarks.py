"""The benchmarks' own arithmetic, and that the rivals do the same job as toplabel."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from benchmarks import (
    __main__ as command,
    guard,
    loop,
    machine,
    measure,
    report,
    results,
    training,
)
from benchmarks.bench import RIVALS, ROOT, Bench, last_json
from benchmarks.materials import checkpoints

import toplabel

CAT = ROOT / "examples" / "cat.jpg"


def test_measures_seconds_memory_and_output_of_a_process() -> None:
    script = "import time; block = b'x' * 80_000_000; time.sleep(0.2); print('done')"
    finished = measure.run([sys.executable, "-c", script])
    assert finished.output == "done\n"
    assert 0.2 < finished.seconds < 20
    assert finished.peak_mb > 80
    assert 0 < finished.cpu_seconds < finished.seconds


def test_a_process_that_fails_stops_the_measurement_with_what_it_said() -> None:
    with pytest.raises(RuntimeError, match="ended with 3: gone wrong"):
        measure.run([sys.executable, "-c", "import sys; print('gone wrong'); sys.exit(3)"])


def test_alternatives_take_turns_after_one_uncounted_round() -> None:
    calls: list[str] = []

    def call(name: str) -> int:
        calls.append(name)
        return len(calls)

    found = measure.interleave({"a": lambda: call("a"), "b": lambda: call("b")}, repeats=2)
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert found == {"a": [3, 5], "b": [4, 6]}


def test_figures_are_medians_with_smallest_and_largest() -> None:
    assert measure.ratio([1.0, 9.0, 3.0], [2.0, 1.0, 1.5]) == 2.0
    assert measure.spread([0.3, 0.1, 0.2], "s") == "0.20 s (0.10 to 0.30)"
    assert measure.spread([5.04], "images/s", digits=1) == "5.0 images/s"


def test_equal_labels_are_counted() -> None:
    ours = loop.Loop(per_second=1.0, indices=(1, 2, 3), threads=2, peak_mb=1.0)
    theirs = loop.Loop(per_second=1.0, indices=(1, 2, 4), threads=2, peak_mb=1.0)
    assert loop.same_labels(ours, theirs) == "2 of 3"


def _part(title: str, *, met: bool | None) -> dict[str, object]:
    row = results.Row(what="speed", figure="3 x", goal="" if met is None else ">= 2 x", met=met)
    around = {
        "date": "2026-01-01",
        "machine": {"cores": "2"},
        "photos": "drawn",
        "used_by_others": 0.9,
    }
    table = results.Table(title="Each", header=("a", "b"), rows=(("1", "2"),))
    section = results.Section(title=title, rows=(row,), tables=(table,), notes=("How.",))
    found: dict[str, object] = json.loads(json.dumps(results.to_dict(section, surroundings=around)))
    return found


def test_the_page_says_which_goals_are_met_and_how_to_measure_again() -> None:
    page = report.render(
        {"one": _part("One", met=True), "two": _part("Two", met=False), "x": _part("X", met=None)}
    )
    goals = page.split("## Goals")[1].split("## One")[0]
    assert "| One | speed | 3 x | >= 2 x | PASS |" in goals
    assert "| Two | speed | 3 x | >= 2 x | **MISS** |" in goals
    assert "| X |" not in goals
    assert "`python -m benchmarks two`" in page
    assert "| 1 | 2 |" in page
    assert "kept 0.9 cores busy" in page


def test_what_other_processes_do_meanwhile_is_noticed() -> None:
    before = machine.Moment(clock=10.0, all_work=100.0, own_work=5.0)
    after = machine.Moment(clock=20.0, all_work=119.0, own_work=15.0)
    assert machine.used_by_others(before, after) == pytest.approx(0.9)
    assert machine.used_by_others(machine.now(), machine.now()) >= 0


def test_measuring_one_part_anew_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "RESULTS", tmp_path / "benchmarks.json")
    monkeypatch.setattr(command, "PAGE", tmp_path / "benchmarks.md")
    command._write("memory", _part("Memory", met=True))
    command._write("accuracy", _part("Accuracy", met=True))
    command._write("memory", _part("Memory again", met=False))
    assert sorted(results.read_results(tmp_path / "benchmarks.json")) == ["accuracy", "memory"]
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert page.index("## Memory again") < page.index("## Accuracy")


def test_the_guard_is_judged_by_photos_that_were_scaled() -> None:
    one = {"scale": 2, "margin": 0.4, "margin_exact": 0.1, "label_changed": True}
    found = [
        {**one, "guarded_label_changed": False},
        {**one, "margin": 3.0, "label_changed": False, "guarded_label_changed": False},
        {**one, "scale": 1, "margin": 0.1, "label_changed": False, "guarded_label_changed": False},
    ]
    section = guard._section("Guard", {"photos": found})
    assert section.rows[0].figure == "0"
    assert section.rows[0].met
    assert "at most 0.40 apart" in section.rows[1].figure
    shares = section.tables[1].rows[0]
    assert shares == ("photos", "0 %", "50 %", "50 %", "50 %", "50 %")


def test_the_bare_script_gives_the_label_and_score_of_the_exact_path(tmp_path: Path) -> None:
    embedded = Path(toplabel.__path__[0]) / "data" / "efficientnet_lite0"
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(toplabel.load().labels), encoding="utf-8")
    script = RIVALS / "bare_onnxruntime.py"
    finished = measure.run([sys.executable, script, CAT, embedded / "program.onnx", labels])
    label, score = finished.output.splitlines()[0].split("\t")
    ours = toplabel.load(exact=True)(CAT)
    assert label == ours.label
    assert float(score) == pytest.approx(ours.score, abs=1e-3)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    pytest.importorskip("torch")
    return Bench(tmp_path_factory.mktemp("bench"), quick=True)


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("script", "first", "second"),
    [
        ("textbook_loop.py", "lite0", "lite0.pth"),
        ("expert_loop.py", "lite0", "lite0.pth"),
        ("hf_pipeline.py", "default", "lite0-hf"),
        ("hf_pipeline.py", "batched", "lite0-hf"),
    ],
)
def test_each_rival_gives_the_reference_labels(
    bench: Bench, shared_data: Path, script: str, first: str, second: str
) -> None:
    reference = json.loads((shared_data / "reference" / "lite0_imagenet.json").read_bytes())
    photos = sorted((shared_data / "imagenet").iterdir())[:8]
    finished = bench.run_script(RIVALS / script, first, checkpoints(bench) / second, *photos)
    expected = [reference["top5"][photo.name]["index"][0] for photo in photos]
    assert last_json(finished)["indices"] == expected


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.shared_data
def test_training_is_measured_on_images_that_it_has_not_seen(
    bench: Bench, shared_data: Path
) -> None:
    data = shared_data / "train" / "bees"
    section = training.measure(bench, data=data)
    (_, _, accuracy) = section.raw[training.OURS]
    assert 0.9 < accuracy < 1
    assert section.rows[0].what == "toplabel train: bees, whole process"
