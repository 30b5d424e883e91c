"""Training all of a network, from its frozen head on."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from toplabel.errors import EngineError
from toplabel.preprocess.preprocess import Preprocess
from toplabel.training import fine_tune as module
from toplabel.training.fine_tune import FineTuned, FineTuneSettings, Parts, fine_tune
from toplabel.training.torch_data import Photos
from toplabel.training.torch_network import HeadedNetwork, with_fitted_head

COUNT = 48
SETTINGS = FineTuneSettings(epochs=4, learning_rate=0.02, device="cpu", seed=3)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """Discs of three colours that differ little, each class a third."""
    folder = tmp_path_factory.mktemp("photos")
    numbers = np.random.default_rng(0)
    sources, targets = [], np.arange(COUNT) % 3
    for index, target in enumerate(targets):
        pixels = numbers.integers(90, 160, (16, 16, 3))
        pixels[4:12, 4:12, target] += 30
        path = folder / f"{index:02}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        sources.append(str(path))
    preprocess = Preprocess(
        input_size=(16, 16), resize_mode="none", mean=(0.5,) * 3, std=(0.25,) * 3
    )
    return Photos(sources=sources, targets=targets, preprocess=preprocess)


PARTS = Parts(
    learned=range(24),
    held_out=range(24, COUNT),
    halves=np.arange(24) % 2 == 0,
)


def network() -> HeadedNetwork:
    """Its features say something of colours; its head does not."""
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(8, 5),
    )
    weight = np.zeros((3, 8), np.float32)
    return with_fitted_head(
        plain.eval(),
        np.zeros((1, 3, 16, 16), np.float32),
        weight=weight,
        bias=np.array([0.1, 0, 0], np.float32),
        name="mine",
    )


def tuned(photos: Photos, path: Path, settings: FineTuneSettings = SETTINGS) -> FineTuned:
    return fine_tune(network(), photos, PARTS, settings, progress=path / "progress.pt")


def weights(found: FineTuned) -> torch.Tensor:
    return torch.cat([tensor.flatten().double() for tensor in found.network.state_dict().values()])


@pytest.fixture(scope="module")
def found(photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> FineTuned:
    return tuned(photos, tmp_path_factory.mktemp("found"))


@pytest.mark.torch
def test_it_becomes_better_than_its_frozen_head(found: FineTuned, photos: Photos) -> None:
    assert found.frozen_accuracy == pytest.approx(1 / 3)
    assert found.accuracy > 0.6
    assert 1 <= found.epoch <= found.epochs <= 4
    (inputs, targets), *_ = photos.batches(range(24, COUNT), size=24)
    with torch.no_grad():
        logits = found.network(inputs)
    assert not found.network.training
    assert float((logits.argmax(1) == targets).double().mean()) == found.accuracy


@pytest.mark.torch
def test_the_same_seed_gives_the_same_weights(
    found: FineTuned, photos: Photos, tmp_path: Path
) -> None:
    torch.manual_seed(99)  # what the process has drawn before does not count
    threads = torch.get_num_threads()
    again = tuned(replace(photos, threads=2), tmp_path)
    assert torch.equal(weights(found), weights(again))
    assert np.array_equal(found.logits, again.logits)
    assert torch.get_num_threads() == threads
    other = tuned(photos, tmp_path, replace(SETTINGS, seed=4))
    assert not torch.equal(weights(found), weights(other))
    assert not list(tmp_path.iterdir())


@pytest.mark.torch
def test_what_was_stopped_ends_as_if_nothing_had_happened(
    found: FineTuned, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_SIZE", 8)
    monkeypatch.setattr("toplabel.training.fine_tune_progress._EVERY_SECONDS", 0)
    monkeypatch.setattr("toplabel.training.fine_tune_progress._SHARE", 0)
    straight = tuned(photos, tmp_path)
    steps = module._Training._learn
    count = 0

    def stop_in_the_fifth(self: object, *batch: torch.Tensor) -> None:
        nonlocal count
        count += 1
        if count == 5:  # in the second epoch of three steps
            raise KeyboardInterrupt
        steps(self, *batch)

    with monkeypatch.context() as patched:
        patched.setattr(module._Training, "_learn", stop_in_the_fifth)
        with pytest.raises(KeyboardInterrupt):
            tuned(photos, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["progress.pt"]
    resumed = tuned(photos, tmp_path)
    assert torch.equal(weights(straight), weights(resumed))
    assert np.array_equal(straight.logits, resumed.logits)
    assert not list(tmp_path.iterdir())


@pytest.mark.torch
def test_a_damaged_file_of_progress_is_begun_anew(
    found: FineTuned, photos: Photos, tmp_path: Path
) -> None:
    (tmp_path / "progress.pt").write_bytes(b"PK\3\4 and then the disk was full")
    assert torch.equal(weights(tuned(photos, tmp_path)), weights(found))


@pytest.mark.torch
def test_progress_that_cannot_be_kept_is_said_once_and_stops_nothing(
    found: FineTuned, photos: Photos, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "toplabel"):
        again = tuned(photos, tmp_path / "file")
    assert torch.equal(weights(again), weights(found))
    (said,) = [record.message for record in caplog.records]
    assert said.startswith(f"cannot save training progress in {tmp_path / 'file'} (")


@pytest.mark.torch
def test_too_little_memory_makes_smaller_parts_of_the_same_steps(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_dropout() -> HeadedNetwork:
        made = network()
        made.network[5] = nn.Identity()
        return made

    def run() -> FineTuned:
        return fine_tune(without_dropout(), photos, PARTS, SETTINGS, progress=tmp_path / "p.pt")

    whole, forward = run(), HeadedNetwork.forward

    def of_few(self: HeadedNetwork, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return forward(self, batch)

    monkeypatch.setattr(HeadedNetwork, "forward", of_few)
    room = 7
    assert torch.allclose(weights(run()), weights(whole), atol=1e-3)
    room = 0
    with pytest.raises(EngineError, match="no room to train on one photo at a time on cpu"):
        run()


@pytest.mark.torch
def test_the_frozen_head_stays_where_no_epoch_is_better(photos: Photos, tmp_path: Path) -> None:
    kept = tuned(photos, tmp_path, replace(SETTINGS, learning_rate=1e-9))
    assert kept.epoch == 0
    assert kept.accuracy == kept.frozen_accuracy
    assert torch.equal(
        weights(kept),
        torch.cat([tensor.flatten().double() for tensor in network().state_dict().values()]),
    )


@pytest.mark.torch
def test_a_training_that_explodes_keeps_the_frozen_head(photos: Photos, tmp_path: Path) -> None:
    kept = tuned(photos, tmp_path, replace(SETTINGS, learning_rate=1e20))
    assert kept.accuracy >= kept.frozen_accuracy
    assert torch.isfinite(weights(kept)).all()
    assert np.isfinite(kept.logits).all()


@pytest.mark.torch
def test_no_photo_chooses_the_epoch_that_it_is_predicted_by(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One half is right after the first epoch alone, the other after the second."""
    targets = torch.from_numpy(photos.targets[24:])
    right = nn.functional.one_hot(targets, 3).float()
    halves = torch.from_numpy(PARTS.halves)[:, None]
    wrong = right.roll(1, dims=1)
    frozen = torch.where(halves, wrong, wrong)
    answers = [frozen, torch.where(halves, right, wrong), torch.where(halves, wrong, right)]
    monkeypatch.setattr(module._Training, "_ask", lambda self: answers[len(self._qualities)])
    found = tuned(photos, tmp_path, replace(SETTINGS, epochs=2))
    assert found.accuracy == 0.5  # of the epoch that all chose
    assert (found.logits.argmax(1) == targets.numpy()).mean() == 0  # honest


@pytest.mark.torch
def test_what_is_best_depends_on_the_prior_that_is_asked_for(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = nn.functional.one_hot(torch.from_numpy(photos.targets[24:]), 3).float()
    answers = [right.roll(1, dims=1), right]
    monkeypatch.setattr(module._Training, "_ask", lambda self: answers[len(self._qualities)])
    settings, progress = replace(SETTINGS, epochs=1), tmp_path / "p.pt"
    plain = fine_tune(network(), photos, PARTS, settings, progress=progress)
    assert (plain.epoch, plain.accuracy) == (1, 1.0)
    parts = replace(PARTS, log_prior=np.array([5, 0, 0], np.float32))  # the first outweighs all
    found = fine_tune(network(), photos, parts, settings, progress=progress)
    assert (found.epoch, found.accuracy) == (0, pytest.approx(1 / 3))


@pytest.mark.torch
def test_nothing_is_trained_where_the_frozen_head_makes_no_mistake(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = nn.functional.one_hot(torch.from_numpy(photos.targets[24:]), 3).float()
    monkeypatch.setattr(module._Training, "_ask", lambda self: right)
    found = tuned(photos, tmp_path)
    assert (found.epoch, found.epochs, found.accuracy) == (0, 0, 1.0)


@pytest.mark.torch
def test_minutes_leave_out_epochs_for_which_there_is_no_time(
    photos: Photos, tmp_path: Path
) -> None:
    found = tuned(photos, tmp_path, replace(SETTINGS, epochs=500, minutes=1e-6))
    assert found.epochs <= 1


@pytest.mark.torch
def test_it_says_how_far_it_is_and_warns_of_the_time(
    photos: Photos,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_LONG", 0.0)
    monkeypatch.setattr(module, "_SAY_SECONDS", 0.0)
    monkeypatch.setattr(module, "BATCH_SIZE", 12)
    with caplog.at_level(logging.INFO, "toplabel"):
        tuned(photos, tmp_path)
    lines = [record.message for record in caplog.records]
    assert lines[0] == (
        "fine-tuning on cpu: 24 photos to learn from, 24 held out, of which the frozen head"
        " predicts 33.3 % right"
    )
    assert lines[1].startswith("epoch 1 of 4, 50 %: at most ")
    assert lines[2].startswith("fine-tuning on the CPU takes about ")
    assert lines[3].startswith("epoch 1 of 4: ")
    assert lines[3].endswith(" left")


@pytest.mark.torch
def test_a_gpu_that_is_not_there_is_named(photos: Photos, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(EngineError, match="got device 'cuda'; available here: cpu"):
        tuned(photos, tmp_path, replace(SETTINGS, device="cuda"))
