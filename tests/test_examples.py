"""The examples run as they stand, and say what they say they do."""

import os
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

ROOT = Path(__file__).parents[1]
EXPECTED = {
    "label_images": [
        "espresso",
        "tiger cat 0.37",
        "None None not_found",
        "cat.jpg tiger cat",
        "coffee.jpg espresso",
        "rocket.jpg missile",
    ],
    "own_checkpoint": ["red", "blue"],
    "tables": ["label  score", "tiger cat   0.37", "[('tiger cat', 0.37), ('espresso', 0.95)]"],
}


@pytest.mark.slow  # seconds each: a network is compiled, processes start
@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_prints_what_it_should(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    place = 0
    for line in EXPECTED[name]:  # in this order
        place = done.stdout.find(line, place)
        assert place >= 0, (line, done.stdout)


def test_an_application_around_a_predictor_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient

    monkeypatch.syspath_prepend(ROOT / "examples")
    from fastapi_app import app

    client = TestClient(app)
    cat = (ROOT / "examples" / "cat.jpg").read_bytes()
    assert client.post("/label", files={"image": cat}).json()["label"] == "tiger cat"
    refused = client.post("/label", files={"image": b"no image"})
    assert (refused.status_code, refused.json()["detail"]["code"]) == (422, "not_an_image")


def test_a_column_of_paths_becomes_a_column_of_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    from spark_and_daft import label_column

    paths = pandas.Series([str(ROOT / "examples" / "coffee.jpg"), "missing.jpg"], [7, 9])
    found = label_column(paths)
    assert found[7] == "espresso"
    assert pandas.isna(found[9])
