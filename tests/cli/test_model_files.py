"""`toplabel inspect`, `pack` and the presets, through real processes."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from toplabel.cli.group import COMMANDS, toplabel as group

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from own_networks import GreyNet, OneSize  # noqa: E402
from toplabel.models.zoo_import import import_torchvision  # noqa: E402

NETS = Path(__file__).parents[1] / "own_networks.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "toplabel", *map(str, arguments)], capture_output=True, text=True
    )


def facts(path: Path, *more: str) -> dict:
    return json.loads(run("inspect", path, "--json", *more).stdout)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A ResNet-18 of torchvision's with 37 classes and one input channel."""
    module = import_torchvision().models.resnet18(num_classes=37)
    module.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    torch.save({"epoch": 3, "model_state_dict": module.state_dict()}, tmp_path / "best.pth")
    return tmp_path / "best.pth"


def test_inspect_tells_format_keys_classes_channels_and_architecture(checkpoint):
    found = facts(checkpoint)
    assert found["format"] == "torch zip"
    assert found["state_dict"] == "model_state_dict"
    assert (found["classes"], found["input_channels"]) == (37, 1)
    assert "torchvision/resnet18" in found["architecture"]
    assert (found["tensors"], found["preprocess"]) == (122, "not stated")
    assert any("--labels" in line for line in found["missing"])
    assert not found["problem"]


def test_inspect_prints_lines_for_people_and_says_what_to_state(checkpoint):
    done = run("inspect", checkpoint)
    assert done.returncode == 0
    assert "input channels\t1\n" in done.stdout
    assert "missing: --labels classes.txt" in done.stderr


def test_inspect_of_an_unknown_network_gives_what_its_tensors_tell(tmp_path):
    torch.save(GreyNet(9).state_dict(), tmp_path / "net.pth")
    found = facts(tmp_path / "net.pth")
    assert (found["architecture"], found["classes"], found["input_channels"]) == ([], 9, 1)
    assert (found["classes_from"], found["input_channels_from"]) == (
        "head.weight",
        "features.0.weight",
    )
    assert "--arch nets.py:MyClass" in found["missing"][0]


@pytest.mark.slow  # two processes import PyTorch
def test_inspect_with_a_class_says_which_sizes_and_presets_fit(tmp_path):
    torch.save(OneSize(9).state_dict(), tmp_path / "net.pth")
    found = facts(tmp_path / "net.pth", "--arch", f"{NETS}:OneSize", "--arch-arg", "num_classes=9")
    assert found["takes"] == "28x28 to 29x29 pixels of 1 channel"
    assert found["loaded"] == "100.0% of the parameters"
    assert "--preprocess mnist-28 (Normalize(0.1307, 0.3081))" in found["missing"]
    assert not any("--arch" in line for line in found["missing"])
    done = run("inspect", tmp_path / "net.pth", "--arch", f"{NETS}:ResNet20")
    assert done.returncode == 2
    assert "conv1.weight" in done.stderr


SCRIPT = """
import torch
from torch import nn
from torchvision import transforms

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5)
        self.fc = nn.Linear(4 * 14 * 14, 3)

    def forward(self, x):
        return self.fc(torch.max_pool2d(self.conv(x), 2).flatten(1))

transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.5)])
classes = ("ant", "bee", "cat")
net = Net()
torch.save(net.state_dict(), "net.pth")
"""


@pytest.mark.slow  # two processes import PyTorch
def test_inspect_says_what_a_script_says_and_the_one_command(tmp_path):
    script, saved = tmp_path / "train.py", tmp_path / "net.pth"
    script.write_text(SCRIPT)
    torch.manual_seed(0)
    state = {"conv": torch.nn.Conv2d(3, 4, 5), "fc": torch.nn.Linear(784, 3)}
    torch.save(torch.nn.ModuleDict(state).state_dict(), saved)
    before = saved.read_bytes()
    assert f"--script {script}" in facts(saved)["missing"][-1]
    found = facts(saved, "--script", str(script))
    assert (found["labels"], found["missing"], found["problem"]) == (["ant", "bee", "cat"], [], "")
    assert found["preprocess"]["input_size"] == [32, 32]
    assert found["command"] == f"toplabel IMAGE -m {saved} --script {script}"
    assert saved.read_bytes() == before


def test_inspect_of_a_whole_network_names_its_class_and_runs_nothing(tmp_path):
    torch.save(GreyNet(9), tmp_path / "whole.pth")
    done = run("inspect", tmp_path / "whole.pth")
    assert done.returncode == 0
    assert "--arch FILE.py:GreyNet (a whole pickled network of class own_networks" in done.stderr


def test_inspect_imports_no_torch_and_reads_no_weights(tmp_path):
    big = {f"layer{index}.weight": torch.zeros(5_000, 5_000) for index in range(2)}
    torch.save(big, tmp_path / "big.pth")
    script = (
        "import sys; sys.modules['torch'] = None; from toplabel.cli import status_of;"
        f"status = status_of(['inspect', {str(tmp_path / 'big.pth')!r}]);"
        "peak = next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1];"
        "sys.exit(status if int(peak) < 100_000 else 9)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "200.0 MB" in done.stdout


def test_inspect_prints_and_checks_the_sha256_of_what_has_no_checksum(tmp_path):
    path = tmp_path / "old.pth"
    torch.save(GreyNet(3).state_dict(), path, _use_new_zipfile_serialization=False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts(path)["sha256"] == digest
    assert run("inspect", path, "--sha256", digest.upper()).returncode == 0
    other = run("inspect", path, "--sha256", "0" * 64)
    assert other.returncode == 2
    assert "expected 000" in other.stderr


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "it is an image"),
        (b"nothing in particular, for sure", "file format is unknown"),
    ],
)
def test_inspect_says_what_a_file_is_that_is_no_checkpoint(tmp_path, content, reason):
    (tmp_path / "best.pth").write_bytes(content)
    done = run("inspect", tmp_path / "best.pth")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert reason in line


def test_inspect_of_no_file_says_so():
    done = run("inspect", "nowhere.pth")
    assert done.returncode == 2
    assert "no such file" in done.stderr


def test_pack_then_label_and_inspect(tmp_path):
    torch.save(GreyNet(3).state_dict(), tmp_path / "best.pth")
    grey = {"channels": "grey", "mean": [0.5], "std": [0.5], "input_size": [28, 28]}
    (tmp_path / "p.json").write_text(json.dumps({"schema": 1, "resize_size": [28, 28], **grey}))
    (tmp_path / "classes.csv").write_text("index,name\n0,ant\n1,bee\n2,cat\n")
    packed = tmp_path / "cats.toplabel"
    done = run(
        "pack", tmp_path / "best.pth", "--arch", f"{NETS}:GreyNet", "--arch-arg", "num_classes=3",
        "--labels", tmp_path / "classes.csv", "--preprocess", tmp_path / "p.json", "-o", packed,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "3 classes" in done.stderr
    labelled = run("examples/cat.jpg", "-m", packed, "-q")
    assert labelled.stdout.strip() in ("ant", "bee", "cat")
    assert labelled.stderr == ""
    found = facts(packed)
    assert (found["labels"], found["verified"]) == (["ant", "bee", "cat"], True)
    assert found["preprocess"]["channels"] == "grey"
    assert found["provenance"]["source"] == "checkpoint"


def test_options_of_checkpoints_are_refused_for_other_models():
    done = run("examples/cat.jpg", "--arch", "resnet18")
    assert done.returncode == 2
    assert "got --arch for the built-in model" in done.stderr


def test_an_argument_that_is_no_pair_is_refused(checkpoint):
    done = run("examples/cat.jpg", "-m", checkpoint, "--arch-arg", "num_classes")
    assert done.returncode == 2
    assert "NAME=VALUE" in done.stderr


def test_models_lists_the_presets():
    done = run("models", "--preprocess")
    assert done.returncode == 0
    assert "imagenet-crop-256-224\t" in done.stdout
    (first, *_) = run("models", "--preprocess", "--json").stdout.splitlines()
    assert json.loads(first)["input_size"]


@pytest.mark.parametrize("name", ["pipe.pth", "pipe.onnx", "pipe.toplabel", "pipe"])
def test_inspect_of_a_pipe_does_not_wait_for_a_writer(tmp_path, name):
    os.mkfifo(tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-m", "toplabel", "inspect", tmp_path / name],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert b"file" in done.stderr


def test_inspect_prints_names_that_no_encoding_has(tmp_path):
    torch.save({"k\ud800conv.weight": torch.ones(2, 2)}, tmp_path / "odd.pth")
    done = run("inspect", tmp_path / "odd.pth")
    assert done.returncode == 0, done.stderr
    assert r"k\ud800conv.weight" in done.stdout


def test_pack_overwrites_nothing_but_bundles(tmp_path):
    torch.save(GreyNet(3).state_dict(), tmp_path / "best.pth")
    before = (tmp_path / "best.pth").read_bytes()
    for target in ("best.pth", "nowhere/cats.toplabel"):
        done = run("pack", tmp_path / "best.pth", "-o", tmp_path / target)
        assert done.returncode == 2
        assert "cannot write" in done.stderr
    assert (tmp_path / "best.pth").read_bytes() == before


def test_models_lists_what_there_is_without_torch():
    script = (
        "import sys; sys.modules.update(torch=None, torchvision=None, timm=None);"
        "from toplabel.cli import status_of; sys.exit(status_of(['models']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("embedded/efficientnet_lite0")


@pytest.mark.slow
def test_the_output_of_a_network_is_chosen_on_the_command_line(tmp_path):
    onnx = pytest.importorskip("onnx")
    info, constant = onnx.helper.make_tensor_value_info, onnx.numpy_helper.from_array
    matrix = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
            onnx.helper.make_node("MatMul", ["mean", "matrix"], ["colour"]),
            onnx.helper.make_node("Neg", ["colour"], ["kind"]),
        ],
        "two heads",
        [info("image", 1, ["N", 3, 32, 32])],
        [info("colour", 1, ["N", 4]), info("kind", 1, ["N", 4])],
        [constant(matrix, "matrix")],
    )
    opsets = [onnx.helper.make_opsetid("", 13)]
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx"
    )
    photo = Path(__file__).parents[2] / "examples" / "cat.jpg"
    given = [photo, "-m", tmp_path / "m.onnx", "--preprocess", "half-squash-32"]
    refused = run(*given)
    assert refused.returncode == 2
    assert "'colour' float32 (1, 4), 'kind' float32 (1, 4)" in refused.stderr
    assert "pass --model-output with the name" in refused.stderr
    labels = [run(*given, "-q", "--model-output", name).stdout for name in ("colour", "kind", "1")]
    assert labels[0] != labels[1] == labels[2]
    written = run(*given, "--model-output", "kind", "-o", tmp_path / "o.csv")
    assert written.returncode == 0, written.stderr
    assert f",{labels[1].strip()}," in (tmp_path / "o.csv").read_text()


def test_output_means_the_networks_output_where_no_file_is_written() -> None:
    spelled = {}
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        for param in command.params:
            if "--output" in param.opts:
                spelled[name] = param.name
    chosen = dict.fromkeys(("compare", "evaluate", "inspect", "optimize", "serve"), "model_output")
    writing = ("predict", "run", "train", "explain", "calibrate", "doctor", "pack")
    assert spelled == {**dict.fromkeys(writing, "output"), **chosen}


def test_inspect_of_a_folder_or_pattern_is_a_table_with_a_line_for_each_file(tmp_path, checkpoint):
    (tmp_path / "sub").mkdir()
    torch.save(GreyNet(9).state_dict(), tmp_path / "sub" / "grey.pt")
    (tmp_path / "broken.pth").write_bytes(b"no checkpoint")
    (tmp_path / "notes.txt").write_text("no model")
    done = run("inspect", tmp_path)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [Path(row[0]).name for row in rows] == ["best.pth", "broken.pth", "grey.pt"]
    assert rows[0][1:5] == ["torch zip", "44.8 MB", "37", "torchvision/resnet18"]
    assert rows[1][1] == "unreadable"
    assert "--arch" in rows[2][5]
    assert "broken.pth" in done.stderr
    assert done.returncode == 1
    printed = run("inspect", tmp_path / "*.pth", "--json").stdout.splitlines()
    assert [json.loads(line)["file"] for line in printed] == [row[0] for row in rows[:2]]


def test_inspect_of_nothing_says_what_counts_as_a_model(tmp_path):
    assert "there are no model files" in run("inspect", tmp_path).stderr
    assert "nothing matches" in run("inspect", tmp_path / "*.pth").stderr
    done = run("inspect", "embedded", "embedded", "--card")
    assert "got --card with 2 files" in done.stderr


def test_a_model_card_is_yaml_and_markdown_of_what_the_bundle_states(tmp_path):
    card = run("inspect", "embedded", "--card").stdout
    _, metadata, text = card.split("---\n", 2)
    assert "license: apache-2.0\n" in metadata
    assert "pipeline_tag: image-classification\n" in metadata
    assert "tench, goldfish" in text
    assert "1,000 classes" in text


def test_only_a_bundle_has_a_model_card(checkpoint):
    done = run("inspect", checkpoint, "--card")
    assert done.returncode == 2
    assert "toplabel pack" in done.stderr
