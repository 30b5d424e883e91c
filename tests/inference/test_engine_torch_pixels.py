"""The pixel engine gives what the torch engine gives of tensors; on the CPU by the same code."""

import logging
from dataclasses import replace
from threading import Barrier, Thread

import numpy as np
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402
from torch import nn  # noqa: E402

from toplabel.bundle.model import Model  # noqa: E402
from toplabel.errors import EngineError, ModelError  # noqa: E402
from toplabel.inference.batch import PredictOptions, label_batch  # noqa: E402
from toplabel.inference.classifier import Classifier  # noqa: E402
from toplabel.inference.engines.torch import TorchEngine  # noqa: E402
from toplabel.inference.engines.torch_pixels import (  # noqa: E402
    CapturedForward,
    NormalisingTable,
    PixelEngine,
    _check_same,
    padded_size,
)
from toplabel.labels.labels import Labels  # noqa: E402
from toplabel.preprocess.preprocess import Preprocess  # noqa: E402

CPU = torch.device("cpu")
PLAIN = Preprocess(
    input_size=(8, 6),
    resize_mode="squash",
    resize_size=(8, 6),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
GREY = replace(PLAIN, channels="grey", mean=(0.1307,), std=(0.3081,), pad_value=(0,))
PREPROCESSINGS = {
    "torchvision": PLAIN,
    "hf": replace(PLAIN, convention="hf", std_again=(0.5, 0.5, 0.5)),
    "multiply": replace(PLAIN, arithmetic="multiply"),
    "bgr, inverted": replace(PLAIN, channels="bgr", invert="after_resize"),
    "0 to 255": replace(PLAIN, range=(0, 255), mean=(123.675, 116.28, 103.53), std=(1, 1, 1)),
    "grey": GREY,
    "grey, three times": replace(PLAIN, channels="grey"),
    "five channels": replace(PLAIN, channels=5, mean=(0.5,) * 5, std=(0.25,) * 5),
}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])]


def network(preprocess: Preprocess = PLAIN) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(preprocess.num_channels, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    ).eval()


def model_of(module: nn.Module, preprocess: Preprocess = PLAIN) -> Model:
    return Model(
        name="tiny",
        module=module.eval(),
        architecture="tiny",
        preprocess=preprocess,
        labels=Labels.indices(10),
    )


def pixels_of(preprocess: Preprocess, count: int) -> np.ndarray:
    planes = 1 if preprocess.channels == "grey" else preprocess.num_channels
    shape = (count, *preprocess.input_size, planes)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def tensors_of(preprocess: Preprocess, pixels: np.ndarray) -> np.ndarray:
    return np.stack([preprocess.normalise(one) for one in pixels])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_pixels_are_normalised_equal_to_the_bit(name: str, device: str) -> None:
    preprocess = PREPROCESSINGS[name]
    pixels = pixels_of(preprocess, 6)
    pixels.reshape(-1)[:256] = np.arange(256)  # each value that there is
    table = NormalisingTable(preprocess, torch.device(device))
    found = table.normalise(torch.from_numpy(pixels).to(device))
    assert found.is_contiguous(memory_format=torch.channels_last) or preprocess.num_channels == 1
    np.testing.assert_array_equal(found.cpu().numpy(), tensors_of(preprocess, pixels))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [1, 3, 8])
def test_gives_what_the_torch_engine_gives_of_the_tensors(count: int, device: str) -> None:
    engine = PixelEngine(model_of(network()), device=device, features=True)
    pixels = pixels_of(PLAIN, count)
    expected, rows = TorchEngine(model_of(network()), features=True).answer(
        tensors_of(PLAIN, pixels)
    )
    logits, features = engine.answer(pixels)
    assert (logits.dtype, logits.shape, features.shape) == (np.float32, (count, 10), (count, 8))
    np.testing.assert_allclose(engine(pixels), expected, atol=1e-5)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(features, rows, atol=1e-5)


class Sizes(nn.Module):
    """Remembers the batches that it is given; has room for some images at a time."""

    def __init__(self, room: int = 1000) -> None:
        super().__init__()
        self.room = room
        self.given: list[torch.Tensor] = []

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        self.given.append(batch.clone())
        return batch.flatten(1)[:, :10]


def test_the_last_batch_is_padded_to_a_size_that_was_there_before() -> None:
    module = Sizes()
    engine = PixelEngine(model_of(module), device="cpu")
    pixels = pixels_of(PLAIN, 13)
    expected = tensors_of(PLAIN, pixels).reshape(13, -1)[:, :10]
    np.testing.assert_array_equal(engine(pixels[:8]), expected[:8])
    np.testing.assert_array_equal(engine(pixels[8:]), expected[8:])
    assert [len(batch) for batch in module.given] == [8, 8]
    black = tensors_of(PLAIN, np.zeros((3, 8, 6, 3), np.uint8))
    np.testing.assert_array_equal(module.given[1][5:].numpy(), black)


def test_sizes_are_powers_of_two() -> None:
    assert [padded_size(n) for n in (1, 2, 3, 5, 33, 64, 65)] == [1, 2, 4, 8, 64, 64, 128]


def test_a_batch_that_memory_has_no_room_for_is_halved_and_that_is_remembered() -> None:
    module = Sizes(room=4)
    engine = PixelEngine(model_of(module), device="cpu")
    pixels = pixels_of(PLAIN, 16)
    expected = tensors_of(PLAIN, pixels).reshape(16, -1)[:, :10]
    for _ in range(2):
        np.testing.assert_array_equal(engine(pixels), expected)
        assert [len(batch) for batch in module.given] == [4, 4, 4, 4]
        module.given.clear()


def test_gives_up_where_not_even_one_image_fits() -> None:
    engine = PixelEngine(model_of(Sizes(room=0)), device="cpu")
    with pytest.raises(MemoryError, match="no room for one image on cpu"):
        engine(pixels_of(PLAIN, 4))


def test_takes_tensors_too_and_arrays_that_are_read_only_or_not_contiguous() -> None:
    engine = PixelEngine(model_of(network()), device="cpu")
    pixels = pixels_of(PLAIN, 4)
    expected = engine(pixels)
    np.testing.assert_allclose(engine(tensors_of(PLAIN, pixels)), expected, atol=1e-5)
    frozen = pixels.copy()
    frozen.setflags(write=False)
    turned = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    for given in (frozen, turned):
        np.testing.assert_array_equal(engine(given), expected)


def test_failures_are_errors_of_ours() -> None:
    engine = PixelEngine(model_of(network()), device="cpu")
    with pytest.raises(EngineError, match="torch failed"):
        engine(np.zeros((2, 8, 6, 5), np.uint8))
    with pytest.raises(ModelError, match="gives no features"):
        PixelEngine(model_of(Sizes()), device="cpu", features=True)


@pytest.mark.parametrize("device", DEVICES)
def test_threads_that_ask_at_once_get_their_own_answers(device: str) -> None:
    engine = PixelEngine(model_of(network()), device=device)
    pixels = pixels_of(PLAIN, 12)
    alone = [engine(pixels[i : i + 3]) for i in range(0, 12, 3)]
    found: dict[int, np.ndarray] = {}
    together = Barrier(4)

    def ask(place: int) -> None:
        together.wait()
        for _ in range(5):
            found[place] = engine(pixels[3 * place : 3 * place + 3])

    callers = [Thread(target=ask, args=(place,)) for place in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for place, expected in enumerate(alone):
        np.testing.assert_array_equal(found[place], expected)


def test_bfloat16_is_close_and_computed_in_it() -> None:
    engine = PixelEngine(model_of(network()), device="cpu", dtype="bfloat16")
    pixels = pixels_of(PLAIN, 4)
    expected = PixelEngine(model_of(network()), device="cpu")(pixels)
    logits = engine(pixels)
    assert logits.dtype == np.float32
    assert not np.array_equal(logits, expected)
    np.testing.assert_allclose(logits, expected, atol=0.02)


def test_a_batch_is_of_pixels_only_where_the_engine_normalises_as_the_model_does() -> None:
    module = Sizes()
    engine = PixelEngine(model_of(module), device="cpu")
    kinds: list[np.dtype] = []

    class Watched:
        name, device, normalises, answer = "torch", "cpu", engine.normalises, engine.answer

        def __call__(self, batch: np.ndarray) -> np.ndarray:
            kinds.append(batch.dtype)
            return engine(batch)

    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    for preprocess in (PLAIN, replace(PLAIN, std=(0.5, 0.5, 0.5))):
        classifier = Classifier(
            name="tiny",
            preprocess=preprocess,
            labels=Labels.indices(10),
            activation="softmax",
            open_engine=lambda threads, features=False: Watched(),
            parallel=True,
        )
        settings = PredictOptions(keep_logits=True)
        (found,) = label_batch([(0, photo)], Watched(), classifier, settings)
        expected = preprocess(photo).reshape(-1)[:10]  # what this network gives for logits
        np.testing.assert_array_equal(found.logits, expected)
    assert kinds == [np.uint8, np.float32]


def test_a_forward_that_cannot_be_captured_goes_on_without_a_graph(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On the CPU there is nothing to capture: what PyTorch says then is one line of the log."""

    def forward(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (pixels.float().mean((1, 2)),)

    with caplog.at_level(logging.INFO, logger="toplabel"):
        captured = CapturedForward(forward, "tiny")
        for count in (1, 4, 4):
            pixels = torch.from_numpy(pixels_of(PLAIN, count))
            np.testing.assert_array_equal(captured(pixels)[0], forward(pixels)[0])
    (record,) = caplog.records
    assert record.getMessage().startswith("tiny is run without a CUDA graph: ")
    assert record.levelno == logging.INFO


def test_a_capture_that_gives_other_numbers_is_refused() -> None:
    def forward(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (pixels.float().mean((1, 2)),)

    pixels = torch.from_numpy(pixels_of(PLAIN, 4))
    stale = forward(255 - pixels)
    _check_same(forward, forward, pixels)
    with pytest.raises(EngineError, match="a captured forward gives other numbers"):
        _check_same(forward, lambda _: stale, pixels)


@pytest.mark.gpu
@needs_gpu
def test_a_graph_gives_what_eager_pytorch_gives() -> None:
    engine = PixelEngine(model_of(network()), device="cuda")
    pixels = pixels_of(PLAIN, 8)
    expected = TorchEngine(model_of(network()), device="cuda")(tensors_of(PLAIN, pixels))
    for _ in range(3):
        np.testing.assert_allclose(engine(pixels), expected, atol=1e-6)
    assert isinstance(engine._label, CapturedForward)
    assert all(known is not engine._label._forward for known in engine._label._captured.values())
