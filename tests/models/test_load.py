"""The door: names and networks in; answers from eager first, then compiled, then the cache."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toplabel
from locks import WatchedLock
from toplabel.bundle import cache
from toplabel.errors import (
    EngineError,
    LabelsError,
    ModelError,
    ModelNotFound,
    ToplabelWarning,
    UsageError,
)

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from torch import nn  # noqa: E402

from loading import load_model  # noqa: E402
from toplabel.inference.classifier import Lazy  # noqa: E402
from toplabel.models import build as building, load as loader, open as opening  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPE = toplabel.Preprocess(
    input_size=(32, 32), resize_mode="squash", resize_size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3
)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        yield


class SmallCNN(nn.Module):
    """A network as users write them: convolutions, batch norm, one linear layer."""

    def __init__(self, classes: int = 4, *, last: nn.Module | None = None) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
        )
        self.head = nn.Linear(32, classes)
        nn.init.normal_(self.head.weight)
        self.last = last or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.head(self.features(x).flatten(1)))


class CannotBeExported(SmallCNN):
    """Leaves PyTorch in its forward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = [super(CannotBeExported, self).forward(row[None]) for row in x]
        sizes = np.array([float(row.abs().sum()) for row in rows])
        return torch.cat(rows) + torch.from_numpy(np.sin(sizes).astype(np.float32))[:, None]


PHOTOS = [EXAMPLES / "cat.jpg", EXAMPLES / "coffee.jpg", EXAMPLES / "rocket.jpg"]


def eager_index(module: nn.Module, photo: Path) -> int:
    from PIL import Image

    tensor = torch.from_numpy(RECIPE(np.asarray(Image.open(photo).convert("RGB"))))
    with torch.no_grad():
        return int(module.eval()(tensor[None]).argmax())


def test_a_network_is_answered_by_pytorch_first_and_by_onnxruntime_then() -> None:
    module = SmallCNN()
    model = toplabel.wrap(module, labels=["a", "b", "c", "d"], preprocess=RECIPE)
    first = model(PHOTOS[0])
    assert model.engine == "torch on cpu"
    second = model(PHOTOS[0])
    assert model.engine == "onnxruntime on cpu"
    assert first.index == second.index == eager_index(module, PHOTOS[0])
    assert first.score == pytest.approx(second.score, abs=1e-5)
    assert first.model == second.model
    assert first.model.startswith("SmallCNN@")


def test_streaming_a_new_network_gives_the_same_labels_as_eager_pytorch() -> None:
    module = SmallCNN()
    model = toplabel.wrap(module, labels=["a", "b", "c", "d"], preprocess=RECIPE)
    indices = [prediction.index for prediction in model.stream(PHOTOS * 3)]
    assert indices == [eager_index(module, photo) for photo in PHOTOS] * 3


def test_a_network_compiled_before_is_found_and_not_compiled_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "toplabel")
    module = SmallCNN()
    toplabel.wrap(module, preprocess=RECIPE).compile()
    assert any("compiling" in line for line in caplog.messages)
    caplog.clear()
    again = toplabel.wrap(module, preprocess=RECIPE, labels=["w", "x", "y", "z"])
    again.compile()
    assert caplog.messages == []
    assert again(PHOTOS[0]).label in "wxyz"


def test_a_program_that_another_process_clears_in_between_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = SmallCNN()
    toplabel.wrap(module, preprocess=RECIPE).compile()
    find = cache.find_program

    def find_then_lose(key: str) -> object:
        monkeypatch.setattr(cache, "find_program", find)
        found = find(key)
        assert found is not None
        cache.prune()
        return found

    monkeypatch.setattr(cache, "find_program", find_then_lose)
    model = toplabel.wrap(module, preprocess=RECIPE)
    model.compile()
    assert model(PHOTOS[0]).index == eager_index(module, PHOTOS[0])
    assert model.engine == "onnxruntime on cpu"


def test_a_network_changed_in_place_is_not_answered_by_the_old_program() -> None:
    module = SmallCNN()
    toplabel.wrap(module, preprocess=RECIPE).compile()
    with torch.no_grad():
        module.head.weight.neg_()
    model = toplabel.wrap(module, preprocess=RECIPE)
    model.compile()
    assert model(PHOTOS[0]).index == eager_index(module, PHOTOS[0])


def test_a_program_that_no_longer_agrees_and_cannot_be_replaced_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = SmallCNN()
    toplabel.wrap(module, preprocess=RECIPE).compile()
    monkeypatch.setattr(building, "_still_agrees", lambda *_: False)
    monkeypatch.setattr(cache, "forget_program", lambda _: False)  # a read-only cache
    model = toplabel.wrap(module, preprocess=RECIPE)
    with pytest.warns(ToplabelWarning, match="stays in PyTorch: the cached program no longer"):
        model.compile()
    assert any("no longer agrees" in text for text in model(PHOTOS[0]).warnings)


@pytest.mark.slow
def test_what_cannot_be_exported_stays_in_pytorch_with_a_warning() -> None:
    module = CannotBeExported()
    model = toplabel.wrap(module, preprocess=RECIPE)
    with pytest.warns(ToplabelWarning, match="stays in PyTorch") as found:
        predictions = list(model.stream(PHOTOS))
    assert len(found) == 1
    assert [one.index for one in predictions] == [eager_index(module, photo) for photo in PHOTOS]
    assert model.engine == "torch on cpu"
    assert any("stays in PyTorch" in text for text in predictions[-1].warnings)
    with pytest.warns(ToplabelWarning, match="stays in PyTorch"):  # from the cache, at once
        again = toplabel.wrap(module, preprocess=RECIPE)
    assert set(again(PHOTOS[0]).warnings) == set(predictions[-1].warnings)


@pytest.mark.slow
def test_demanding_onnxruntime_for_what_cannot_be_exported_is_an_error() -> None:
    model = toplabel.wrap(CannotBeExported(), preprocess=RECIPE, engine="onnxruntime")
    with pytest.raises(EngineError, match="cannot run with onnxruntime"):
        model.compile()


def test_outputs_that_are_probabilities_are_not_softmaxed_twice() -> None:
    module = SmallCNN(last=nn.Softmax(dim=1))
    model = toplabel.wrap(module, preprocess=RECIPE)
    prediction = model(PHOTOS[0], top_k=4)
    assert prediction.top is not None
    assert sum(candidate.score for candidate in prediction.top) == pytest.approx(1, abs=1e-5)
    logits = toplabel.wrap(
        nn.Sequential(module.features, nn.Flatten(), module.head), preprocess=RECIPE
    )
    assert prediction.score == pytest.approx(logits(PHOTOS[0]).score, abs=1e-5)
    model.compile()
    assert model(PHOTOS[0]).score == pytest.approx(prediction.score, abs=1e-5)


def test_multi_label_networks_give_all_labels_above_the_threshold() -> None:
    model = toplabel.wrap(SmallCNN(), preprocess=RECIPE, multi_label=True)
    prediction = model(PHOTOS[0])
    assert prediction.top is not None
    assert all(candidate.score >= 0.5 for candidate in prediction.top)


def test_multi_label_outputs_that_are_scores_get_no_second_sigmoid() -> None:
    prediction = toplabel.wrap(SmallCNN(last=nn.Sigmoid()), preprocess=RECIPE, multi_label=True)(
        PHOTOS[0]
    )
    torch.manual_seed(7)
    logits = toplabel.wrap(SmallCNN(), preprocess=RECIPE, multi_label=True)(PHOTOS[0])
    assert prediction.score == pytest.approx(logits.score, abs=1e-6)


def test_without_names_the_answer_is_an_index() -> None:
    prediction = toplabel.wrap(SmallCNN(), preprocess=RECIPE)(PHOTOS[0])
    assert prediction.label == str(prediction.index)


def test_a_network_with_dropout_left_on_is_refused() -> None:
    class Dropping(SmallCNN):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(super().forward(x), 0.5)

    with pytest.raises(ModelError, match="different outputs for the same image"):
        toplabel.wrap(Dropping(), preprocess=RECIPE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"engine": "tensorrt"},
            "got engine 'tensorrt'; expected one of auto, onnxruntime, openvino, torch",
        ),
        ({"dtype": "int8"}, "got dtype 'int8'"),
        ({"engine": "onnxruntime", "device": "cuda"}, "use engine 'torch'"),
        ({"engine": "torch"}, "the built-in model runs with onnxruntime"),
        ({"threads": 0}, "threads=0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        toplabel.load(**options)  # type: ignore[arg-type]


def test_an_unknown_name_says_what_was_meant() -> None:
    with pytest.raises(ModelNotFound, match="resnet50"):
        toplabel.load("resnet5O")


ZOO = """
import logging, sys, toplabel
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stderr)
model = toplabel.load("resnet18")
prediction = model(sys.argv[1])
torch_first = "torch" in sys.modules
model.compile()
print(prediction.index, model(sys.argv[1]).index, torch_first, prediction.model)
"""


@pytest.fixture(scope="module")
def torch_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's cache with random weights where resnet18's would lie."""
    from toplabel.models import zoo_import

    models = zoo_import.import_torchvision().models
    home = tmp_path_factory.mktemp("torch")
    file = home / "hub/checkpoints" / Path(models.ResNet18_Weights.DEFAULT.url).name
    file.parent.mkdir(parents=True)
    torch.manual_seed(3)
    torch.save(models.resnet18().state_dict(), file)
    return home


def start(torch_home: Path, cache: Path) -> list[str]:
    environment = {
        "TORCH_HOME": str(torch_home),
        "TOPLABEL_CACHE": str(cache),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(Path(toplabel.__file__).parents[1]),
    }
    result = subprocess.run(
        [sys.executable, "-c", ZOO, str(PHOTOS[0])],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.slow  # two processes, one of which compiles a ResNet
def test_the_second_start_of_a_zoo_model_needs_no_torch(torch_home: Path, tmp_path: Path) -> None:
    first = start(torch_home, tmp_path / "cache")
    second = start(torch_home, tmp_path / "cache")
    assert first[2] == "True"
    assert second[2] == "False"
    assert {first[0], first[1]} == {second[0], second[1]}
    assert first[3] == second[3]
    assert first[3].startswith("torchvision/resnet18:IMAGENET1K_V1@")


def test_threads_that_ask_for_one_new_model_load_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    locks, loaded = [], []

    class Watched(Lazy[object]):
        def __init__(self, load: Callable[[], object]) -> None:
            super().__init__(load)
            self._lock = WatchedLock(self._lock)
            locks.append(self._lock)

    def load_predictor(*arguments: object) -> object:
        locks[0].wait_until_asked(8)  # all are here
        loaded.append(object())
        return loaded[-1]

    monkeypatch.setattr(loader, "Lazy", Watched)
    monkeypatch.setattr(loader, "load_predictor", load_predictor)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(loader.shared_predictor, [PHOTOS[0]] * 8))
    assert loaded == [got[0]]
    assert set(got) == {loaded[0]}


def test_a_loaded_model_answers_while_another_one_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load_predictor, asked, answered = loader.load_predictor, threading.Event(), threading.Event()

    def load_late(*arguments: Any) -> object:
        with opening.LOADING:
            asked.set()
            assert answered.wait(60)
        return load_predictor(*arguments)

    first = toplabel.label(PHOTOS[0])
    monkeypatch.setattr(loader, "load_predictor", load_late)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(toplabel.label, PHOTOS[0], model="embedded")
        assert asked.wait(60)
        assert toplabel.label(PHOTOS[0]) == first
        answered.set()
        assert other.result(60) == first


def test_a_list_gives_a_list_of_labels_and_none_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff broken")
    first, second = toplabel.label(PHOTOS[0]), toplabel.label(PHOTOS[1])
    assert toplabel.label([PHOTOS[0]]) == [first]
    assert toplabel.label((str(PHOTOS[0]), Path(PHOTOS[1]))) == [first, second]
    with pytest.warns(toplabel.ToplabelWarning, match=r"bad\.jpg has no label: .*truncated"):
        labels = toplabel.label([PHOTOS[0], tmp_path / "bad.jpg", PHOTOS[1]])
    assert labels == [first, None, second]


def test_models_are_loaded_one_at_a_time_and_never_without_the_guard(
    torch_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toplabel.models import zoo_import

    models, guard = zoo_import.import_torchvision().models, "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    lock, make, guarded, loaded = WatchedLock(opening.LOADING), models.get_model, [], []

    def get_model(*arguments: object, **options: object) -> nn.Module:
        if not guarded:
            other.start()
            lock.wait_until_asked(2)
        guarded.append(os.environ.get(guard))
        made = make(*arguments, **options)
        guarded.append(os.environ.get(guard))
        return made

    monkeypatch.delenv(guard, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(torch_home))
    monkeypatch.setattr(opening, "LOADING", lock)
    monkeypatch.setattr(models, "get_model", get_model)
    other = threading.Thread(target=lambda: loaded.append(load_model("resnet18")))
    loaded.append(load_model("resnet18"))
    other.join()
    assert len(loaded) == 2
    assert guarded == ["1"] * 4
    assert guard not in os.environ


def test_checkpoints_wait_for_their_turn_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toplabel.models.sources import checkpoint

    lock, load, turns = WatchedLock(threading.RLock()), checkpoint.load, []

    def load_in_turn(*arguments: Any, **options: Any) -> Any:
        turns.append(lock.lock._is_owned())
        return load(*arguments, **options)

    monkeypatch.setattr(opening, "LOADING", lock)
    monkeypatch.setattr(checkpoint, "load", load_in_turn)
    torch.save(SmallCNN().state_dict(), tmp_path / "best.pth")
    options = {"arch": SmallCNN, "labels": list("abcd"), "preprocess": RECIPE}
    model = toplabel.load(tmp_path / "best.pth", **options)
    model.compile()
    assert turns == [True]
    model.classifier.lazy_module.get()
    assert turns == [True, True]


def test_the_embedded_model_has_a_name() -> None:
    assert toplabel.load("embedded/efficientnet_lite0").name == toplabel.load().name
    assert toplabel.load(toplabel.load().name).name == toplabel.load().name
    with pytest.raises(ModelNotFound, match="this version of toplabel has"):
        toplabel.load("embedded/efficientnet_lite0@00000000")


def test_a_folder_called_like_a_model_is_not_taken_for_it(tmp_path, monkeypatch) -> None:
    from toplabel.models.open import entry_name
    from toplabel.models.options import ModelOptions
    from toplabel.models.ref import ModelRef

    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet18").mkdir()
    assert entry_name(ModelRef.parse("resnet18"), ModelOptions()) == "resnet18"
    assert entry_name(ModelRef.parse("./resnet18"), ModelOptions()) == str(tmp_path / "resnet18")


def test_a_former_notify_hears_of_the_compiling_too() -> None:
    lines: list[str] = []
    with pytest.warns(DeprecationWarning, match="notify="):
        model = toplabel.wrap(SmallCNN(), preprocess=RECIPE, notify=lines.append)
    model.compile()
    assert any("compiling" in line for line in lines)


@pytest.mark.parametrize("options", [{"allow_globals": []}, {"arch_args": None}, {"labels": None}])
def test_what_says_nothing_is_not_refused(options: dict[str, object]) -> None:
    assert len(toplabel.load(**options).labels) == 1000


def test_labels_as_an_array_are_labels(tmp_path: Path) -> None:
    toplabel.wrap(SmallCNN(), preprocess=RECIPE).save(tmp_path / "net.toplabel")
    names = [
        f"class {index}" for index in range(len(toplabel.load(tmp_path / "net.toplabel").labels))
    ]
    model = toplabel.load(tmp_path / "net.toplabel", labels=np.array(names))
    assert list(model.labels) == names
    with pytest.raises(LabelsError, match="outputs"):
        toplabel.load(tmp_path / "net.toplabel", labels=np.array(names[1:]))
