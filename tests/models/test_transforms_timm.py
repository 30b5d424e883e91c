"""Recipes of timm's data configs, compared bit for bit with timm's evaluation transforms."""

import warnings
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from toplabel.errors import PreprocessError  # noqa: E402
from toplabel.models.transforms import translate  # noqa: E402
from toplabel.models.transforms.timm import from_config  # noqa: E402
from toplabel.models.transforms.verify import drawn_photos  # noqa: E402
from toplabel.models.zoo_import import import_timm  # noqa: E402
from toplabel.preprocess.preprocess import Preprocess  # noqa: E402

timm = import_timm()
from timm.data import create_transform, resolve_data_config  # noqa: E402

SHAPES = [(60, 81), (83, 50), (41, 41), (1, 1), (11, 52), (150, 200)]


@pytest.fixture(autouse=True)
def one_thread():
    """Pictures this small are normalised faster by one thread than shared among several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _settings() -> dict[tuple, list[str]]:
    """timm's distinct evaluation settings, each with the models that use it."""
    groups = defaultdict(list)
    for name in timm.list_pretrained():
        config = timm.get_pretrained_cfg(name).to_dict()
        data = resolve_data_config(pretrained_cfg=config, use_test_size=False)
        groups[tuple(sorted((key, _frozen(value)) for key, value in data.items()))].append(name)
    return groups


def _frozen(value):
    return tuple(value) if isinstance(value, list) else value


RECIPES = _settings()


def _assert_equal(preprocess: Preprocess, transform, pixels: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.asarray(transform(Image.fromarray(pixels)))
    ours = preprocess(pixels)
    assert ours.dtype == expected.dtype == np.float32
    assert np.array_equal(ours, expected), pixels.shape


def _first_models() -> list[str]:
    return [names[0] for names in RECIPES.values()]


def test_the_zoo_is_as_large_as_ever():
    assert len(RECIPES) >= 173
    assert sum(map(len, RECIPES.values())) > 1500


@pytest.mark.parametrize("name", _first_models())
def test_every_preprocessing_equals_its_transform(name):
    config = timm.get_pretrained_cfg(name).to_dict()
    data = resolve_data_config(pretrained_cfg=config, use_test_size=False)
    preprocess = from_config(config)
    assert from_config(data) == preprocess
    shapes = SHAPES if max(data["input_size"]) <= 256 else SHAPES[::3]
    for pixels in drawn_photos(shapes):
        _assert_equal(preprocess, create_transform(**data), pixels)


@pytest.mark.slow
@pytest.mark.parametrize("name", _first_models())
def test_every_preprocessing_equals_its_transform_on_many_shapes(name):
    config = timm.get_pretrained_cfg(name).to_dict()
    transform = create_transform(**resolve_data_config(pretrained_cfg=config))
    preprocess = from_config(config)
    shapes = [(375, 500), (500, 375), (1, 1), (7, 200), (201, 9), (333, 333), (37, 51), (1000, 640)]
    for pixels in drawn_photos(shapes, seed=5):
        _assert_equal(preprocess, transform, pixels)


@pytest.mark.slow
@pytest.mark.shared_data
def test_real_photos_equal_too(shared_data):
    paths = sorted((shared_data / "imagenet").glob("*.JPEG"))[::67]
    photos = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    for name in _first_models():
        config = timm.get_pretrained_cfg(name).to_dict()
        transform = create_transform(**resolve_data_config(pretrained_cfg=config))
        preprocess = from_config(config)
        for pixels in photos:
            _assert_equal(preprocess, transform, pixels)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("input_size", [(3, 40, 40), (3, 40, 56), (3, 57, 33)])
@pytest.mark.parametrize("crop_pct", [0.8, 0.875, 1.0, 1.15])
def test_modes_beyond_the_zoo_equal_too(crop_mode, input_size, crop_pct):
    data = {
        "input_size": input_size,
        "interpolation": "bilinear",
        "mean": (0.48, 0.5, 0.9),
        "std": (0.2, 0.3, 0.25),
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
    }
    for pixels in drawn_photos([(60, 81), (83, 50), (41, 41), (1, 1), (11, 52)], seed=3):
        _assert_equal(from_config(data), create_transform(**data), pixels)


def test_transforms_of_timm_are_read_as_well():
    for crop_mode in ("center", "squash", "border"):
        data = {"input_size": (3, 40, 56), "crop_mode": crop_mode, "crop_pct": 0.9}
        transform = create_transform(**data)
        assert translate(transform).resize_size == (44, 62)
        preprocess = translate(transform)
        for pixels in drawn_photos(SHAPES, seed=9):
            _assert_equal(preprocess, transform, pixels)


def test_the_embedded_models_preprocessing():
    preprocess = from_config(timm.get_pretrained_cfg("tf_efficientnet_lite0.in1k").to_dict())
    assert preprocess == Preprocess(
        input_size=(224, 224),
        resize_size=(256, 256),
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


def test_translates_a_pretrained_cfg_and_a_mapping():
    config = timm.get_pretrained_cfg("resnet50.a1_in1k")
    preprocess = from_config(config.to_dict())
    assert translate(config) == preprocess
    assert translate(config.to_dict()) == preprocess
    assert translate({"architecture": "resnet50", "pretrained_cfg": config.to_dict()}) == preprocess


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"crop_mode": "fit"}, "crop_mode 'fit'; expected"),
        ({"interpolation": "random"}, "got interpolation 'random'"),
        ({"input_size": 224}, "timm input_size 224; expected"),
        ({"crop_border_pixels": 4}, "'crop_border_pixels' is not supported"),
        ({"mean": (0.5, 0.5)}, "got mean"),
        ({"crop_pct": "0.9"}, "cannot make sense of timm's"),
    ],
)
def test_what_cannot_be_said_is_refused(config, message):
    with pytest.raises(PreprocessError, match=message):
        from_config(config)
