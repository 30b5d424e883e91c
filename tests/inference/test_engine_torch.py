"""The PyTorch engine gives what the module gives, on what this machine has."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402
from torch import nn  # noqa: E402

from toplabel.bundle.model import Model  # noqa: E402
from toplabel.errors import EngineError, ModelError  # noqa: E402
from toplabel.inference.engines.torch import (  # noqa: E402
    TorchEngine,
    _full_float32,
    available_devices,
)
from toplabel.labels.labels import Labels  # noqa: E402
from toplabel.preprocess.preprocess import Preprocess  # noqa: E402

PREPROCESS = Preprocess(input_size=(16, 16), resize_size=(16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def model_of(module: nn.Module) -> Model:
    return Model(
        name="tiny",
        module=module.eval(),
        architecture="tiny",
        preprocess=PREPROCESS,
        labels=Labels.indices(10),
    )


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    ).eval()


@pytest.fixture
def batch() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(7, 3, 16, 16)).astype(np.float32)


def eager(network: nn.Module, batch: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(batch)).numpy()


def test_gives_the_logits_of_the_module(network: nn.Module, batch: np.ndarray) -> None:
    engine = TorchEngine(model_of(network))
    logits = engine(batch)
    assert (engine.name, engine.device) == ("torch", "cpu")
    assert (logits.dtype, logits.shape) == (np.float32, (7, 10))
    np.testing.assert_allclose(logits, eager(network, batch), atol=1e-5)


class Odd(nn.Module):
    """A head that is a function, of rows that have a dimension of one too many."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 3))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        rows = batch.mean((2, 3))[:, None]
        logits = nn.functional.linear(nn.functional.normalize(rows, dim=2), self.weight)
        return (16 * logits[:, 0]).log_softmax(1)


def heads() -> dict[str, tuple[nn.Module, str]]:
    """Networks, and the name of the layer whose input their features are."""
    torch.manual_seed(0)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    return {
        "linear": (nn.Sequential(body, pool, nn.Dropout(), nn.Linear(8, 10)), "3"),
        "linear, softmax": (nn.Sequential(body, pool, nn.Linear(8, 10), nn.Softmax(1)), "2"),
        "norm": (nn.Sequential(body, pool, nn.Linear(8, 10), nn.BatchNorm1d(10)), "2"),
        "conv, relu, pool": (
            nn.Sequential(body, nn.Conv2d(8, 10, 1), nn.ReLU(inplace=True), pool),
            "1",
        ),
        "two": (nn.Sequential(body, pool, nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 10)), "4"),
    }


@pytest.mark.parametrize("name", heads())
def test_features_are_what_the_last_linear_layer_takes(name: str, batch: np.ndarray) -> None:
    network, layer = heads()[name]
    taken: list[torch.Tensor] = []
    engine = TorchEngine(model_of(network), features=True)
    hook = network.get_submodule(layer).register_forward_pre_hook(
        lambda module, inputs: taken.append(inputs[0].clone())
    )
    expected = eager(network, batch)
    hook.remove()
    rows = taken[0].mean((2, 3)) if taken[0].ndim == 4 else taken[0]
    logits, features = engine.answer(batch)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(features, rows.numpy(), atol=1e-5)
    assert features.dtype == np.float32
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_head_that_is_a_function_has_features_too(batch: np.ndarray) -> None:
    _, features = TorchEngine(model_of(Odd()), features=True).answer(batch)
    rows = batch.mean((2, 3))
    np.testing.assert_allclose(
        features, rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-5
    )


def test_networks_without_features_are_refused_by_name() -> None:
    class Tokens(nn.Linear):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return super().forward(batch.flatten(2).transpose(1, 2)).mean(1)

    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for network in (pool, Tokens(3, 10), nn.Sequential(nn.Conv2d(3, 10, 3), pool)):
        with pytest.raises(ModelError, match="gives no features"):
            TorchEngine(model_of(network), features=True).answer(
                np.zeros((2, 3, 16, 16), np.float32)
            )


def test_threads_that_ask_at_once_get_their_own_features(batch: np.ndarray) -> None:
    network, _ = heads()["two"]
    engine = TorchEngine(model_of(network), threads=1, features=True)
    alone = [engine.answer(batch[i : i + 1]) for i in range(7)]
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def ask(i: int) -> None:
        found[i] = engine.answer(batch[i : i + 1])

    callers = [Thread(target=ask, args=(i,)) for i in range(7)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for i, (logits, features) in enumerate(alone):
        np.testing.assert_array_equal(found[i][0], logits)
        np.testing.assert_array_equal(found[i][1], features)


def test_runs_modules_that_count_on_the_plain_layout(batch: np.ndarray) -> None:
    class Flat(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return batch.view(len(batch), -1)[:, :10]

    np.testing.assert_array_equal(
        TorchEngine(model_of(Flat()))(batch), batch.reshape(7, -1)[:, :10]
    )


def test_leaves_the_layout_of_gpus_where_a_network_views_what_a_convolution_gives(
    batch: np.ndarray,
) -> None:
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return self.conv(batch).view(len(batch), -1)[:, :10]

    torch.manual_seed(0)
    network = Viewed()
    expected = eager(network, batch)
    engine = TorchEngine(model_of(network))
    engine._layout = torch.channels_last  # as on a GPU, with the weights
    network.to(memory_format=torch.channels_last)
    for _ in range(2):
        np.testing.assert_allclose(engine(batch), expected, atol=1e-5)
    assert engine._layout is torch.contiguous_format


def test_takes_arrays_that_are_read_only_or_not_contiguous(
    network: nn.Module, batch: np.ndarray
) -> None:
    expected = eager(network, batch)
    frozen = batch.copy()
    frozen.setflags(write=False)
    turned = np.ascontiguousarray(batch.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for given in (frozen, turned):
        np.testing.assert_allclose(TorchEngine(model_of(network))(given), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_is_close_and_leaves_the_model_alone(
    network: nn.Module, batch: np.ndarray, dtype: str
) -> None:
    logits = TorchEngine(model_of(network), dtype=dtype)(batch)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, eager(network, batch), atol=0.02)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_several_threads_may_call_it(network: nn.Module, batch: np.ndarray) -> None:
    engine = TorchEngine(model_of(network), threads=1)
    expected = engine(batch)
    answers: list[np.ndarray] = []
    callers = [Thread(target=lambda: answers.append(engine(batch))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(answers) == 4
    assert all(np.array_equal(answer, expected) for answer in answers)


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "", "mps:7"])
def test_names_the_devices_that_are_there(network: nn.Module, device: str) -> None:
    with pytest.raises(EngineError, match=f"got device '{device}'; available here: cpu"):
        TorchEngine(model_of(network), device=device)


def test_refuses_an_unknown_dtype(network: nn.Module) -> None:
    with pytest.raises(EngineError, match="expected one of float32, bfloat16, float16"):
        TorchEngine(model_of(network), dtype="float64")


def test_the_cpu_is_always_there() -> None:
    assert available_devices()[0] == "cpu"


class Hungry(nn.Module):
    """Has room for `room` images at a time."""

    def __init__(self, room: int, error: type[Exception], text: str) -> None:
        super().__init__()
        self.room, self.error, self.text = room, error, text
        self.sizes: list[int] = []

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(batch))
        if len(batch) > self.room:
            raise self.error(self.text)
        return batch.mean((2, 3))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (torch.cuda.OutOfMemoryError, "CUDA out of memory. Tried to allocate 20.00 MiB"),
        (RuntimeError, "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        (RuntimeError, "MPS backend out of memory (MPS allocated: 9.00 GB)"),
        (MemoryError, ""),
    ],
)
def test_halves_the_batch_that_memory_has_no_room_for(
    batch: np.ndarray, error: type[Exception], text: str
) -> None:
    module = Hungry(2, error, text)
    engine = TorchEngine(model_of(module))
    np.testing.assert_allclose(engine(batch), batch.mean((2, 3)), atol=1e-6)
    assert module.sizes == [7, 4, 2, 2, 2, 1]
    module.sizes.clear()
    engine(batch)  # remembers what fitted
    assert module.sizes == [2, 2, 2, 1]


def test_gives_up_where_not_even_one_image_fits(batch: np.ndarray) -> None:
    engine = TorchEngine(model_of(Hungry(0, RuntimeError, "out of memory")))
    with pytest.raises(MemoryError, match="no room for one image on cpu"):
        engine(batch)


def test_a_real_shortage_of_memory_is_recognised() -> None:
    class Greedy(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return torch.empty(2**46) * batch.mean()  # 256 TiB

    engine = TorchEngine(model_of(Greedy()))
    with pytest.raises(MemoryError, match="no room for one image"):
        engine(np.zeros((1, 3, 16, 16), np.float32))


def test_other_failures_are_engine_errors_in_one_line(network: nn.Module) -> None:
    with pytest.raises(EngineError, match=r"torch failed: Given groups=1") as caught:
        TorchEngine(model_of(network))(np.zeros((1, 1, 16, 16), np.float32))
    assert "\n" not in str(caught.value)


def test_our_own_errors_pass_through(batch: np.ndarray) -> None:
    engine = TorchEngine(model_of(Hungry(0, ModelError, "no scores")))
    with pytest.raises(ModelError, match="no scores"):
        engine(batch)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_gpu_gives_the_same(network: nn.Module, batch: np.ndarray, dtype: str) -> None:
    engine = TorchEngine(model_of(network), device="cuda", dtype=dtype)
    assert engine.device == "cuda:0"
    tolerance = 1e-5 if dtype == "float32" else 0.02
    np.testing.assert_allclose(engine(batch), eager(network, batch), atol=tolerance)
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}


def test_calls_that_overlap_leave_the_precision_of_others_as_it_was() -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = True
    try:
        with ExitStack() as second:
            with ExitStack() as first:
                first.enter_context(_full_float32())
                second.enter_context(_full_float32())
            assert (cudnn.allow_tf32, matmul.allow_tf32) == (False, False)
        assert (cudnn.allow_tf32, matmul.allow_tf32) == (True, True)
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


@pytest.fixture
def precisions() -> Iterator[Any]:
    """PyTorch's switches of TF32, which are as they were afterwards."""
    backends = torch.backends
    parts = [backends, backends.cuda.matmul, backends.cudnn, backends.cudnn.conv]
    parts.append(backends.cudnn.rnn)
    legacy = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32
    before = [part.fp32_precision for part in parts]
    yield backends
    backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = legacy
    for part, precision in zip(parts, before, strict=True):
        part.fp32_precision = precision


def switch_nothing(backends: Any) -> None:
    pass


def switch_everything(backends: Any) -> None:
    backends.fp32_precision = "tf32"


def switch_products(backends: Any) -> None:
    backends.cuda.matmul.fp32_precision = "tf32"


def switch_legacy_flags(backends: Any) -> None:
    backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = True


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="of PyTorch 2.9 and later")
@pytest.mark.parametrize(
    "switch",
    [switch_nothing, switch_everything, switch_products, switch_legacy_flags],
    ids=lambda switch: switch.__name__,
)
def test_float32_is_full_however_tf32_was_switched_on(
    switch: Callable[[Any], None], precisions: Any
) -> None:
    switch(precisions)
    parts = precisions.cuda.matmul, precisions.cudnn.conv, precisions.cudnn.rnn
    before = [part.fp32_precision for part in parts]
    with _full_float32():
        assert [part.fp32_precision for part in parts] == ["ieee"] * 3
        # both ways of asking agree: else PyTorch refuses to compute
        assert (precisions.cuda.matmul.allow_tf32, precisions.cudnn.allow_tf32) == (False, False)
    assert [part.fp32_precision for part in parts] == before


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_that_is_full_is_noticed(tmp_path: Path) -> None:
    class Greedy(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return torch.empty(2**46, device=batch.device) * batch.mean()

    engine = TorchEngine(model_of(Greedy()), device="cuda")
    with pytest.raises(MemoryError, match="no room for one image"):
        engine(np.zeros((1, 3, 16, 16), np.float32))


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_runs_modules_that_count_on_the_plain_layout(batch: np.ndarray) -> None:
    class Flat(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return batch.view(len(batch), -1)[:, :10]

    logits = TorchEngine(model_of(Flat()), device="cuda")(batch)
    np.testing.assert_array_equal(logits, batch.reshape(7, -1)[:, :10])
