"""Compiling in the background: what holds whom, and what is found there is told by the next."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from small_networks import Small, as_model, small  # noqa: E402
from toplabel._internal import platform  # noqa: E402
from toplabel.bundle.cache import find_entry, list_entries  # noqa: E402
from toplabel.errors import ModelError, ToplabelWarning, UsageError  # noqa: E402
from toplabel.inference.predictor import Predictor  # noqa: E402
from toplabel.models.build import build  # noqa: E402
from toplabel.models.compile import background  # noqa: E402
from toplabel.models.options import InferenceOptions  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not platform.can_fork(), reason="nothing forks here"),
]

IMAGE = np.full((40, 40, 3), 90, np.uint8)
GO_ON = "TOPLABEL_TEST_GO_ON"
"""The file that a network of these tests waits for while it is exported."""


def predictor(forward: Callable[..., object] | None = None) -> Predictor:
    pending = build(as_model(small(forward)), InferenceOptions(), entry="tests/model")
    return Predictor(pending, threads=1)


def wait_for_the_end(model: Predictor) -> None:
    with platform.lock_file(background._lock(model.name)):
        pass


def wait_when_exported(self: Small, x: torch.Tensor) -> torch.Tensor:
    while torch.jit.is_tracing() and not os.path.exists(os.environ[GO_ON]):
        time.sleep(0.02)
    return self.head(self.features(x)) * 5


def test_the_files_of_the_command_are_free_and_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="toplabel")
    monkeypatch.setenv(GO_ON, str(tmp_path / "go-on"))
    reading, writing = os.pipe()
    model = predictor(wait_when_exported)
    label = model(IMAGE).label
    assert background.compile_in_background(model)
    os.close(writing)
    assert os.read(reading, 1) == b""  # so `$(toplabel ...)` ends, whatever was inherited
    os.close(reading)
    assert find_entry("tests/model") is None

    other = predictor(wait_when_exported)  # the next command answers all the same ...
    assert other(IMAGE).label == label
    assert background.compile_in_background(other)  # ... and there is one at work, not two
    assert sum("in the background" in line for line in caplog.messages) == 1
    (tmp_path / "go-on").touch()
    wait_for_the_end(model)
    assert find_entry("tests/model") is not None
    assert not [entry for entry in list_entries() if entry.name.startswith("background/")]


def test_answers_that_differ_only_in_larger_batches_are_refused_by_the_next_command() -> None:
    def forward(self: Small, x: torch.Tensor) -> torch.Tensor:
        features = self.features(x)
        return self.head(features - features.mean(0) * (len(x) == 5)) * 5

    model = predictor(forward)
    assert model(IMAGE).label
    background.compile_in_background(model)
    wait_for_the_end(model)
    for _ in range(2):  # by each one, until it is no longer so
        with pytest.raises(ModelError, match="depends on the other images of its batch"):
            predictor(forward)


def test_a_finding_that_no_longer_holds_is_forgotten() -> None:
    path = background._path(predictor().name, ".json")
    path.parent.mkdir()
    background.write_json(path, {"error": "a disk was full"})
    assert predictor().is_final  # compiled before any label, to see
    assert background.read_findings(predictor().name) == ("", ())


def test_a_program_that_cannot_be_written_is_not_made_for_nobody(own_cache: Path) -> None:
    (own_cache / "programs").touch()  # where a folder should be
    model = predictor()
    background.compile_in_background(model)
    wait_for_the_end(model)
    with pytest.warns(ToplabelWarning, match="stays in PyTorch: it could not be written"):
        assert not predictor().is_final


def test_that_a_network_stays_in_pytorch_is_in_the_next_commands_record() -> None:
    def forward(self: Small, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x)) * 1e-6  # nothing that could be compared

    model = predictor(forward)
    assert model(IMAGE).warnings == ()
    background.compile_in_background(model)
    wait_for_the_end(model)
    with pytest.warns(ToplabelWarning, match="stays in PyTorch"):
        again = predictor(forward)
    assert again.is_final
    assert any("stays in PyTorch" in text for text in again(IMAGE).warnings)


@pytest.mark.parametrize(
    ("forward", "match"),
    [
        (
            lambda self, x: self.head(functional.dropout(self.features(x), 0.5)),
            "gives different outputs for the same image",
        ),
        (
            lambda self, x: self.head(self.features(x) - self.features(x).mean(0)),
            "depends on the other images of its batch",
        ),
    ],
    ids=["dropout", "batch"],
)
def test_there_is_no_label_where_the_first_answers_cannot_be_trusted(
    forward: Callable[..., object], match: str
) -> None:
    with pytest.raises(ModelError, match=match):
        predictor(forward)(IMAGE)


def test_without_a_cache_that_can_be_written_to_it_is_said_and_nothing_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TOPLABEL_CACHE", str(tmp_path / "file" / "cache"))
    assert not background.compile_in_background(predictor())
    assert "cannot write to the cache" in caplog.text


def test_where_no_process_can_be_started_it_is_said_and_the_label_stands(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    model = predictor()
    assert model(IMAGE).label
    monkeypatch.setattr(os, "fork", fork)
    assert not background.compile_in_background(model)
    assert "cannot start a process (Resource temporarily unavailable)" in caplog.text
    assert "TOPLABEL_COMPILE=wait compiles it" in caplog.text


def test_asking_for_a_reduced_program_that_is_not_wanted_compiles_nothing() -> None:
    model = predictor()
    assert model.reduced is None
    assert not model.is_final


def test_when_to_compile_is_the_users_choice_where_it_is_possible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(background.VARIABLE)
    assert background.when_to_compile() == "background"
    monkeypatch.setenv(background.VARIABLE, "wait")
    assert background.when_to_compile() == "wait"
    monkeypatch.setenv(background.VARIABLE, "never")
    with pytest.raises(UsageError, match="expected background or wait"):
        background.when_to_compile()
    monkeypatch.setenv(background.VARIABLE, "background")
    monkeypatch.setattr(platform, "can_fork", lambda: False)
    assert background.when_to_compile() == "wait"


@pytest.mark.slow
def test_a_shell_that_captures_the_label_has_it_while_the_model_is_compiled(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 16, 16), nn.ReLU(), nn.Flatten(), nn.Linear(1568, 4))
    torch.save(network.state_dict(), tmp_path / "best.pt")
    (tmp_path / "network.py").write_text(
        "from torch import nn\n\n"
        "def make():\n"
        "    layers = nn.Conv2d(3, 8, 16, 16), nn.ReLU(), nn.Flatten(), nn.Linear(1568, 4)\n"
        "    return nn.Sequential(*layers)\n"
    )
    photo = Path(__file__).parents[2] / "examples" / "cat.jpg"
    command = [sys.executable, "-m", "toplabel", str(photo), "-q", "-m", str(tmp_path / "best.pt")]
    command += ["--arch", f"{tmp_path / 'network.py'}:make"]
    command += ["--preprocess", "imagenet-crop-256-224"]

    def label() -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    monkeypatch.setenv("TOPLABEL_CACHE", str(tmp_path / "other"))
    expected = label()
    (program,) = (tmp_path / "other" / "programs").iterdir()
    monkeypatch.setenv("TOPLABEL_CACHE", str(own_cache))
    monkeypatch.setenv(background.VARIABLE, "background")
    (own_cache / "locks").mkdir()
    with platform.lock_file(own_cache / "locks" / program.name):  # who compiles it has to wait
        assert [label(), label()] == [expected, expected]
        assert not (own_cache / "entries").exists()
    (lock,) = (own_cache / "locks").glob("background*")
    with platform.lock_file(lock):
        assert list((own_cache / "entries").iterdir())
