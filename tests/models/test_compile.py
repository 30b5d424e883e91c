"""Compiling: real modules of many kinds, the models that are refused, and what is left behind."""

import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnxruntime as ort  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from small_networks import Small, as_model, small  # noqa: E402
from toplabel._internal import platform  # noqa: E402
from toplabel.bundle import cache  # noqa: E402
from toplabel.bundle.program import NotCompiled, Program  # noqa: E402
from toplabel.bundle.reference import (  # noqa: E402
    ReferenceOutputs,
    pixel_scale,
    replay,
    replay_once,
)
from toplabel.errors import ModelError  # noqa: E402
from toplabel.inference.engines.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from toplabel.models import zoo_import  # noqa: E402
from toplabel.models.compile.compile import compile_model  # noqa: E402
from toplabel.models.compile.fingerprint import program_key  # noqa: E402
from toplabel.preprocess.preprocess import Preprocess  # noqa: E402

pytestmark = pytest.mark.torch


def compiled(module: nn.Module, folder: Path, **model: object) -> Program:
    program = compile_model(as_model(module, **model), folder)
    assert isinstance(program, Program), program
    return program


def not_compiled(module: nn.Module, folder: Path, **options: float) -> NotCompiled:
    result = compile_model(as_model(module), folder, **options)
    assert isinstance(result, NotCompiled)
    assert list(folder.iterdir()) == []
    assert "\n" not in result.reason
    return result


def difference_from_eager(program: Program, module: nn.Module, batch_size: int) -> float:
    generator = torch.Generator().manual_seed(1)
    batch = torch.randn(batch_size, *program.input_shape, generator=generator)
    with torch.no_grad():
        expected = module(batch).numpy()
    session = ort.InferenceSession(str(program.path), providers=["CPUExecutionProvider"])
    (logits,) = session.run([program.output_name], {program.input_name: batch.numpy()})
    return float(np.abs(expected - logits).max() / max(1, np.ptp(expected)))


# Models that compile


def test_a_custom_network_compiles_and_gives_the_logits_of_eager(tmp_path: Path) -> None:
    module = small()
    program = compiled(module, tmp_path)
    assert program == Program.read(tmp_path)
    assert program.key == program_key(as_model(module))
    assert program.input_shape == (3, 33, 33)
    assert program.outputs == 7
    assert not program.fixed_batch
    assert "torchscript" in program.exporter
    assert program.agreement["max_difference"] <= program.agreement["tolerance"]
    for batch_size in (1, 2, 3, 17):
        assert difference_from_eager(program, module, batch_size) < 1e-5


def test_nothing_but_the_program_and_the_engines_copy_is_left_in_the_folder(
    tmp_path: Path,
) -> None:
    compiled(small(), tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["goldens.npz", "optimised", "program.json", "program.onnx"]


def test_the_engine_opens_the_copy_that_was_made_with_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPLABEL_CACHE", str(tmp_path))
    model = as_model(small())
    program = cache.store_program(program_key(model), lambda folder: compile_model(model, folder))
    assert isinstance(program, Program)
    assert not (program.path.parent / cache.COPIES).exists()
    reference = ReferenceOutputs.load(program.reference_path)
    program.path.unlink()  # the copy is enough
    assert replay_once(reference, OnnxRuntimeEngine(program)).agrees


def test_the_reference_outputs_are_what_eager_gave(tmp_path: Path) -> None:
    module = small()
    reference = ReferenceOutputs.load(compiled(module, tmp_path).reference_path)

    def run(batch: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(batch)).numpy()

    assert replay(reference, run).agrees


def test_reference_inputs_are_scaled_as_the_recipe_says() -> None:
    recipe = Preprocess(
        input_size=(8, 8), resize_size=(8, 8), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125)
    )
    scale, offset = pixel_scale(recipe)
    for pixel in (0, 100, 255):
        expected = (pixel / 255 - np.array(recipe.mean)) / np.array(recipe.std)
        assert np.allclose(pixel * scale + offset, expected, atol=1e-6)


def test_a_network_for_grey_pictures_compiles(tmp_path: Path) -> None:
    assert compiled(small(channels=1), tmp_path, channels=1).input_shape == (1, 33, 33)


def test_an_encoder_of_transformers_compiles(tmp_path: Path) -> None:
    class Encoder(Small):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = functional.relu(self.conv(x)).flatten(2).transpose(1, 2)
            return self.head(self.encoder(tokens)[:, :4].flatten(1)) * 3

    torch.manual_seed(0)
    assert "torchscript" in compiled(Encoder().eval(), tmp_path).exporter


def test_a_network_that_takes_one_input_at_a_time_gets_a_fixed_batch(tmp_path: Path) -> None:
    module = small(lambda self, x: self.head(self.features(x).reshape(1, -1)) * 5)
    program = compiled(module, tmp_path)
    assert program.fixed_batch
    assert difference_from_eager(program, module, 1) < 1e-5


def test_branches_on_shapes_do_compile(tmp_path: Path) -> None:
    def forward(self: Small, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[2] == 33
        if x.shape[3] % 2 == 0:
            raise ValueError("odd sizes only")
        return self.head(self.features(x)) * 5

    assert "torchscript" in compiled(small(forward), tmp_path).exporter


@pytest.mark.slow
def test_a_network_with_a_baked_batch_size_gets_a_fixed_batch(tmp_path: Path) -> None:
    module = small(
        lambda self, x: self.head(self.features(x).reshape(len(np.zeros(x.shape[0])), -1)) * 5
    )
    program = compiled(module, tmp_path)
    assert program.fixed_batch


@pytest.mark.slow
def test_what_the_quick_exporter_cannot_do_the_other_one_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="toplabel.models")

    def forward(self: Small, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm(self.conv(x[:, :, 1:, 1:])))  # 15 does not divide by 2
        return self.head(functional.adaptive_avg_pool2d(x, 2).flatten(1)) * 5

    module = small(forward)
    program = compiled(module, tmp_path)
    assert "dynamo" in program.exporter
    assert difference_from_eager(program, module, 3) < 1e-5
    assert caplog.messages == [
        "compiling tests/model",
        "compiling tests/model: trying another way (dynamo)",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_32"])
def test_torchvision_families_compile(tmp_path: Path, name: str) -> None:
    torchvision = zoo_import.import_torchvision()
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None).eval()
    wake(module)
    module(torch.randn(4, 3, 224, 224))  # starts the threads that a fork leaves behind
    program = compiled(module, tmp_path, size=(224, 224))
    assert "torchscript" in program.exporter
    assert not program.fixed_batch
    assert difference_from_eager(program, module, 3) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"), [("vit_tiny_patch16_224", 224), ("test_vit", 160), ("test_convnext", 160)]
)
def test_timm_families_compile(tmp_path: Path, name: str, size: int) -> None:
    timm = zoo_import.import_timm()
    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False).eval()
    wake(module)
    program = compiled(module, tmp_path, size=(size, size))
    assert not program.fixed_batch
    assert difference_from_eager(program, module, 3) < 1e-4


def wake(module: nn.Module) -> None:
    """Give an untrained network outputs that depend on its input, as trained ones have."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.fill_(0.05)
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.1)


# Models that do not


def test_outputs_that_do_not_depend_on_the_input_do_not_compile(tmp_path: Path) -> None:
    module = small()
    nn.init.zeros_(module.head.weight)
    assert "do not depend on the input" in not_compiled(module, tmp_path).reason


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.0, -1000.0], ids=["taken", "never taken"])
def test_branches_on_values_do_not_compile_even_where_no_reference_input_takes_them(
    tmp_path: Path, threshold: float
) -> None:
    def forward(self: Small, x: torch.Tensor) -> torch.Tensor:
        sign = 1 if x.mean() > threshold else -1
        return self.head(self.features(x) * sign) * 5

    reason = not_compiled(small(forward), tmp_path).reason
    assert "depends on the values of its input" in reason


def test_outputs_that_are_mostly_not_finite_do_not_compile(tmp_path: Path) -> None:
    module = small()
    module.conv.weight.data[0, 0, 0, 0] = float("nan")
    assert "not finite" in not_compiled(module, tmp_path).reason


def test_a_crash_while_exporting_is_a_reason(tmp_path: Path) -> None:
    def forward(self: Small, x: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_tracing():
            os.write(2, b"out of ideas\n")
            os._exit(7)
        return self.head(self.features(x)) * 5

    reason = not_compiled(small(forward), tmp_path).reason
    assert reason == "its process ended early with status 7: out of ideas"


def test_the_time_limit_is_kept(tmp_path: Path) -> None:
    def forward(self: Small, x: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_tracing():
            time.sleep(3600)
        return self.head(self.features(x)) * 5

    assert "longer than 1 s" in not_compiled(small(forward), tmp_path, time_limit_seconds=1).reason


# Models that are refused


def refused(module: nn.Module, folder: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        compile_model(as_model(module), folder)
    assert list(folder.iterdir()) == []


def test_dropout_left_on_is_refused(tmp_path: Path) -> None:
    module = small(
        lambda self, x: self.head(functional.dropout(self.features(x), 0.1, training=True)) * 5
    )
    refused(module, tmp_path, "gives different outputs for the same image.*dropout")


def test_answers_that_depend_on_the_batch_are_refused(tmp_path: Path) -> None:
    def forward(self: Small, x: torch.Tensor) -> torch.Tensor:
        features = self.features(x)
        return self.head(features - features.mean(0, keepdim=True) / 2) * 5

    refused(small(forward), tmp_path, "depends on the other images of its batch")


def test_a_normalisation_that_is_still_training_is_refused(tmp_path: Path) -> None:
    refused(small().train(), tmp_path, "depends on the other images of its batch")


@pytest.mark.parametrize(
    ("forward", "match"),
    [
        (lambda self, x: (self.head(self.features(x)),), "gives a tuple"),
        (lambda self, x: self.head(self.features(x)).squeeze(), r"gives a tensor of shape \(7,\)"),
        (lambda self, x: self.conv(x), r"gives a tensor of shape \(1, 8, 16, 16\)"),
        (lambda self, x: self.head(x), "fails on a tensor of shape.*RuntimeError"),
    ],
    ids=["tuple", "one dimension", "four dimensions", "error"],
)
def test_what_is_no_classifier_is_refused(tmp_path: Path, forward, match: str) -> None:
    refused(small(forward), tmp_path, match)


# What it does to this process


def test_prints_of_the_network_do_not_reach_standard_output(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    def forward(self: Small, x: torch.Tensor) -> torch.Tensor:
        print("hello")
        os.write(1, b"hello past Python\n")
        warnings.warn("hello", stacklevel=1)
        return self.head(self.features(x)) * 5

    compiled(small(forward), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_it_works_after_torch_used_its_threads_and_leaves_them_alone(tmp_path: Path) -> None:
    torch.randn(1000, 1000) @ torch.randn(1000, 1000)
    threads = torch.get_num_threads()
    compiled(small(), tmp_path)
    assert torch.get_num_threads() == threads
    torch.randn(1000, 1000) @ torch.randn(1000, 1000)


def test_it_works_from_another_thread(tmp_path: Path) -> None:
    results: list[object] = []
    thread = threading.Thread(
        target=lambda: results.append(compile_model(as_model(small()), tmp_path))
    )
    thread.start()
    thread.join()
    assert isinstance(results[0], Program)


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    def forward(self: Small, x: torch.Tensor) -> torch.Tensor:
        self.last = x.shape
        return self.head(self.features(x)) * 5

    module = small(forward)
    program = compiled(module, tmp_path)
    assert not hasattr(module, "last")
    assert program.key == program_key(as_model(module))


def test_without_a_fork_it_compiles_here(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="toplabel.models")

    def forward(self: Small, x: torch.Tensor) -> torch.Tensor:
        print("hello")
        self.last = x
        return self.head(self.features(x)) * 5

    monkeypatch.setattr(platform, "can_fork", lambda: False)
    module, threads = small(forward), torch.get_num_threads()
    program = compiled(module, tmp_path)
    assert caplog.messages == ["compiling tests/model"]
    assert capfd.readouterr() == ("", "")
    assert torch.get_num_threads() == threads
    assert not hasattr(module, "last")
    assert difference_from_eager(program, small(), 3) < 1e-5
    with pytest.raises(ModelError, match="depends on the other images"):
        compile_model(as_model(small().train()), tmp_path)


@pytest.mark.slow
def test_two_processes_that_compile_one_model_at_once_share_the_work(own_cache: Path) -> None:
    code = f"import sys; sys.path.append({str(Path(__file__).parents[1])!r})"
    code += """
from small_networks import as_model, small
from toplabel.bundle import cache
from toplabel.models.compile.compile import compile_model
from toplabel.models.compile.fingerprint import program_key
model = as_model(small())
def build(folder):
    print("built")
    return compile_model(model, folder)
program = cache.store_program(program_key(model), build)
print(program.path)
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert sum(output.count("built") for output in outputs) == 1
    assert all(str(own_cache) in output for output in outputs)
    assert cache.find_program(program_key(as_model(small()))) is not None
