"""Every face says which images are unknown, and keeps their labels."""

import csv
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toplabel
from run_material import as_arguments, draw_colours, read_csv, read_jsonl, save_model
from serving import serving
from toplabel.bundle.file import pack
from toplabel.cli.view import Layout, to_rows
from unknown_material import draw_unknown, unknown_bundle

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    pack(unknown_bundle(folder), folder / "colours.toplabel")
    return folder / "colours.toplabel"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A red image, a grey one, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "2.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (red,) = draw_colours(folder, 1)
    return Path(red), Path(draw_unknown(folder / "1.png")), folder / "2.jpg"


def command(*arguments: object) -> str:
    """Standard output of a command that does its work."""
    done = subprocess.run(
        [sys.executable, "-m", "toplabel", *map(str, arguments)], capture_output=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr.decode()
    return done.stdout.decode()


def test_the_command_line_says_it(model: Path, photos: tuple[Path, ...]) -> None:
    red, grey, damaged = photos
    told = [json.loads(line) for line in command(*photos, "-m", model, "--json").splitlines()]
    assert [one.get("unknown") for one in told] == [False, True, None]
    assert [one["label"] for one in told] == ["red", "red", None]
    header, *rows = command(*photos, "-m", model, "--csv").splitlines()
    assert header.endswith(",error_message,unknown")
    assert [row.rpartition(",")[2] for row in rows] == ["false", "true", ""]
    columns = header.split(",")
    assert [len(cells) for cells in csv.reader(rows)] == [len(columns)] * 3
    piped = command(red, grey, "-m", model).splitlines()
    assert [line.split("\t")[3:] for line in piped] == [[], ["unknown"]]
    assert command(red, grey, "-m", model, "-q") == "red\nred\tunknown\n"
    assert piped[1].startswith(f"{grey}\tred\t")


def test_of_other_models_nothing_is_said(tmp_path: Path, photos: tuple[Path, ...]) -> None:
    _, grey, _ = photos
    plain = save_model(tmp_path)
    assert "unknown" not in command(grey, *as_arguments(plain), "--json")
    assert "unknown" not in command(grey, *as_arguments(plain), "--csv")
    prediction = toplabel.load(**plain)(grey)
    assert prediction.unknown is None
    assert "unknown" not in prediction.to_dict()
    summary = toplabel.run(grey, tmp_path / "out.csv", **plain)
    assert summary.drift is None
    assert "unknown" not in read_csv(tmp_path / "out.csv")[0]


def test_python_says_it(model: Path, photos: tuple[Path, ...]) -> None:
    red, grey, _ = photos
    predictor = toplabel.load(model)
    one, other = predictor([red, grey])
    assert (one.unknown, other.unknown) == (False, True)
    assert (one.to_dict()["unknown"], other.to_dict()["unknown"]) == (False, True)
    tensors = np.stack([predictor.preprocess(np.asarray(Image.open(p))) for p in (red, grey)])
    assert [p.unknown for p in predictor.predict_tensor(tensors)] == [False, True]
    assert "unlike everything" in other._repr_html_()
    assert "unlike everything" not in one._repr_html_()
    assert "unknown=True" in repr(other)
    assert "unknown" in predictor([red, grey])._repr_html_()
    layout = Layout(width=80, source_width=0, rows=2)
    assert to_rows(other, layout).startswith("unknown (nearest: red)")
    assert to_rows(one, layout).startswith("red ")
    assert toplabel.explain(predictor, grey).to_dict()["unknown"] is True
    assert toplabel.explain(predictor, red).unknown is False
    assert toplabel.compare(model, model, [grey]).same


def test_runs_say_it_in_every_format(model: Path, photos: tuple[Path, ...], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    folder = photos[0].parent
    summaries = [
        toplabel.run(folder, tmp_path / f"out{suffix}", model=model)
        for suffix in (".csv", ".jsonl", ".parquet")
    ]
    assert [(s.drift.unknown, s.drift.images) for s in summaries] == [(1, 2)] * 3
    assert [row["unknown"] for row in read_csv(tmp_path / "out.csv")] == ["false", "true", ""]
    found = [row.get("unknown") for row in read_jsonl(tmp_path / "out.jsonl")]
    assert found == [False, True, None]
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["unknown"].to_pylist() == [False, True, None]
    again = toplabel.run(folder, tmp_path / "out.csv", model=model)  # counted from what was kept
    assert (again.new, again.drift) == (0, summaries[0].drift)
    assert json.dumps(again.to_dict())


def test_a_run_puts_unknown_images_into_a_folder_of_their_own(
    model: Path, photos: tuple[Path, ...], tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    toplabel.run(
        photos[0].parent,
        tmp_path / "out.csv",
        model=model,
        copy_to=tmp_path / "sorted",
        report=report,
    )
    found = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "sorted").rglob("*.png"))
    assert found == ["sorted/red/00000.png", "sorted/unknown/1.png"]
    page = report.read_text()
    assert '"unknown":1' in page
    assert "1 of 2 images is unknown (50.0 %" in page


def test_a_run_of_other_images_than_those_of_the_training_warns(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(8):
        draw_unknown(tmp_path / "photos" / f"{number}.png")
    with pytest.warns(toplabel.ToplabelWarning, match="8 of 8 images are unknown .* differ from"):
        summary = toplabel.run(tmp_path / "photos", tmp_path / "out.csv", model=model)
    assert summary.drift.is_significant
    assert any("differ from what the model was trained on" in text for text in summary.warnings)
    with warnings.catch_warnings():
        warnings.simplefilter("error", toplabel.ToplabelWarning)
        draw_colours(tmp_path / "red", 9)
        toplabel.run(tmp_path / "red", tmp_path / "red.csv", model=model)


def test_a_run_begun_without_it_does_not_go_on_with_it(model: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from toplabel.bundle.file import open_packed

    draw_colours(tmp_path / "photos", 2)
    plain = tmp_path / "plain.toplabel"
    pack(replace(open_packed(model), unknown=None), plain)
    toplabel.run(tmp_path / "photos", tmp_path / "o.csv", model=plain)
    with pytest.raises(toplabel.RunError, match="was started with different"):
        toplabel.run(tmp_path / "photos", tmp_path / "o.csv", model=model)


def test_the_server_says_it(model: Path, photos: tuple[Path, ...]) -> None:
    red, grey, _ = (path.read_bytes() for path in photos)
    with serving("-m", str(model)) as server:
        for content, unknown in ((red, False), (grey, True)):
            record = server.classify(content).json["predictions"][0]
            assert (record["unknown"], record["label"]) == (unknown, "red")
            reply = server.post("/", content)
            assert reply.headers["x-unknown"] == json.dumps([unknown])
            tensor = toplabel.load(model).preprocess(np.asarray(Image.open(photos[unknown])))
            asked = {"name": "tensor", "shape": [1, 3, 8, 8], "datatype": "FP32"}
            body = json.dumps({"inputs": [asked | {"data": tensor.ravel().tolist()}]}).encode()
            reply = server.post("/v2/models/colours/infer", body, "application/json")
            outputs = {one["name"]: one["data"] for one in reply.json["outputs"]}
            assert (outputs["unknown"], outputs["label"]) == ([unknown], ["red"])
        known = server.ask("GET", "/v2/models/colours").json["outputs"]
        assert {"name": "unknown", "datatype": "BOOL", "shape": [-1]} in known
        for _ in range(10):
            server.classify(grey)
        text = server.ask("GET", "/metrics").body.decode()
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        of_model = {name.partition("{")[0]: float(value) for name, value in values.items()}
        assert of_model["toplabel_unknown_images_total"] == 12
        assert of_model["toplabel_unknown_share"] == pytest.approx(12 / 14)
        assert of_model["toplabel_unknown_share_expected"] < 0.25
        assert of_model["toplabel_drift"] == 1
        (served,) = server.ask("GET", "/v1/models").json["models"]
        assert "in the last hour 12 of 14 images are unknown" in served["warnings"][0]
    assert sum("in the last hour" in line for line in server.lines) == 1


def test_evaluate_says_how_many(model: Path, photos: tuple[Path, ...], tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    (tmp_path / "red").mkdir()
    for photo in photos[:2]:
        (tmp_path / "red" / photo.name).write_bytes(photo.read_bytes())
    found = toplabel.evaluate(toplabel.load(model), tmp_path)
    assert found.drift.unknown == 1
    assert found.to_dict()["drift"]["images"] == 2
    assert any("1 of 2 images is unknown" in note for note in found.notes)


def test_an_hour_is_forgotten_minute_by_minute(model: Path) -> None:
    from toplabel.serve.drift import LastHour

    now = [0.0]
    detector = toplabel.load(model).classifier.unknown
    hour = LastHour("colours", detector, clock=lambda: now[0])
    for _ in range(10):
        hour.add(True)
    now[0] = 59 * 60
    hour.add(False)
    assert (hour.drift.unknown, hour.drift.images) == (10, 11)
    now[0] = 60 * 60
    assert (hour.drift.unknown, hour.drift.images) == (0, 1)
    assert not hour.drift.is_significant
