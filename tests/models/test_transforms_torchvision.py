"""Recipes of torchvision's transforms, compared bit for bit with the transforms themselves."""

import warnings

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from toplabel.errors import PreprocessError  # noqa: E402
from toplabel.models.transforms import translate  # noqa: E402
from toplabel.models.transforms.torchvision import from_transform  # noqa: E402
from toplabel.models.transforms.verify import drawn_photos  # noqa: E402
from toplabel.models.zoo_import import import_torchvision  # noqa: E402
from toplabel.preprocess.preprocess import Preprocess  # noqa: E402

torchvision = import_torchvision()
from torchvision.transforms import transforms as v1, v2  # noqa: E402

SHAPES = [(120, 161), (163, 110), (64, 64), (1, 1), (7, 40), (60, 11), (31, 47), (375, 500)]


@pytest.fixture(autouse=True)
def one_thread():
    """Pictures this small are normalised faster by one thread than shared among several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _weights(module) -> list:
    """Every weights entry of the classification models in a module of torchvision."""
    names = torchvision.models.list_models(module=module)
    enums = {torchvision.models.get_model_weights(name) for name in names}
    return sorted((entry for enum in enums for entry in enum), key=str)


FLOAT_WEIGHTS = _weights(torchvision.models)
QUANTIZED_WEIGHTS = _weights(torchvision.models.quantization)


def _distinct(entries: list) -> dict[str, object]:
    return {repr(entry.transforms()): entry for entry in entries}


def _assert_equal(preprocess: Preprocess, transform, pixels: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about antialias, which images always have
        expected = np.asarray(transform(Image.fromarray(pixels)))
    ours = preprocess(pixels)
    assert ours.dtype == expected.dtype == np.float32
    assert np.array_equal(ours, expected), pixels.shape


def test_the_zoo_is_as_large_as_ever():
    assert len(FLOAT_WEIGHTS) >= 115
    assert len(_distinct(FLOAT_WEIGHTS)) >= 28


@pytest.mark.parametrize("entry", _distinct(FLOAT_WEIGHTS + QUANTIZED_WEIGHTS).values(), ids=str)
def test_every_weights_transform_equals_its_preprocessing(entry):
    transform = entry.transforms()
    preprocess = from_transform(transform)
    large = preprocess.input_size[0] > 300  # translating it has compared six shapes already
    for pixels in drawn_photos(SHAPES[::3] if large else SHAPES):
        _assert_equal(preprocess, transform, pixels)
    assert Preprocess.from_json(preprocess.to_json()) == preprocess


@pytest.mark.shared_data
@pytest.mark.slow
def test_real_photos_equal_too(shared_data):
    paths = sorted((shared_data / "imagenet").glob("*.JPEG"))[::20]
    paths += sorted((shared_data / "camera").iterdir())[:2]
    photos = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    for entry in _distinct(FLOAT_WEIGHTS).values():
        transform = entry.transforms()
        preprocess = from_transform(transform)
        for pixels in photos:
            _assert_equal(preprocess, transform, pixels)


NORMALIZE = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SUPPORTED = {
    "the textbook": lambda: v1.Compose(
        [v1.Resize(72), v1.CenterCrop(64), v1.ToTensor(), v1.Normalize(*NORMALIZE)]
    ),
    "of v2": lambda: v2.Compose(
        [
            v2.Resize(72, antialias=True),
            v2.CenterCrop(64),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(*NORMALIZE),
        ]
    ),
    "squash": lambda: v1.Compose([v1.Resize((40, 56)), v1.ToTensor()]),
    "squash and crop": lambda: v1.Compose([v1.Resize((40, 56)), v1.CenterCrop(33), v1.ToTensor()]),
    "crop that pads": lambda: v1.Compose([v1.Resize(30), v1.CenterCrop((64, 50)), v1.ToTensor()]),
    "no resize": lambda: v1.Compose([v1.CenterCrop(57), v1.ToTensor()]),
    "longest": lambda: v2.Compose([v2.Resize(None, max_size=61), v2.CenterCrop(64), v2.ToTensor()]),
    "nested": lambda: v1.Compose(
        [v1.Compose([v1.Resize([50]), v1.CenterCrop([48])]), v1.Compose([v1.ToTensor()])]
    ),
    "uint8 and dtype of v1": lambda: v1.Compose(
        [v1.Resize(50), v1.CenterCrop(48), v1.PILToTensor(), v1.ConvertImageDtype(torch.float32)]
    ),
    "dtype without scale": lambda: v2.Compose(
        [
            v2.Resize(50),
            v2.CenterCrop(48),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32),
            v2.Normalize([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        ]
    ),
    "dtype of v2": lambda: v2.Compose(
        [v2.Resize(50), v2.CenterCrop(48), v2.ToImage(), v2.ConvertImageDtype(torch.float32)]
    ),
    "crop after ToTensor": lambda: v1.Compose(
        [v1.Resize(40), v1.ToTensor(), v1.CenterCrop(64), v1.Normalize(*NORMALIZE)]
    ),
    "crop after Normalize": lambda: v1.Compose(
        [v1.Resize(70), v1.ToTensor(), v1.Normalize(*NORMALIZE), v1.CenterCrop(64)]
    ),
    "grey": lambda: v1.Compose(
        [v1.Grayscale(), v1.Resize((28, 28)), v1.ToTensor(), v1.Normalize(0.1307, 0.3081)]
    ),
    "grey three times": lambda: v1.Compose(
        [v1.Grayscale(3), v1.Resize(32), v1.CenterCrop(28), v1.ToTensor(), v1.Normalize(*NORMALIZE)]
    ),
    "inverted first": lambda: v1.Compose(
        [v1.RandomInvert(p=1.0), v1.Resize(50), v1.CenterCrop(64), v1.ToTensor()]
    ),
    "inverted after the resize": lambda: v1.Compose(
        [v1.Grayscale(), v1.Resize((28, 28)), v1.RandomInvert(1), v1.ToTensor()]
    ),
    "inverted tensor": lambda: v2.Compose(
        [v2.Resize((28, 28)), v2.PILToTensor(), v2.RandomInvert(1.0), v2.ToDtype(torch.float32)]
    ),
    "without antialias, which images ignore": lambda: v1.Compose(
        [v1.Resize(50, antialias=False), v1.CenterCrop(48), v1.ToTensor()]
    ),
    "nearest": lambda: v2.Compose(
        [v2.Resize(50, interpolation="nearest"), v2.CenterCrop(48), v2.ToTensor()]
    ),
    "Pillow's number": lambda: v2.Compose(
        [v2.Resize(50, interpolation=Image.Resampling.LANCZOS), v2.CenterCrop(48), v2.ToTensor()]
    ),
    "from arrays": lambda: v1.Compose(
        [v1.ToPILImage(), v1.Resize(50), v1.CenterCrop(48), v1.ToTensor()]
    ),
    "identity and RGB": lambda: v2.Compose(
        [v2.RGB(), v2.Resize(50), v2.Identity(), v2.CenterCrop(48), v2.ToTensor()]
    ),
}


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.filterwarnings("ignore:The transform `ToTensor")
@pytest.mark.filterwarnings("ignore:.*ConvertImageDtype")
def test_what_people_write_equals_its_preprocessing(name):
    transform = SUPPORTED[name]()
    preprocess = translate(transform)
    for pixels in drawn_photos(SHAPES, seed=7):
        if name == "from arrays":
            transform.transforms[0] = v1.ToPILImage()
            expected = np.asarray(transform(pixels))
            assert np.array_equal(preprocess(pixels), expected)
        else:
            _assert_equal(preprocess, transform, pixels)


class Whiten(torch.nn.Module):
    """A user's own operation."""

    def forward(self, image):
        return image


class Resize(v1.Resize):
    """A user's own class, whose name says nothing."""

    def forward(self, image):
        return super().forward(image).rotate(90)


TAIL = [v1.CenterCrop(48), v1.ToTensor()]
REFUSED = {
    "ToTensor before Resize": (
        lambda: v1.Compose([v1.ToTensor(), v1.Resize(50), v1.CenterCrop(48)]),
        "Resize.*comes after the conversion to a tensor",
    ),
    "ToImage before Resize": (
        lambda: v2.Compose([v2.ToImage(), v2.Resize(50), v2.CenterCrop(48)]),
        "Resize.*comes after the conversion to a tensor",
    ),
    "FiveCrop": (
        lambda: v1.Compose([v1.FiveCrop(10), v1.ToTensor()]),
        "FiveCrop.* is not supported",
    ),
    "random": (
        lambda: v1.Compose([v1.RandomResizedCrop(64), v1.RandomHorizontalFlip(), v1.ToTensor()]),
        r"RandomResizedCrop.*\. Use the evaluation transform",
    ),
    "half of the images inverted": (
        lambda: v1.Compose([v1.RandomInvert(), *TAIL]),
        "RandomInvert.*it is random: p is 0.5; expected 1",
    ),
    "inverted floats": (
        lambda: v1.Compose([v1.Resize((28, 28)), v1.ToTensor(), v1.RandomInvert(p=1)]),
        "RandomInvert.*it comes after the conversion to float",
    ),
    "inverted between the resize and padding": (
        lambda: v1.Compose([v1.Resize(50), v1.RandomInvert(p=1), v1.CenterCrop(64), v1.ToTensor()]),
        "does not do what its operations say",
    ),
    "Pad": (lambda: v1.Compose([v1.Resize(50), v1.Pad(3), *TAIL]), "Pad.* is not supported"),
    "Lambda": (lambda: v1.Compose([v1.Lambda(lambda image: image), *TAIL]), "Lambda"),
    "max_size": (lambda: v1.Compose([v1.Resize(50, max_size=60), *TAIL]), "max_size"),
    "two resizes": (lambda: v1.Compose([v1.Resize(50), v1.Resize(40), *TAIL]), "already one"),
    "resize after crop": (
        lambda: v1.Compose([v1.CenterCrop(50), v1.Resize(40), v1.ToTensor()]),
        "Resize.*comes after the crop",
    ),
    "two normalizes": (
        lambda: v1.Compose([v1.Resize(50), *TAIL, v1.Normalize(0.5, 0.5), v1.Normalize(0.5, 1.0)]),
        "Normalize",
    ),
    "crop after Normalize that pads": (
        lambda: v1.Compose([v1.Resize(40), TAIL[1], v1.Normalize(0.5, 0.5), v1.CenterCrop(48)]),
        "after Normalize, and would pad",
    ),
    "grey after resize": (
        lambda: v1.Compose([v1.Resize(50), v1.Grayscale(), *TAIL]),
        "Grayscale.*comes after the resize",
    ),
    "no crop": (lambda: v1.Compose([v1.Resize(50), v1.ToTensor()]), "expected a CenterCrop"),
    "no tensor": (lambda: v1.Compose([v1.Resize(50), v1.CenterCrop(48)]), "float tensor"),
    "uint8 tensor": (lambda: v1.Compose([v1.Resize((5, 5)), v1.PILToTensor()]), "float tensor"),
    "float64": (
        lambda: v2.Compose([v2.Resize((5, 5)), v2.ToImage(), v2.ToDtype(torch.float64)]),
        "only torch.float32",
    ),
    "a user's module": (lambda: v1.Compose([Whiten(), *TAIL]), "Whiten.* is not supported"),
    "a user's subclass": (lambda: v1.Compose([Resize(50), *TAIL]), "Resize.* is not supported"),
    "a model": (lambda: torch.nn.Linear(2, 2), "Linear.* is not supported"),
    "another preset": (
        lambda: torchvision.models.segmentation.FCN_ResNet50_Weights.DEFAULT.transforms(),
        "SemanticSegmentation.* is not supported",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_refused_by_name(name):
    make, message = REFUSED[name]
    with pytest.raises(PreprocessError, match=message):
        translate(make())


@pytest.mark.parametrize("thing", [None, 7, object(), len, lambda image: image])
def test_what_is_no_transform_is_refused(thing):
    with pytest.raises(PreprocessError, match=r"got a transform of type .*; expected"):
        translate(thing)


def test_a_part_that_lies_about_itself_is_caught():
    transform = v1.Compose([v1.Resize(50), v1.CenterCrop(48), v1.ToTensor()])
    transform.transforms[1].forward = lambda image: image.crop((0, 0, 48, 48))
    with pytest.raises(PreprocessError, match="does not do what its operations say"):
        translate(transform)


def test_preprocessing_is_accepted_in_every_form_of_ours(tmp_path):
    preprocess = translate(SUPPORTED["the textbook"]())
    path = tmp_path / "preprocess.json"
    path.write_text(preprocess.to_json())
    for form in (preprocess, preprocess.to_dict(), preprocess.to_json(), path):
        assert translate(form) == preprocess
