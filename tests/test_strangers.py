"""The script that tries strangers' checkpoints, on repositories of our own of the same shapes."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from torch import nn  # noqa: E402

SCRIPTS = Path(__file__).parents[1] / "scripts"

NOTE = {
    "repo": "somebody/cifar",
    "checkpoint": "net.pth",
    "script": "train.py",
    "class": {"name": "Net", "at": "train.py:6"},
    "constructor": "Net(num_classes) with num_classes = 3",
    "preprocessing": ["PIL open convert RGB", "Resize (32,32)", "ToTensor", "Normalize 0.5 x3"],
    "names": "classes tuple train.py:17",
    "input": "3x32x32",
    "half": "A",
}
TRAIN = """import torch
import streamlit
from torch import nn
from torchvision import transforms

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5)
        self.fc = nn.Linear(784, num_classes)

    def forward(self, x):
        return self.fc(torch.max_pool2d(self.conv(x), 2).flatten(1))

num_classes = 3
transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor(),
                                transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))])
classes = ("ant", "bee", "cat")
net = Net(num_classes)
torch.save(net.state_dict(), "net.pth")
"""


@pytest.fixture
def strangers(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import strangers

    yield strangers
    for name in ("strangers", "strangers_reference"):
        sys.modules.pop(name, None)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "somebody__cifar"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    torch.manual_seed(0)
    network = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 5), "fc": nn.Linear(784, 3)})
    torch.save(network.state_dict(), folder / "net.pth")
    return folder


_ATTEMPT = """
import argparse, dataclasses, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import strangers
options = argparse.Namespace(images=None, flags=["--engine", "torch"])
found = strangers.attempt(Path(sys.argv[2]), json.loads(sys.argv[3]), options)
print(json.dumps(dataclasses.asdict(found)))
"""


def attempt(repository: Path, **changed: object) -> argparse.Namespace:
    """What the runner finds, in a process of its own: it forks, and PyTorch's threads do not."""
    note = json.dumps(NOTE | changed)
    arguments = [sys.executable, "-c", _ATTEMPT, str(SCRIPTS), str(repository), note]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return argparse.Namespace(**json.loads(done.stdout.strip().splitlines()[-1]))


@pytest.mark.slow
def test_a_label_that_is_the_authors_is_right_and_nothing_is_written(repository):
    found = attempt(repository)
    assert (found.verdict, found.changed, found.scores_differ) == ("right", [], False), found


@pytest.mark.slow
def test_another_preprocessing_than_the_authors_is_noticed(repository):
    found = attempt(repository, preprocessing=["Resize (32,32)", "invert: 255 - x", "ToTensor"])
    assert found.verdict in ("silent", "warned")
    assert " for " in found.detail


@pytest.mark.slow
def test_a_named_error_is_no_label(repository):
    (repository / "train.py").write_text("import torch\n")
    found = attempt(repository)
    assert found.verdict == "error"
    assert any("found no network in the script" in line for line in found.said)


def test_the_words_of_notes_are_understood(strangers):
    import strangers_reference

    for words in (
        ["ToTensor", "Normalize mean 0.5,0.5,0.5 std 0.5,0.5,0.5"],
        ["PIL open, convert L", "resize (28,28) PIL default bicubic", "/255, no mean/std"],
        ["app.py: PIL convert RGB, Resize (224,224), ToTensor", "test: Resize 224, ToTensor"],
    ):
        ways = strangers_reference.pipelines({"preprocessing": words})
        assert all(ways.values())
    with pytest.raises(strangers_reference.NoReference, match="unknown words"):
        strangers_reference.pipelines({"preprocessing": ["a wonder happens"]})


def test_options_that_an_error_proposes_are_tried_and_placeholders_are_not(strangers):
    said = ["pass --preprocess half-squash-32 if so, or --preprocess PRESET --labels classes.txt"]
    assert strangers.proposals(said) == [["--preprocess", "half-squash-32"]]


def test_the_table_counts_each_verdict(strangers):
    outcomes = [
        strangers.Outcome(name="a", counted=True, verdict="right", scores_differ=True),
        strangers.Outcome(name="b", counted=True, verdict="silent", changed=["net.pth"]),
        strangers.Outcome(name="c", counted=False, verdict="error"),
    ]
    text = strangers.table(outcomes)
    assert text.startswith("of 2 networks")
    assert "files changed: 1 repositories" in text
    assert json.dumps({"error": 1}).replace('"', "'") in text
