"""Many images go to a GPU that is there; here the device is the CPU, by the same code."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402
from torch import nn  # noqa: E402

import toplabel  # noqa: E402
from run_material import colour_bytes, draw_colours, read_jsonl, save_model  # noqa: E402
from toplabel.errors import EngineError  # noqa: E402
from toplabel.image.options import ReadOptions  # noqa: E402
from toplabel.inference.batch import PredictOptions  # noqa: E402
from toplabel.inference.classifier import Classifier, Lazy  # noqa: E402
from toplabel.inference.engines import Engine  # noqa: E402
from toplabel.inference.gpu import BothWays, open_on_gpu  # noqa: E402
from toplabel.inference.predictor import Predictor  # noqa: E402
from toplabel.inference.scoring import Question  # noqa: E402
from toplabel.models.open import NetworkSource  # noqa: E402
from toplabel.models.options import ModelOptions  # noqa: E402
from toplabel.models.ref import ModelRef  # noqa: E402
from toplabel.preprocess.custom import CustomPreprocess  # noqa: E402
from toplabel.preprocess.preprocess import Preprocess  # noqa: E402
from toplabel.runs.labelling import LocalLabeller  # noqa: E402
from toplabel.runs.worker import WorkerSpec  # noqa: E402
from toplabel.runs.worker_pool import open_labeller, share_work  # noqa: E402
from toplabel.serve.models import serve_model  # noqa: E402

WITHOUT_CUDA = pytest.mark.skipif(torch.version.cuda is not None, reason="PyTorch has CUDA")

CODE = """
import torch
from torch import nn

class Colours(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 3, bias=False)

    def forward(self, batch):
        return self.head(batch.mean((2, 3)))
"""


class Colours(nn.Module):
    """The network of `save_model`."""

    def __init__(self, scale: float = 20) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(scale * torch.eye(3))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.head(batch.mean((2, 3)))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return toplabel.load(**save_model(tmp_path_factory.mktemp("model"))).classifier


@pytest.fixture
def classifier(compiled: Classifier) -> Classifier:
    """With its network, and a device for many images."""
    return replace(compiled, lazy_module=Lazy(Colours), gpu="cpu")


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toplabel.inference.predictor.FEW_IMAGES", 4)
    monkeypatch.setattr("toplabel.runs.worker_pool.FEW_IMAGES", 4)


class Counting:
    """An engine that adds up the images that it is given."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.device, self.normalises = engine.name, engine.device, engine.normalises
        self.engine, self.images = engine, 0

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.images += len(batch)
        return self.engine(batch)

    def answer(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.images += len(batch)
        return self.engine.answer(batch)


def counted(classifier: Classifier) -> tuple[Predictor, Counting, Counting]:
    """A predictor, its engine for few images, and its engine for many."""
    few = Counting(classifier.open_engine(1))
    classifier = replace(classifier, open_engine=lambda threads, features=False: few)
    predictor = Predictor(classifier, threads=1)
    engine = open_on_gpu(classifier)
    assert engine is not None
    many = predictor._engines._on_gpu[False] = Counting(engine)
    return predictor, few, many


def images(count: int) -> Iterator[bytes]:
    return (colour_bytes(index) for index in range(count))


def test_the_first_of_a_stream_go_to_the_cpu_and_the_others_to_the_gpu(
    classifier: Classifier,
) -> None:
    predictor, few, many = counted(classifier)
    assert [p.index for p in predictor.stream(images(13))] == [i % 3 for i in range(13)]
    assert (few.images, many.images) == (4, 9)


def test_many_images_whose_number_is_known_go_to_the_gpu_at_once(classifier: Classifier) -> None:
    predictor, few, many = counted(classifier)
    assert [p.index for p in predictor(list(images(13)))] == [i % 3 for i in range(13)]
    assert (few.images, many.images) == (0, 13)


def test_few_images_stay_on_the_cpu(classifier: Classifier) -> None:
    predictor = Predictor(classifier, threads=1)
    predictor(next(images(1)))
    assert len(predictor(list(images(4)))) == len(list(predictor.stream(images(4)))) == 4
    assert predictor._engines._on_gpu == {}
    assert predictor.engine == "onnxruntime on cpu"


def test_a_device_that_was_chosen_is_the_one_for_all(classifier: Classifier) -> None:
    predictor = Predictor(replace(classifier, gpu=""), threads=1)
    assert predictor.open_on_gpu() is None
    assert len(list(predictor.stream(images(6)))) == 6


def test_answers_are_those_of_the_cpu_for_features_and_calibrated_ones_too(
    classifier: Classifier,
) -> None:
    sources = list(images(9))
    on_cpu = Predictor(replace(classifier, gpu=""), threads=1)
    on_gpu = Predictor(classifier, threads=1)
    for one, other in zip(on_cpu(sources), on_gpu(sources), strict=True):
        assert (one.label, one.score) == (other.label, pytest.approx(other.score, abs=1e-6))
    np.testing.assert_allclose(on_cpu.embed(sources), on_gpu.embed(sources), atol=1e-6)
    engine = open_on_gpu(classifier)
    assert engine is not None
    assert (engine.name, engine.normalises) == ("torch", classifier.preprocess)


def test_code_of_the_users_gives_it_tensors(classifier: Classifier) -> None:
    preprocess = classifier.preprocess
    custom = CustomPreprocess(
        name="mine", function=preprocess, shape=(3, 8, 8), values=(0, 1), digest="0"
    )
    engine = open_on_gpu(classifier.with_custom_preprocess(custom))
    assert engine is not None
    assert engine.normalises is None
    predictor = Predictor(classifier.with_custom_preprocess(custom), threads=2)
    assert [p.index for p in predictor(list(images(9)))] == [i % 3 for i in range(9)]


def test_fast_answers_in_bfloat16_once_the_first_images_say_where_that_is_believed(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("toplabel.inference.predictor.SAMPLE_IMAGES", 220)
    predictor = Predictor(classifier, threads=2, fast=True)
    with caplog.at_level(logging.INFO, logger="toplabel"):
        found = list(predictor.stream(images(320)))
    assert [one.index for one in found] == [i % 3 for i in range(320)]
    assert {one.precision for one in found[:224]} == {None}  # few on the CPU, then the sample
    believed = [one.precision for one in found[224:]]
    assert believed.count("bfloat16") > 80
    assert [one.audit for one in found[224:] if one.audit] == ["same"]  # one in a hundred
    told = [record.message for record in caplog.records if "bfloat16 on the GPU" in record.message]
    assert len(told) == 1
    assert "no label changed in 110 re-computations" in told[0]
    assert predictor.reduced is not None
    assert predictor.reduced.precision == "bfloat16"
    again = list(predictor.stream(images(20)))  # what was found is known
    assert {one.precision for one in again[4:]} == {"bfloat16"}
    exact = Predictor(classifier, threads=2, exact=True)
    assert {one.precision for one in exact.stream(images(20))} == {None}


def test_a_reduced_engine_that_fails_costs_no_answer(classifier: Classifier) -> None:
    exact = open_on_gpu(classifier)
    assert exact is not None

    def failing(batch: np.ndarray) -> np.ndarray:
        raise EngineError("no bfloat16 here")

    both = BothWays(exact, failing)  # type: ignore[arg-type]
    batch = np.zeros((2, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(both(batch), exact(batch))
    question = Question(activation="softmax", multi_label=False, threshold=None, temperature=1.0)
    assert both.margin(question, None) == "no bfloat16 here"


@pytest.mark.slow
def test_a_wrapped_network_goes_there_with_what_makes_its_scores() -> None:
    class Yes(nn.Module):
        """One output, of which two classes are made."""

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 1, bias=False)

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(batch.mean((2, 3)))
            return logits

    recipe = Preprocess(input_size=(8, 8), resize_mode="none", mean=(0.5,) * 3, std=(0.5,) * 3)
    model = toplabel.wrap(Yes(), preprocess=recipe, labels=["no", "yes"])
    model.compile()
    assert model.classifier.bundle is not None
    engine = open_on_gpu(replace(model.classifier, gpu="cpu"))
    assert engine is not None
    assert engine(np.zeros((2, 8, 8, 3), np.uint8)).shape == (2, 2)


def test_a_network_that_gives_other_answers_stays_on_the_cpu_and_that_is_said_once(
    classifier: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    other = replace(classifier, lazy_module=Lazy(lambda: Colours(scale=19)))
    predictor = Predictor(other, threads=1)
    with caplog.at_level(logging.INFO, logger="toplabel"):
        for _ in range(2):
            assert [p.index for p in predictor(list(images(9)))] == [i % 3 for i in range(9)]
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "is labelled on the CPU, not on a GPU: it gives other answers there" in record.message


@WITHOUT_CUDA
def test_a_pytorch_without_cuda_is_known_before_it_is_imported() -> None:
    code = """
import logging, sys
from dataclasses import replace
import toplabel
from toplabel.inference.classifier import Lazy
from toplabel.inference.gpu import BothWays, open_on_gpu
logging.basicConfig(level=logging.INFO)
model = toplabel.load()
assert open_on_gpu(replace(model.classifier, lazy_module=Lazy(list), gpu="cuda")) is None
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the installed PyTorch was built for the CPU alone") == 1


def test_labelling_many_images_without_a_gpu_imports_no_torch(tmp_path: Path) -> None:
    model = save_model(tmp_path)
    code = f"""
import sys, toplabel
from toplabel.inference import predictor
predictor.FEW_IMAGES = 2
model = toplabel.load(**{model!r})
assert len(list(model.stream(["examples/cat.jpg"] * 5))) == 5
assert "torch" not in sys.modules
"""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def source(tmp_path: Path) -> NetworkSource:
    """A checkpoint with the same network, which another process can load."""
    torch.save({"head.weight": 20 * torch.eye(3)}, tmp_path / "colours.pth")
    (tmp_path / "nets.py").write_text(CODE)
    model = save_model(tmp_path)
    options = ModelOptions(
        arch=f"{tmp_path / 'nets.py'}:Colours",
        preprocess=model["preprocess"],
        labels=model["labels"],
    )
    return NetworkSource(ModelRef.parse(tmp_path / "colours.pth"), options)


def test_a_worker_loads_the_network_for_its_gpu(
    classifier: Classifier, source: NetworkSource
) -> None:
    assert classifier.bundle is not None
    spec = WorkerSpec(
        bundle=classifier.bundle, settings=PredictOptions(), threads=1, network=source, gpu="cpu"
    )
    predictor, labeller = spec.open()
    assert predictor._engines._on_gpu[False] is not None
    found = labeller.label(list(enumerate(images(5))))
    assert [prediction.index for prediction in found] == [0, 1, 2, 0, 1]


def test_a_server_shares_the_engine_for_many_images_and_says_that_it_is_exact(
    classifier: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve_model(
        None,
        Predictor(classifier, threads=1, fast=True),
        read=ReadOptions(),
        threads=1,
        batching=None,
        batch_size=None,
        observe=lambda count: None,
    )
    assert (served.engine.name, served.engine.normalises) == ("torch", classifier.preprocess)
    assert "is on a GPU; every answer is computed exactly" in caplog.text
    for index, content in enumerate(images(4)):
        answer = served.answer(content, top_k=1, threshold=None)
        assert answer.prediction.index == index % 3


def test_workers_take_the_gpus_in_turns(classifier: Classifier) -> None:
    assert classifier.bundle is not None
    spec = WorkerSpec(bundle=classifier.bundle, settings=PredictOptions())

    def shares(threads: int, gpus: int) -> list[tuple[int | None, str]]:
        return [(one.threads, one.gpu) for one in share_work(spec, threads, gpus=gpus)]

    assert shares(16, 0) == [(8, ""), (8, "")]
    assert shares(16, 1) == [(8, "cuda:0"), (8, "cuda:0")]
    assert shares(8, 3) == [(3, "cuda:0"), (3, "cuda:1"), (2, "cuda:2")]
    assert shares(32, 2) == [(8, "cuda:0"), (8, "cuda:1")] * 2
    assert shares(2, 8) == [(1, "cuda:0"), (1, "cuda:1")]


def test_a_network_of_this_process_alone_is_run_on_its_threads(classifier: Classifier) -> None:
    predictor = Predictor(classifier, threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toplabel.runs.worker_pool.gpu_count", lambda: 1)
        with open_labeller(predictor, PredictOptions(), count=100) as labeller:
            assert isinstance(labeller, LocalLabeller)
    assert predictor._engines._on_gpu[False] is not None


@WITHOUT_CUDA
def test_a_run_whose_gpu_cannot_be_used_goes_on_on_the_cpu(
    classifier: Classifier,
    source: NetworkSource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("toplabel.runs.worker_pool.gpu_count", lambda: 2)
    draw_colours(tmp_path / "photos", 9)
    model = Predictor(replace(classifier, lazy_module=Lazy(source), gpu="cuda"), threads=2)
    with caplog.at_level(logging.INFO, logger="toplabel"):
        toplabel.run(tmp_path / "photos", tmp_path / "labels.jsonl", model=model)
    records = read_jsonl(tmp_path / "labels.jsonl")
    assert [record["index"] for record in records] == [i % 3 for i in range(9)]
    told = [record.message for record in caplog.records if "not on a GPU" in record.message]
    assert len(told) == 1  # by two workers
