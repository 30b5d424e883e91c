"""What importing and starting cost, and which names are public."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import toplabel
from toplabel import errors
from toplabel.cli.group import COMMANDS

HEAVY = ("torch", "onnxruntime", "numpy", "PIL", "importlib.metadata", "click", "rich")


def modules_after(code: str) -> set[str]:
    """Names of the modules that a fresh Python has imported after `code`."""
    script = f"{code}\nimport sys; print('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_importing_toplabel_imports_nothing_heavy():
    assert not modules_after("import toplabel").intersection(HEAVY)


def test_help_imports_nothing_heavy():
    code = "from toplabel.cli import status_of; assert status_of(['--help']) == 0"
    assert not modules_after(code).intersection(HEAVY) - {"click"}


def test_labelling_imports_no_torch_and_no_metadata(shared_data: Path):
    photo = min((shared_data / "imagenet").iterdir())
    code = f"from toplabel.cli import status_of; assert status_of([{str(photo)!r}]) == 0"
    unwanted = {"torch", "torchvision", "timm", "importlib.metadata", "asyncio", "http", "rich"}
    assert not modules_after(code).intersection(unwanted)


def test_public_names_are_those_that_are_promised():
    promised = {"label", "load", "wrap", "Labels", "Prediction", "Predictor", "Preprocess"}
    promised |= {"Comparison", "Diagnosis", "Evaluation", "ReadOptions", "RunSummary"}
    promised |= {"Explanation", "Predictions", "read_image", "read_labels"}
    promised |= {"TrainingResult", "train"}
    promised |= {
        "calibrate",
        "compare",
        "diagnose",
        "evaluate",
        "explain",
        "optimize",
        "run",
        "__version__",
    }
    promised |= {n for n in vars(errors) if n.endswith("Error") or n == "ModelNotFound"}
    promised |= {"MissingDependency", "ToplabelWarning"}
    assert set(toplabel.__all__) == promised
    assert dir(toplabel) == sorted(promised)  # what editors offer


def test_help_is_a_table_of_contents_that_fits_a_screen():
    contents = toplabel.__doc__
    assert len(contents.splitlines()) <= 40
    functions = {name for name in toplabel.__all__ if name[0].islower()}
    assert [name for name in functions if f"{name}(" not in contents] == []


@pytest.mark.parametrize("name", toplabel.__all__)
def test_every_public_name_can_be_had_and_is_documented(name: str):
    value = getattr(toplabel, name)
    assert name == "__version__" or value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lable'"):
        _ = toplabel.lable


@pytest.mark.parametrize("first", ["label", "load", "Predictor", "Labels"])
def test_names_are_what_they_are_in_whatever_order_they_are_used(first: str):
    checks = f"toplabel.{first}; assert callable(toplabel.load) and callable(toplabel.label)"
    modules_after(f"import toplabel; {checks}")


def test_editors_see_every_lazy_name():
    stub = Path(toplabel.__file__).with_suffix(".pyi").read_text()
    seen = set(re.findall(r"\b(?:def|as) (\w+)", stub))
    assert set(toplabel.__all__) - {"__version__"} <= seen


def test_the_version_is_the_packages():
    done = subprocess.run(
        [sys.executable, "-m", "toplabel", "--version"], capture_output=True, text=True
    )
    assert done.stdout == f"toplabel {toplabel.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_stands_in_the_readme(command: str):
    done = subprocess.run(
        [sys.executable, "-m", "toplabel", command, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert f"toplabel {command}" in done.stdout
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert not readme or f"toplabel {command}" in readme or command == "predict"


def test_nothing_is_reported_to_anybody(tmp_path: Path):
    """Official builds of ONNX Runtime keep an identity in the home folder and send it away."""
    done = subprocess.run(
        [sys.executable, "-m", "toplabel", "examples/cat.jpg"],
        capture_output=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert list(tmp_path.rglob("*onnxruntime*")) == []
    assert not (tmp_path / ".cache" / "Microsoft").exists()
    places = [p for p in Path("src").rglob("*.py") if "import onnxruntime" in p.read_text()]
    assert [p.name for p in places] == ["onnxruntime.py"]


@pytest.mark.slow  # Jedi reads the stub and what it names: seconds
def test_jedi_completes_names_arguments_and_what_is_returned():
    jedi = pytest.importorskip("jedi", reason="jedi is not installed: pip install --group dev")

    def completed(code: str) -> set[str]:
        *_, last = code.splitlines()
        found = jedi.Script(code).complete(len(code.splitlines()), len(last))
        return {one.name for one in found if not one.name.startswith("_")}

    assert set(toplabel.__all__) - {"__version__"} <= completed("import toplabel\ntoplabel.")
    for function in ("load", "label", "wrap", "run", "train", "diagnose"):
        arguments = inspect.signature(getattr(toplabel, function)).parameters
        offered = completed(f"import toplabel\ntoplabel.{function}(")
        assert {f"{one}=" for one in arguments} <= offered
    assert {"stream", "embed", "save"} <= completed("import toplabel\ntoplabel.load().")
    assert {"label", "score", "top"} <= completed("import toplabel\ntoplabel.load()('x').")


def test_ipython_offers_public_names_alone_and_the_arguments_of_load():
    completer = pytest.importorskip("IPython.core.completer", reason="IPython is not installed")
    shell = completer.IPCompleter(namespace={"toplabel": toplabel})
    shell.use_jedi = False  # as IPython does by default in notebooks' kernels

    def completed(text: str) -> set[str]:
        with completer.provisionalcompleter():
            found = shell.completions(text, len(text))
            return {one.text.rpartition(".")[2] for one in found}

    assert completed("toplabel.") == {*dir(toplabel)} - {"__version__"}
    assert {"arch=", "arch_args="} <= completed("toplabel.load(ar")
