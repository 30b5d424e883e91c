"""Presets: each name against the torchvision transform that it means, bit for bit."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image, ImageOps

from pictures import noisy, scene
from toplabel.errors import PreprocessError
from toplabel.models.transforms.verify import drawn_photos
from toplabel.preprocess.preprocess import Preprocess
from toplabel.preprocess.presets import PRESETS, preset, preset_name

SHAPES = [(120, 161), (163, 110), (64, 64), (7, 40), (60, 11), (375, 500), (1, 1)]
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])


def photos() -> list[np.ndarray]:
    return [*drawn_photos(SHAPES, seed=3), np.asarray(scene()), np.asarray(noisy(70, 45))]


def transforms() -> dict[str, object]:
    """What each documented name means, written with torchvision."""
    pytest.importorskip("torch")
    from toplabel.models.zoo_import import import_torchvision

    import_torchvision()
    from torchvision.transforms import InterpolationMode as Mode, transforms as v1, v2

    def steps(*first: object, mean: list[float], std: list[float]) -> object:
        return v1.Compose([*first, v1.ToTensor(), v1.Normalize(mean, std)])

    def crop(resize: int, size: object, mode: Mode = Mode.BILINEAR) -> list[object]:
        return [v1.Resize(resize, interpolation=mode), v1.CenterCrop(size)]

    def squash(*size: int, mode: Mode = Mode.BILINEAR) -> list[object]:
        return [v1.Resize((size[0], size[-1]), interpolation=mode)]

    def values(*first: object, after: object = v1.Lambda(lambda x: x)) -> object:
        return v1.Compose([*first, v1.PILToTensor(), v1.Lambda(lambda x: x.float()), after])

    def caffe(*first: object, mean: list[float]) -> object:
        blue_first = v1.Lambda(lambda x: x[[2, 1, 0]])
        return values(*first, after=v1.Compose([blue_first, v1.Normalize(mean, [1, 1, 1])]))

    half = {"mean": [0.5] * 3, "std": [0.5] * 3}
    imagenet = {"mean": IMAGENET[0], "std": IMAGENET[1]}
    cifar = [0.4914, 0.4822, 0.4465]
    vgg, ilsvrc = [103.939, 116.779, 123.68], [104.0, 117.0, 123.0]
    turn = v1.Lambda(lambda x: x[[2, 1, 0]])
    return {
        "imagenet-crop-256-224": steps(*crop(256, 224), **imagenet),
        "imagenet-crop-232-224": steps(*crop(232, 224), **imagenet),
        "imagenet-crop-248-224-bicubic": steps(*crop(248, 224, Mode.BICUBIC), **imagenet),
        "imagenet-squash-224": steps(*squash(224), **imagenet),
        "imagenet-squash-256-224": steps(*squash(256), v1.CenterCrop(224), **imagenet),
        "imagenet-squash-256x128": steps(*squash(256, 128), **imagenet),
        "imagenet-pad-224": v2.Compose(
            [v2.Resize(None, max_size=224), steps(v1.CenterCrop(224), **imagenet)]
        ),
        "imagenet-none-32": steps(v1.CenterCrop(32), **imagenet),
        "imagenet-crop-256-224-bgr": v1.Compose([steps(*crop(256, 224), **imagenet), turn]),
        "imagenet-crop-256-224-grey3": steps(v1.Grayscale(3), *crop(256, 224), **imagenet),
        "half-crop-256-224": steps(*crop(256, 224), **half),
        "half-crop-342-299": steps(*crop(342, 299), **half),
        "half-none-32": steps(v1.CenterCrop(32), **half),
        "half-squash-32": steps(*squash(32), **half),
        "half-squash-224": steps(*squash(224), **half),
        "half-squash-224-nearest": steps(*squash(224, mode=Mode.NEAREST), **half),
        "half-squash-28-grey": steps(v1.Grayscale(), *squash(28), mean=[0.5], std=[0.5]),
        "half-squash-28-grey-invert": steps(
            v1.Grayscale(), v1.Lambda(ImageOps.invert), *squash(28), mean=[0.5], std=[0.5]
        ),
        "half-squash-48-grey": steps(v1.Grayscale(), *squash(48), mean=[0.5], std=[0.5]),
        "clip-crop-224-224": steps(*crop(224, 224, Mode.BICUBIC), mean=CLIP[0], std=CLIP[1]),
        "raw-1-224": v1.Compose([*squash(224), v1.ToTensor()]),
        "raw-1-squash-224-nearest": v1.Compose(
            [*squash(224, mode=Mode.NEAREST), v1.ToTensor()]
        ),
        "raw-1-squash-28-grey": v1.Compose([v1.Grayscale(), *squash(28), v1.ToTensor()]),
        "raw-1-squash-48-grey": v1.Compose([v1.Grayscale(), *squash(48), v1.ToTensor()]),
        "raw-1-crop-256-224": v1.Compose([*crop(256, 224), v1.ToTensor()]),
        "raw-255-224": values(*squash(224)),
        "raw-255-squash-224-nearest": values(*squash(224, mode=Mode.NEAREST)),
        "raw-255-crop-256-224": values(*crop(256, 224)),
        "caffe-103-squash-224-nearest": caffe(*squash(224, mode=Mode.NEAREST), mean=vgg),
        "caffe-103-crop-256-224": caffe(*crop(256, 224), mean=vgg),
        "caffe-104-squash-256-224": caffe(*squash(256), v1.CenterCrop(224), mean=ilsvrc),
        "cifar10-202-none-32": steps(v1.CenterCrop(32), mean=cifar, std=[0.2023, 0.1994, 0.2010]),
        "cifar10-247-none-32": steps(v1.CenterCrop(32), mean=cifar, std=[0.2470, 0.2435, 0.2616]),
        "mnist-28": steps(v1.Grayscale(), *squash(28), mean=[0.1307], std=[0.3081]),
        "mnist-28-invert": steps(
            v1.Grayscale(), v1.Lambda(ImageOps.invert), *squash(28), mean=[0.1307], std=[0.3081]
        ),
        "fer-48": steps(
            v1.Grayscale(), *squash(48), mean=[0.507395516207], std=[0.255128989415]
        ),
        "imagenet-crop-40-33-bicubic-invert": v1.Compose(
            [v1.RandomInvert(p=1), steps(*crop(40, 33, Mode.BICUBIC), **imagenet)]
        ),
        "half-pad-40-invert": v2.Compose(
            [v1.Lambda(ImageOps.invert), v2.Resize(None, max_size=40),
             steps(v1.CenterCrop(40), **half)]
        ),
        "mnist-none-28": steps(v1.Grayscale(), v1.CenterCrop(28), mean=[0.1307], std=[0.3081]),
        # and some that are not listed: sizes are free
        "imagenet-crop-40-33": steps(*crop(40, 33), **imagenet),
        "imagenet-crop-64-64x32": steps(*crop(64, (64, 32)), **imagenet),
        "imagenet-crop-32-64x32": steps(*crop(32, (64, 32)), **imagenet),
        "half-squash-40x56-30x20-lanczos": steps(
            *squash(40, 56, mode=Mode.LANCZOS), v1.CenterCrop((30, 20)), **half
        ),
        "raw-255-crop-40-32-bgr": v1.Compose([values(*crop(40, 32)), turn]),
        "raw-1-none-28-grey": v1.Compose([v1.Grayscale(), v1.CenterCrop(28), v1.ToTensor()]),
    }  # fmt: skip


@pytest.mark.torch
def test_every_preset_equals_its_torchvision_transform_to_the_bit() -> None:
    meant = transforms()
    assert set(PRESETS) - set(meant) == {"raw-1-squash-64-4ch"}  # Pillow has no such images
    for name, transform in meant.items():
        preprocessing = preset(name)
        for pixels in photos():
            expected = np.asarray(transform(Image.fromarray(pixels)))
            found = preprocessing(pixels)
            assert found.dtype == expected.dtype == np.float32, name
            assert np.array_equal(found, expected), (name, pixels.shape)


@pytest.mark.torch
def test_torchvisions_own_weights_have_their_presets() -> None:
    pytest.importorskip("torch")
    from toplabel.models.transforms import translate
    from toplabel.models.zoo_import import import_torchvision

    models = import_torchvision().models
    for name, weights in (
        ("imagenet-crop-256-224", models.ResNet50_Weights.IMAGENET1K_V1),
        ("imagenet-crop-232-224", models.ResNet50_Weights.IMAGENET1K_V2),
        ("imagenet-crop-342-299", models.Inception_V3_Weights.IMAGENET1K_V1),
    ):
        assert preset(name) == translate(weights.transforms())


def test_arrays_of_four_channels_have_a_preset() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    found = preset("raw-1-squash-64-4ch")(pixels)
    assert np.array_equal(found, np.moveaxis(pixels, 2, 0).astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_said_of_a_preset_names_its_sizes_and_numbers(name: str) -> None:
    preprocessing, text = preset(name), PRESETS[name]
    assert "\n" not in text
    assert "x".join(map(str, preprocessing.input_size)) in text
    assert (preprocessing.interpolation in text) == (preprocessing.resize_mode != "none")
    for number in (*preprocessing.mean, *preprocessing.std):
        assert number in (0, 1) or f"{number:g}"[:5] in text, number
    assert f"values 0 to {preprocessing.range[1]:g}" in text
    assert ("BGR" in text) == (preprocessing.channels == "bgr") or "OpenCV" in text


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str) -> None:
    assert Preprocess.from_json(preset(name).to_json()) == preset(name)


def test_case_and_spaces_around_a_name_do_not_matter() -> None:
    assert preset(" ImageNet-Crop-256-224\n") == preset("imagenet-crop-256-224")


def test_channels_turned_round_keep_each_colours_own_mean() -> None:
    preprocessing = preset("imagenet-squash-8-bgr")
    assert preprocessing.mean == (0.406, 0.456, 0.485)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(preprocessing(pixels), preset("imagenet-squash-8")(pixels)[::-1])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagnet-crop-300-288", "did you mean 'imagenet-crop-300-288'?"),
        ("imagenet_crop_256_224", "did you mean 'imagenet-crop-256-224'?"),
        ("imagenet-squash-224-bicubc", "did you mean 'imagenet-squash-224-bicubic'?"),
        ("mnits-none-28", "did you mean 'mnist-none-28'?"),
        ("raw-224", "did you mean 'raw-1-224' or 'raw-255-224'?"),
        ("cifar10-none-32", "did you mean 'cifar10-202-none-32' or 'cifar10-247-none-32'?"),
        ("caffe-crop-256-224", "'caffe-103-crop-256-224' or 'caffe-104-crop-256-224'?"),
        ("torchvision", "families imagenet, half, clip, .* modes crop-RESIZE-CROP"),
        ("mnist-28-invrt", "did you mean 'mnist-28-invert'?"),
        ("mnist-invert-28", "did you mean .mnist-28-invert."),
        ("imagenet-224", "it has no mode; expected crop, squash, pad or none"),
        ("imagenet-crop-224", "crop takes two sizes, as in crop-256-224"),
        ("imagenet-crop-224-256", "the crop of 256 is larger than the resize to 224"),
        ("imagenet-crop-256x256-224", "the shortest side, which is one number"),
        ("imagenet-pad-256-224", "pad takes one size"),
        ("imagenet-none-256-224", "none takes one size"),
        ("imagenet-none-224-bicubic", "mode none, which does not resize"),
        ("imagenet-squash-28-grey", "imagenet has a mean for each of three colours"),
        ("imagenet-squash-28-4ch", "expected half, raw-1 or raw-255 with -4ch"),
        ("caffe-103-squash-8-bgr", r"caffe-103 already sets the channels \(bgr\)"),
        ("imagenet-squash-99999", "got input_size"),
        ("imagenet-squash-0", "unknown preset"),
        ("", "unknown preset"),
    ],
)
def test_a_name_that_says_nothing_clear_is_refused(name: str, message: str) -> None:
    with pytest.raises(PreprocessError, match=message) as caught:
        preset(name)
    assert "preset" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["imagnet-crop-300-288", "imagenet-crop-224"])
def test_a_refusal_points_to_the_list(name: str) -> None:
    with pytest.raises(PreprocessError, match=re.escape("`toplabel models --preprocess`")):
        preset(name)


WORDS = ["imagenet", "half", "raw", "1", "255", "crop", "squash", "224", "0", "8x9", "bgr", "grey",
         "4ch", "nearest", "", "x", "imagnet", "caffe"]  # fmt: skip


@pytest.mark.slow
@given(st.lists(st.sampled_from(WORDS), max_size=9).map("-".join) | st.text())
def test_any_name_is_a_preprocessing_or_refused(name: str) -> None:
    try:
        preprocessing = preset(name)
    except PreprocessError:
        return
    assert Preprocess.from_json(preprocessing.to_json()) == preprocessing


@pytest.mark.parametrize(
    "name",
    ["imagenet-crop-256-224", "half-squash-28-grey", "imagenet-squash-256x128-bgr-bicubic"]
    + ["mnist-none-28-invert", "caffe-103-pad-224", "clip-crop-224-224", "half-squash-40-32-grey3"],
)
def test_a_presets_name_is_found_again(name: str) -> None:
    assert preset_name(preset(name)) == name


def test_what_is_no_preset_has_no_name() -> None:
    assert preset_name(replace(preset("half-squash-28"), pad_value=(1, 2, 3))) is None
