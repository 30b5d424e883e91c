"""Code as preprocessing: it runs as it is, and what cannot be relied on is refused."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402

import toplabel  # noqa: E402
from small_networks import small  # noqa: E402
from toplabel.errors import (  # noqa: E402
    ImageError,
    ModelError,
    PreprocessError,
    ToplabelWarning,
    UsageError,
)
from toplabel.models.transforms import read_preprocess  # noqa: E402
from toplabel.models.transforms.verify import drawn_photos  # noqa: E402
from toplabel.models.zoo_import import import_torchvision  # noqa: E402
from toplabel.preprocess.custom import CustomPreprocess  # noqa: E402
from toplabel.preprocess.preprocess import Preprocess  # noqa: E402
from toplabel.preprocess.presets import preset  # noqa: E402

import_torchvision()
from torchvision import models as torchvision_models, transforms as v1  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

HALF = ([0.5] * 3, [0.5] * 3)
PHOTOS = [Image.fromarray(photo) for photo in drawn_photos([(48, 64), (90, 40)], seed=3)]


def half(image: Image.Image) -> torch.Tensor:
    """A function as people write it."""
    return v1.functional.to_tensor(image.convert("RGB").resize((33, 33))) * 2 - 1


def of_array(array: np.ndarray) -> np.ndarray:
    """A function of an array, which fails on a PIL image."""
    return np.moveaxis(array[:33, :33].astype(np.float64) / 255, -1, 0)


class Caller:
    def __call__(self, image: Image.Image) -> torch.Tensor:
        return half(image)[None]


CODE: dict[str, Any] = {
    "function": half,
    "object": Caller(),
    "v2 in torchvision's order": v2.Compose(
        [
            v2.ToImage(),
            v2.Resize((33, 33), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(*HALF),
        ]
    ),
    "ToTensor before Resize": v1.Compose([v1.ToTensor(), v1.Resize((33, 33), antialias=False)]),
    "Lambda": v1.Compose([v1.Resize((33, 33)), v1.ToTensor(), v1.Lambda(lambda x: 2 * x - 1)]),
    "grey after the resize": v1.Compose([v1.Resize((33, 33)), v1.Grayscale(3), v1.ToTensor()]),
    "mean of five crops": v1.Compose(
        [
            v1.Resize((40, 40)),
            v1.FiveCrop(33),
            v1.Lambda(lambda crops: torch.stack([v1.functional.to_tensor(c) for c in crops])),
            v1.Lambda(lambda crops: crops.mean(0)),
        ]
    ),
    "a random one that always does": v1.Compose(
        [v1.RandomEqualize(p=1.0), v1.Resize((33, 33)), v1.ToTensor()]
    ),
    "nn.Sequential": nn.Sequential(
        v2.PILToTensor(), v2.Resize((33, 33)), v2.ConvertImageDtype(torch.float32)
    ),
    "list": [v1.Resize((33, 33)), v1.Grayscale(3), v1.ToTensor()],
}


@pytest.fixture(autouse=True)
def no_warnings_as_errors() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ToplabelWarning)
        yield


def by_hand(code: Any, image: Image.Image) -> np.ndarray:
    for step in code if isinstance(code, list) else [code]:
        image = step(image)
    tensor = torch.as_tensor(image).float()
    return (tensor[0] if tensor.ndim == 4 else tensor).numpy()


@pytest.mark.parametrize("code", CODE.values(), ids=CODE)
def test_code_that_cannot_be_translated_gives_what_it_gives_by_hand(code: Any) -> None:
    preprocess = read_preprocess(code)
    assert isinstance(preprocess, CustomPreprocess)
    assert preprocess.shape == (3, 33, 33)
    for photo in PHOTOS:
        assert np.array_equal(preprocess(np.asarray(photo)), by_hand(code, photo))


@pytest.mark.parametrize("code", CODE.values(), ids=CODE)
def test_labels_are_those_of_the_network_on_these_tensors(code: Any) -> None:
    network = small()
    model = toplabel.wrap(network, preprocess=code, engine="torch")
    tensors = torch.from_numpy(np.stack([by_hand(code, photo) for photo in PHOTOS]))
    with torch.no_grad():
        expected = network(tensors).argmax(1).tolist()
    assert [p.index for p in model(PHOTOS)] == expected


def test_a_function_of_an_array_is_given_one_and_the_warning_says_so() -> None:
    with pytest.warns(ToplabelWarning, match=r"of_array runs as it is.*RGB array \(H, W, 3\)"):
        preprocess = read_preprocess(of_array)
    pixels = np.asarray(PHOTOS[0])
    assert np.array_equal(preprocess(pixels), of_array(pixels).astype(np.float32))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit
def test_a_scripted_transform_is_given_a_tensor() -> None:
    steps = nn.Sequential(v1.Resize([33, 33]), v1.ConvertImageDtype(torch.float32))
    scripted = torch.jit.script(steps)
    preprocess = read_preprocess(scripted)
    tensor = torch.from_numpy(np.asarray(PHOTOS[0]).copy()).permute(2, 0, 1)
    assert np.array_equal(preprocess(np.asarray(PHOTOS[0])), scripted(tensor).numpy())


def test_transforms_of_tensors_are_given_one_though_they_let_images_through() -> None:
    code = v2.Compose(
        [v2.Resize((33, 33)), v2.ToDtype(torch.float32, scale=True), v2.Normalize(*HALF)]
    )
    preprocess = read_preprocess(code)
    tensor = torch.from_numpy(np.asarray(PHOTOS[0]).copy()).permute(2, 0, 1)
    assert np.array_equal(preprocess(np.asarray(PHOTOS[0])), code(tensor).numpy())


def test_the_warning_names_the_step_that_cannot_be_translated_and_every_record_has_it() -> None:
    code = v1.Compose([v1.Resize((33, 33)), v1.Grayscale(3), v1.ToTensor()])
    with pytest.warns(ToplabelWarning, match=r"one image at a time, given a PIL image") as caught:
        model = toplabel.wrap(small(), preprocess=code, labels=list("abcdefg"), engine="torch")
    assert len([w for w in caught if w.category is ToplabelWarning]) == 1
    (text,) = model(PHOTOS[0]).warnings
    assert "Grayscale(num_output_channels=3)" in text


def clip_rgb(image: Image.Image) -> Image.Image:
    """As CLIP has it."""
    return image.convert("RGB")


@pytest.mark.parametrize(
    "first", [clip_rgb, v1.Lambda(lambda im: im.convert("RGB"))], ids=["function", "Lambda"]
)
def test_a_conversion_to_rgb_is_translated_since_images_are_rgb(first: Any) -> None:
    code = v1.Compose([first, v1.Resize((32, 32)), v1.ToTensor(), v1.Normalize(*HALF)])
    with warnings.catch_warnings():
        warnings.simplefilter("error", ToplabelWarning)
        assert read_preprocess(code) == preset("half-squash-32")


def test_a_conversion_to_another_mode_runs_as_it_is() -> None:
    code = v1.Compose([v1.Lambda(lambda im: im.convert("L")), v1.Resize((8, 8)), v1.ToTensor()])
    preprocess = read_preprocess(code)
    assert isinstance(preprocess, CustomPreprocess)
    assert preprocess.shape == (1, 8, 8)


@pytest.mark.parametrize(
    "code",
    [
        v1.Compose([v1.RandomResizedCrop(33), v1.ToTensor()]),
        v1.Compose([v1.Resize((33, 33)), v1.RandomHorizontalFlip(), v1.ToTensor()]),
        v1.Compose([v1.Resize((33, 33)), v1.ToTensor(), v1.RandomErasing(p=0.001)]),
        lambda image: v1.RandomCrop(33)(v1.functional.to_tensor(image)),
    ],
    ids=["crop", "flip", "rarely", "in a function"],
)
def test_what_is_random_is_refused(code: Any) -> None:
    with pytest.raises(PreprocessError, match=r"is random .*pass the transform of validation"):
        read_preprocess(code)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (lambda im: np.asarray(im.resize((9, 9)), np.float32), r"\(9, 9, 3\).*channels first"),
        (lambda im: torch.ones(9, 9), r"of shape \(9, 9\).*a single plane needs its channel"),
        (lambda im: torch.ones(5, 3, 9, 9), r"5 tensors.*average or choose"),
        (lambda im: v1.functional.pil_to_tensor(im), r"uint8.*x / 255"),
        (lambda im: im.resize((9, 9)), r"gave a Image.*end it with ToTensor"),
        (lambda im: {"pixels": 1}, r"gave a dict"),
        (v1.Compose([v1.Resize((9, 9)), v1.CenterCrop(9)]), r"uint8.*ToDtype"),
        (lambda im: "text", r"gave an array of <U4"),
        (lambda im: v1.functional.to_tensor(im), r"different sizes.*320x240.*Resize to"),
        (lambda im: torch.full((3, 9, 9), torch.nan), r"gives NaN"),
        (lambda path: Image.open(path), r"fails on a photo.*never a path"),
        (lambda image, target: image, r"fails on a photo.*nothing else"),
    ],
)
def test_output_that_is_no_float_tensor_is_one_error(code: Callable[..., Any], said: str) -> None:
    with pytest.raises(PreprocessError, match=said):
        read_preprocess(code)


@pytest.mark.parametrize("times", [1 / 255, 255])
def test_values_that_hardly_differ_or_too_much_are_warned_of(times: float) -> None:
    with pytest.warns(ToplabelWarning, match="divided by 255 twice, or not at all"):
        read_preprocess(lambda image: half(image) * times)


def test_a_mean_of_another_range_is_refused_although_the_code_could_be_run() -> None:
    code = v1.Compose([v1.Resize((9, 9)), v1.ToTensor(), v1.Normalize([123.7] * 3, [58.4] * 3)])
    with pytest.raises(PreprocessError, match=r"do not fit: black and white would become -2.118"):
        read_preprocess(code)


def test_code_that_gives_one_buffer_each_time_does_not_mix_images_up() -> None:
    buffer = np.empty((3, 33, 33), np.float32)

    def code(image: Image.Image) -> np.ndarray:
        buffer[...] = half(image).numpy()
        return buffer

    model = toplabel.wrap(small(), preprocess=code, engine="torch", threads=2)
    expected = [toplabel.wrap(small(), preprocess=half, engine="torch")(p).index for p in PHOTOS]
    assert [p.index for p in model(PHOTOS * 3)] == expected * 3


def test_an_image_on_which_the_code_fails_is_a_record() -> None:
    def code(image: Image.Image) -> torch.Tensor:
        if image.width < 10:
            raise ValueError("too narrow")
        if image.height < 10:
            return torch.zeros(3, 5, 5)
        if image.width == 11:
            return torch.full((3, 33, 33), torch.inf)
        return half(image)

    model = toplabel.wrap(small(), preprocess=code, engine="torch")
    sizes = [(64, 48), (9, 48), (48, 9), (11, 48)]
    found = model([Image.new("RGB", size) for size in sizes])
    codes = [p.error and p.error.code for p in found]
    assert codes == [None, "internal", "wrong_size", "non_finite"]
    assert "failed on this image: ValueError: too narrow" in found[1].error.message
    with pytest.raises(ImageError, match="too narrow"):
        model(Image.new("RGB", (9, 48)))


def test_the_network_is_compiled_and_cannot_be_saved_since_code_is_no_data(tmp_path: Path) -> None:
    model = toplabel.wrap(small(), preprocess=half)
    expected = [p.index for p in model(PHOTOS)]
    model.compile()
    assert model.engine == "onnxruntime on cpu"
    assert [p.index for p in model(PHOTOS)] == expected
    with pytest.raises(ModelError, match=r"cannot be saved: its preprocessing half is code"):
        model.save(tmp_path / "m.toplabel")
    with pytest.raises(UsageError, match=r"cannot explain .* its preprocessing half is code"):
        toplabel.explain(model, PHOTOS[0])


def test_it_takes_the_place_of_a_bundles_own(tmp_path: Path) -> None:
    path = tmp_path / "m.toplabel"
    toplabel.wrap(small(), preprocess=preset("half-squash-33")).save(path)
    model = toplabel.load(path, preprocess=half)
    expected = toplabel.wrap(small(), preprocess=half, engine="torch")
    assert [p.index for p in model(PHOTOS)] == [p.index for p in expected(PHOTOS)]
    with pytest.raises(PreprocessError, match=r"shape \(3, 9, 9\); .* takes \(3, 33, 33\)"):
        toplabel.load(path, preprocess=lambda im: torch.ones(3, 9, 9))


FILE = """
import torch
from torchvision import transforms as T
steps = [T.Resize((33, 33)), T.ToTensor(), T.Normalize([0.5] * 3, [0.5] * 3)]
plain = T.Compose(steps)
grey = T.Compose([T.Resize((33, 33)), T.Grayscale(3), T.ToTensor()])
def make(size=33):
    return grey
def function(image):
    return grey(image)
class Made:
    __call__ = staticmethod(function)
class Needy:
    def __init__(self, size): ...
config = {"input_size": [33, 33], "resize_size": [33, 33], "mean": [0.5] * 3, "std": [0.5] * 3}
number = 3
def broken():
    raise RuntimeError("no data")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path / "mine.py"


@pytest.mark.parametrize("name", ["plain", "config"])
def test_what_a_file_names_is_translated_where_it_can_be(file: Path, name: str) -> None:
    assert isinstance(read_preprocess(f"{file}:{name}"), Preprocess)


@pytest.mark.parametrize("name", ["grey", "make", "function", "Made"])
def test_code_in_a_file_is_an_object_a_function_a_class_or_what_makes_one(
    file: Path, name: str
) -> None:
    preprocess = read_preprocess(f"{file}:{name}")
    assert isinstance(preprocess, CustomPreprocess)
    assert preprocess.name == f"mine.py:{name}"  # no path of this machine
    assert np.array_equal(
        preprocess(np.asarray(PHOTOS[0])), by_hand(CODE["grey after the resize"], PHOTOS[0])
    )


def test_code_in_an_installed_module_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_transforms")
    module.half = half  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_transforms", module)
    assert isinstance(read_preprocess("my_transforms:half"), CustomPreprocess)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("absent", UsageError, "no 'absent' in"),
        ("Needy", PreprocessError, "is a class that needs size"),
        ("number", PreprocessError, "got a transform of type builtins.int"),
        ("broken", PreprocessError, r"broken\(\) failed: RuntimeError: no data"),
    ],
)
def test_a_name_that_is_no_transform_is_refused(
    file: Path, name: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        read_preprocess(f"{file}:{name}")


def test_a_class_or_what_makes_a_transform_is_called_for_it() -> None:
    weights = torchvision_models.ResNet18_Weights.DEFAULT
    expected = read_preprocess(weights.transforms())
    assert read_preprocess(weights.transforms) == expected  # without its parentheses
    assert read_preprocess(lambda: weights.transforms()) == expected
    assert isinstance(read_preprocess(Caller), CustomPreprocess)


def test_a_method_and_a_function_with_more_arguments_are_called_with_the_image() -> None:
    def code(image: Image.Image, size: int = 33) -> torch.Tensor:
        return half(image.resize((size, size)))

    def optional(image: Image.Image | None = None) -> torch.Tensor:
        assert image is not None
        return half(image)

    for given in (code, optional, Caller().__call__):
        assert read_preprocess(given).input_size == (33, 33)


def test_a_name_is_a_preset_a_path_or_json_everywhere(tmp_path: Path) -> None:
    half_32 = preset("half-squash-32")
    path = tmp_path / "p.json"
    path.write_text(half_32.to_json())
    for given in ("half-squash-32", half_32.to_json(), str(path), path, half_32.to_dict(), half_32):
        assert read_preprocess(given) == half_32
    with pytest.raises(PreprocessError, match="did you mean 'half-squash-32'"):
        toplabel.wrap(small(), preprocess="half-squish-32")


def test_a_checkpoint_with_code_is_opened_by_its_code_at_every_start(
    file: Path, tmp_path: Path
) -> None:
    torch.save(small().state_dict(), tmp_path / "net.pth")
    options: dict[str, Any] = {"arch": "small_networks:Small", "engine": "auto"}
    code = f"{file}:function"
    first = toplabel.load(tmp_path / "net.pth", preprocess=code, **options)
    first.compile()
    before = [p.score for p in first(PHOTOS)]
    file.write_text(FILE.replace("return grey(image)", "return 1 - grey(image)"))
    again = toplabel.load(tmp_path / "net.pth", preprocess=code, **options)
    assert [p.score for p in again(PHOTOS)] != before
