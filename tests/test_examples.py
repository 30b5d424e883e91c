"""The examples run as they stand, and say what they say they do."""

import doctest
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest

import newcomer
import toplabel

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
    "mlflow_model": ["label", "espresso", "NaN  not_found"],
    "tables": ["label  score", "tiger cat   0.37", "[('tiger cat', 0.37), ('espresso', 0.95)]"],
}


@pytest.mark.slow  # seconds each: a network is compiled, processes start
@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_prints_what_it_should(name: str, tmp_path: Path) -> None:
    if name == "mlflow_model":
        pytest.importorskip("mlflow", reason="MLflow is not installed; pip install mlflow-skinny")
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


@pytest.mark.slow  # Gradio takes seconds to import
def test_gradios_page_labels_what_it_is_given() -> None:
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("Gradio is not installed: 6.31 asks for a Pillow below 13")
    asked = """if True:
        import gradio, numpy, toplabel
        from gradio_demo import demo
        label = demo.fns[0].fn
        print(next(iter(label(toplabel.read_image("coffee.jpg")))), label(None))
        try:
            label(numpy.zeros((2, 2, 7), numpy.uint8))
        except gradio.Error as error:
            print(error.message)
    """
    done = subprocess.run(  # a loop of events would be left to this process otherwise
        [sys.executable, "-c", asked], capture_output=True, text=True, cwd=ROOT / "examples"
    )
    answer, _, refused = done.stdout.partition("\n")
    assert answer == "espresso {}", done.stderr
    assert "7 channels" in refused or "(2, 2, 7)" in refused


@pytest.mark.slow  # a process of Daft's starts
def test_daft_runs_the_callable(monkeypatch: pytest.MonkeyPatch) -> None:
    daft = pytest.importorskip("daft", reason="Daft 0.7 asks for a PyArrow below 26")
    monkeypatch.syspath_prepend(ROOT / "examples")
    from spark_and_daft import with_label_in_daft

    paths = [str(ROOT / "examples" / "coffee.jpg"), "missing.jpg"]
    table = with_label_in_daft(daft.from_pydict({"path": paths})).to_pydict()
    assert table["label"] == ["espresso", None]


NOTEBOOKS = {
    "label_images": [
        "('espresso', 0.95)",
        "not_found",
        "coffee.jpg espresso",
        "[('espresso', 1), ('missile', 1), ('tiger cat', 1)]",
        "labels.csv: 100%",
    ],
    "own_checkpoint": ["label='red'", "--preprocess", "'blue'", "features: 100%", "'red'"],
}
"""What stands among a notebook's outputs; without ipywidgets, bars are drawn as text."""


@pytest.mark.slow  # a kernel starts, networks are compiled, a folder is trained on
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_as_it_stands(name: str, tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    for photo in (ROOT / "examples").glob("*.jpg"):
        shutil.copy(photo, tmp_path)
    notebook = nbformat.read(ROOT / "examples" / f"{name}.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # none is kept
    shutil.copy(ROOT / "examples" / f"{name}.ipynb", tmp_path)
    subprocess.run(  # the kernel's sockets would be left to this process otherwise
        [sys.executable, "-c", "import nbclient.cli as c; c.main()", f"{name}.ipynb", "--inplace"],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    notebook = nbformat.read(tmp_path / f"{name}.ipynb", as_version=4)
    shown = [_shown(output) for cell in notebook.cells for output in cell.get("outputs", [])]
    for text in NOTEBOOKS[name]:
        assert any(text in one for one in shown), (text, shown)
    assert not any("Warning" in one for one in shown), shown


def _shown(output: dict[str, Any]) -> str:
    """What a person sees, and the HTML of it."""
    if output["output_type"] == "stream":
        return str(output["text"])
    return "".join(str(text) for text in output["data"].values())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newcomer's folder, and the examples in it."""
    place = newcomer.make(tmp_path_factory.mktemp("newcomer"))
    (place / "examples").symlink_to(ROOT / "examples")
    return place


def doctests() -> dict[str, doctest.DocTest]:
    """Of public names and their methods."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [
        test
        for name in toplabel.__all__
        if name != "__version__"
        for test in finder.find(getattr(toplabel, name), f"toplabel.{name}", globs={})
    ]
    return {test.name: test for test in found if test.examples}


@pytest.mark.slow  # one trains, one explains
@pytest.mark.parametrize("name", doctests())
def test_the_example_of_a_public_name_is_so(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    assert runner.run(doctests()[name], out=said.append).failed == 0, "".join(said)
