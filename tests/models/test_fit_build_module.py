"""Classes: user's code named by file, module or in hand; a network, or one line of why not, out."""

import sys
from functools import partial

import pytest
import torch
from torch import nn

from own_networks import GreyNet
from toplabel.errors import ModelError, UsageError
from toplabel.models.fit.build_module import build_module

NETS = """
import dataclasses
from torch import nn
import blocks
print("hello from the file")

@dataclasses.dataclass
class Settings:
    width: int = 4

class Base(nn.Module):
    pass

class MyCNN(Base):
    def __init__(self, num_classes, width=4, *, in_chans=3):
        super().__init__()
        print("hello from the class")
        self.head = blocks.Head(width, num_classes)

    @classmethod
    def small(cls):
        return cls(2)

def make_net(width: int = 2):
    from late_blocks import late
    return late(width)

def make_dict(**anything):
    return {"model": MyCNN(3)}

def broken(num_classes=3):
    return int("many")

ready = MyCNN(5)
number = 5
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = tmp_path / "own_project"
    folder.mkdir()
    (folder / "nets.py").write_text(NETS)
    (folder / "blocks.py").write_text("from torch.nn import Linear as Head\nORIGIN = 'own'\n")
    (folder / "late_blocks.py").write_text(
        "from torch import nn\nlate = lambda n: nn.Linear(n, n)\n"
    )
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "parts.py").write_text("from torch.nn import Linear as Part\n")
    (folder / "package" / "nets.py").write_text("from .parts import Part\n")
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.chdir(folder)
    return folder


def test_a_class_in_a_file_may_import_its_neighbours(project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    module = build_module("own_project/nets.py:MyCNN", {"num_classes": 7})
    assert module.head.out_features == 7
    assert sys.path == path
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("hello") == 1  # the class's; the file itself is not run


def test_the_whole_file_runs_only_where_that_is_said(project, capsys):
    build_module("nets.py:MyCNN", {"num_classes": 7}, run=True)
    assert "hello from the file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spec", "arguments", "outputs"),
    [
        ("nets.py:make_net", {"width": 6}, None),
        ("nets:MyCNN", {"num_classes": 3}, 3),
        ("nets.py:MyCNN.small", {}, 2),
        ("nets.py:ready", {}, 5),
        ("package.nets:Part", {"in_features": 1, "out_features": 1}, None),
    ],
)
def test_a_network_is_made_by(spec, arguments, outputs, project):
    module = build_module(spec, arguments)
    assert isinstance(module, nn.Module)
    if outputs:
        assert module.head.out_features == outputs


def test_what_python_has_in_hand_is_taken(capsys):
    assert isinstance(build_module(GreyNet, {"num_classes": 4}), GreyNet)
    assert isinstance(build_module(lambda: GreyNet(4)), GreyNet)
    assert isinstance(build_module(partial(GreyNet, 4), {"width": 2}), GreyNet)
    module = GreyNet(4)
    assert build_module(module) is module
    with pytest.raises(UsageError, match="GreyNet is already a network.*got num_classes"):
        build_module(module, {"num_classes": 4})
    with pytest.raises(UsageError, match="int is a int; expected a network class"):
        build_module(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "arguments", "error", "says"),
    [
        ("none.py:MyCNN", {}, UsageError, r"cannot read 'none.py': No such file.*class MyCNN"),
        ("package:None_", {}, UsageError, r"no 'None_' in package; it has no network class"),
        (
            "no_such_pkg.nets:MyCNN",
            {},
            UsageError,
            r"no module named 'no_such_pkg\.nets' in .*own_project",
        ),
        ("package.missing:MyCNN", {}, UsageError, r"no module named 'package\.missing'"),
        ("nets.py:MyCnn", {}, UsageError, r"no 'MyCnn' in nets\.py; it has MyCNN"),
        ("nets.py:Other", {}, UsageError, r"no 'Other' in nets\.py; it has Base, MyCNN"),
        (
            "nets.py:MyCNN",
            {},
            UsageError,
            r'MyCNN needs num_classes; pass arch_args=\{"num_classes": \.\.\.\}',
        ),
        (
            "nets.py:MyCNN",
            {"num_clases": 3},
            UsageError,
            r"has no argument 'num_clases'; it takes num_classes, width, in_chans",
        ),
        (
            "nets.py:make_dict",
            {"x": 1},
            ModelError,
            r"make_dict\(x=1\) returned a dict; expected a torch",
        ),
        ("nets.py:number", {}, UsageError, r"number is a int; expected a network class"),
        (
            "nets.py:broken",
            {},
            ModelError,
            r"calling broken\(\) failed: ValueError: invalid literal.*\(nets\.py, line \d+\)",
        ),
        (
            "nets.py:MyCNN",
            {"num_classes": "x"},
            ModelError,
            r"calling MyCNN\(num_classes='x'\) failed: .*\(nets\.py, line \d+\)",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(spec, arguments, error, says, project):
    with pytest.raises(error, match=says) as caught:
        build_module(spec, arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("class Net(:\n", r"running net\.py failed: SyntaxError: .*\(line 1\)"),
        ("import no_such_library\n", r"No module named 'no_such_library'.*; install it"),
        ("import sys; sys.exit(2)\n", r"SystemExit: 2.*__main__"),
        ("raise ValueError('first\\nsecond')\n", r"ValueError: first \(net\.py, line 1\)$"),
        ("\0", "running net.py failed"),
        ("\xff", "running net.py failed"),
    ],
)
def test_a_file_that_cannot_run_says_why(source, says, tmp_path, monkeypatch):
    (tmp_path / "net.py").write_bytes(source.encode("latin-1"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=says) as caught:
        build_module("net.py:Net", run=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "statement",
    ["torch.save(1, 'net.pth')", "open('net.pth', 'wb')", "import os; os.remove('net.pth')"],
)
def test_a_file_that_is_run_whole_overwrites_nothing(statement, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.pth").write_bytes(b"weights")
    (tmp_path / "net.py").write_text(f"import torch\n{statement}\nNet = torch.nn.Identity\n")
    with pytest.raises(ModelError, match=r"net\.pth\); it was stopped"):
        build_module("net.py:Net", run=True)
    assert (tmp_path / "net.pth").read_bytes() == b"weights"
    (tmp_path / "net.pth").unlink()
    (tmp_path / "other").touch()
    torch.save(1, tmp_path / "other")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("class Net(:\n", r"net\.py:1: it cannot be parsed"),
        ("print 'Python 2'\n", r"net\.py:1: it is Python 2"),
        ("import sys; sys.exit(2)\n", r"no 'Net' in net\.py; it has no network class"),
        ("Net = __import__('nets').Net\n", r"known only when the file runs.*trust=True"),
    ],
)
def test_a_file_without_the_class_says_so_and_is_not_run(source, says, tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ModelError, UsageError), match=says):
        build_module("net.py:Net")


def test_two_projects_have_each_its_own_neighbours(project, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "blocks.py").write_text("from torch.nn import Identity as Net\n")
    (other / "nets.py").write_text("from blocks import Net\n")
    build_module("nets.py:MyCNN", {"num_classes": 7})
    assert isinstance(build_module(f"{other / 'nets.py'}:Net"), nn.Identity)
    assert build_module("nets.py:MyCNN", {"num_classes": 7}).head.out_features == 7


def test_a_changed_file_is_read_again_and_nothing_is_written_beside_it(tmp_path):
    file = tmp_path / "net.py"
    for width in (2, 3):
        file.write_text(f"from torch import nn\nmake = lambda: nn.Linear({width}, 1)\n")
        assert build_module(f"{file}:make").in_features == width
    assert [path.name for path in tmp_path.iterdir()] == ["net.py"]


def test_a_file_hides_no_module_of_its_name(tmp_path):
    (tmp_path / "json.py").write_text("from torch.nn import Identity as Net\n")
    build_module(f"{tmp_path / 'json.py'}:Net")
    import json

    assert json.loads("1") == 1
