"""A folder of images may come from anywhere: no file in it is ever imported."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import toplabel

CAT = Path(__file__).parents[2] / "examples" / "cat.jpg"
PLANTED = "open({mark!r}, 'a').write(__name__ + chr(10))\nraise SystemExit('ran ' + __name__)\n"
OURS = {"toplabel"}  # of the tests, imported from the checkout


@pytest.fixture(scope="module")
def imported() -> list[str]:
    """Every module that a run's processes, and some others, import: top-level names."""
    code = (
        "import sys, json, toplabel, toplabel.cli, toplabel.runs.worker, toplabel.runs.run\n"
        "toplabel.label({!r})\n"
        "print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code.format(str(CAT))], capture_output=True, text=True, check=True
    )
    names = set(json.loads(done.stdout)) | {"torch", "torchvision", "timm", "tomllib", "yaml"}
    return sorted(name for name in names if name.isidentifier() and name not in OURS)


@pytest.fixture
def planted(tmp_path: Path, imported: list[str]) -> tuple[Path, Path]:
    """A folder with an image, a module of every name, and a bundle; and the file that they mark."""
    folder, mark = tmp_path / "photos", tmp_path / "mark"
    folder.mkdir()
    shutil.copy(CAT, folder / "cat.jpg")
    toplabel.load().save(folder / "model.toplabel")
    for name in imported:
        (folder / f"{name}.py").write_text(PLANTED.format(mark=str(mark)))
    for name in ("sitecustomize", "usercustomize"):
        (folder / f"{name}.py").write_text(PLANTED.format(mark=str(mark)))
    return folder, mark


COMMANDS = {
    "run": ["run", ".", "-o", "../out.csv"],
    "run of a bundle": ["run", ".", "-m", "model.toplabel", "-o", "../out.csv"],
    "label": ["cat.jpg"],
    "inspect": ["inspect", "model.toplabel"],
    "models": ["models"],
    "explain": ["explain", "cat.jpg", "-o", "../heat.png"],
    "pack": ["pack", "model.toplabel", "-o", "../again.toplabel"],
    "doctor": ["doctor", "--help"],
}


@pytest.mark.parametrize("how", ["toplabel", "python -m toplabel"])
@pytest.mark.parametrize(
    "command",
    [name if name == "run" else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS],
)
def test_no_module_beside_the_images_is_imported(
    planted: tuple[Path, Path], command: str, how: str
) -> None:
    folder, mark = planted
    program = [str(Path(sys.executable).with_name("toplabel"))]
    if how.startswith("python"):
        program = [sys.executable, "-m", "toplabel"]
        # Python itself has the current folder first while it finds the package: its own modules
        # are out of our hands then
        for name in sys.stdlib_module_names:
            (folder / f"{name}.py").unlink(missing_ok=True)
    source = str(Path(toplabel.__file__).parents[1])
    done = subprocess.run(
        [*program, *COMMANDS[command]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
    )
    assert not mark.exists(), mark.read_text()
    assert done.returncode in (0, 1), done.stderr
    if command.startswith("run"):
        assert (folder.parent / "out.csv").read_text().count("\n") == 2
