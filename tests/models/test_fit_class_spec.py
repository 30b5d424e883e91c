"""Locating: a class by its name, its file found and its arguments read, without any import."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from toplabel.errors import UsageError
from toplabel.models.fit.class_spec import (
    loaded_below,
    locate_class_file,
    parse_arguments,
    parse_class,
)


@pytest.mark.parametrize(
    ("spec", "file", "module", "attribute"),
    [
        ("nets.py:MyCNN", "nets.py", "", "MyCNN"),
        ("dir/sub.dir/nets.py:make_net", "dir/sub.dir/nets.py", "", "make_net"),
        ("/a b/ünets.py:Nät", "/a b/ünets.py", "", "Nät"),
        ("my_project.nets:MyCNN", None, "my_project.nets", "MyCNN"),
        ("nets:MyCNN.from_size", None, "nets", "MyCNN.from_size"),
        ("a:b.py:C", "a:b.py", "", "C"),
    ],
)
def test_a_class_is_named_by_its_file_or_module(spec, file, module, attribute):
    name = parse_class(spec)
    assert (name.file and str(name.file), name.module, name.attribute) == (file, module, attribute)
    assert str(name) == spec


@pytest.mark.parametrize(
    "spec",
    ["", "MyCNN", "nets.py", "nets.py:", ":MyCNN", "a/b:C", "a..b:C", "a:1", "a b:C"],
)
def test_what_names_no_class_is_refused(spec):
    with pytest.raises(UsageError, match=r"expected package\.module:Class, or nets\.py:Class"):
        parse_class(spec)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder to work in, with a package whose import would be noticed."""
    package = tmp_path / "my_project" / "models"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "nets.py").write_text("raise SystemExit('imported')")
    (tmp_path / "namespace" / "inner").mkdir(parents=True)
    (tmp_path / "namespace" / "inner" / "nets.py").write_text("raise SystemExit('imported')")
    (tmp_path / "single.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "file"),
    [
        ("my_project.models.nets:Net", "my_project/models/nets.py"),
        ("my_project.models:Net", "my_project/models/__init__.py"),
        ("namespace.inner.nets:Net", "namespace/inner/nets.py"),
        ("single:Net", "single.py"),
        ("single.py:Net", "single.py"),
        ("./my_project/models/nets.py:Net", "my_project/models/nets.py"),
        ("namespace.inner:Net", None),
        ("my_project.nothing:Net", None),
        ("my_project.models.nets.deeper:Net", None),
        ("nothing_of_that_name:Net", None),
        ("nothing.py:Net", None),
        ("math:sqrt", None),
        ("sys:Net", None),
    ],
)
def test_a_classes_file_is_found_without_importing(spec, file, project):
    before = set(sys.modules)
    found = locate_class_file(spec)
    assert found == (project / file if file else None)
    assert not {name for name in set(sys.modules) - before if not name.startswith("_")}


def test_a_module_on_pythons_path_is_found(project, monkeypatch, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "far_away_nets.py").write_text("")
    monkeypatch.syspath_prepend(str(elsewhere))
    assert locate_class_file("far_away_nets:Net") == elsewhere / "far_away_nets.py"


def test_the_home_folder_may_be_written_short(project, monkeypatch):
    monkeypatch.setenv("HOME", str(project))
    assert locate_class_file("~/single.py:Net") == project / "single.py"


def test_arguments_are_pythons_literals_or_text():
    pairs = [
        "num_classes=10", "pretrained=False", "dims=[1, 2]", "name=abc", "rate=1e-3", "a=None",
        "b=true", "c=False", "d=null", "path=a=b", "e=", "in-chans=1", "f='10'", "g=(1,)", "h=1,2",
        "i= 3 ", "j=__import__('os')",
    ]  # fmt: skip
    assert parse_arguments(pairs) == {
        "num_classes": 10, "pretrained": False, "dims": [1, 2], "name": "abc", "rate": 1e-3,
        "a": None, "b": True, "c": False, "d": None, "path": "a=b", "e": "", "in_chans": 1,
        "f": "10", "g": (1,), "h": (1, 2), "i": 3, "j": "__import__('os')",
    }  # fmt: skip


@pytest.mark.parametrize("pair", ["", "10", "=10", "a b=1", "1a=2", "a.b=1"])
def test_what_is_no_argument_is_refused(pair):
    with pytest.raises(UsageError, match="expected NAME=VALUE"):
        parse_arguments([pair])


def test_an_argument_twice_is_refused():
    with pytest.raises(UsageError, match="'a' of the class twice"):
        parse_arguments(["a=1", "a=2"])


def test_locating_needs_no_torch():
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from toplabel.models.fit.class_spec import locate_class_file, parse_arguments\n"
        f"print(locate_class_file({f'{__file__}:Net'!r}))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert Path(run.stdout.strip()) == Path(__file__).resolve()


def test_files_of_this_process_below_a_folder_are_those_of_the_user(tmp_path, monkeypatch):
    for name in ("blocks", "site-packages"):
        (tmp_path / "parts" / name).mkdir(parents=True)
    for at, file in enumerate(("parts/blocks/a.py", "parts/site-packages/b.py", "parts/c.so")):
        module = ModuleType(f"m{at}")
        module.__file__ = str(tmp_path / file)
        monkeypatch.setitem(sys.modules, f"m{at}", module)
    assert loaded_below(tmp_path) == [tmp_path / "parts" / "blocks" / "a.py"]
    assert loaded_below(tmp_path / "par") == []
