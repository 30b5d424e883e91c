"""The preprocessing: its fields, its JSON, its sizes, its limits."""

import json
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image, ImageOps

from toplabel.errors import ImageError, PreprocessError
from toplabel.models.transforms.verify import drawn_photos
from toplabel.preprocess.preprocess import Preprocess, read_preprocess

CONTRACT = """{"schema": 1, "input_size": [224, 224], "resize_mode": "shortest",
 "resize_size": [256, 256], "interpolation": "bicubic", "antialias": true,
 "channels": "rgb", "range": [0, 1], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
 "pad_value": [0, 0, 0], "convention": "torchvision"}"""


def preprocessing(**changes) -> Preprocess:
    fields = {"input_size": (8, 8), "resize_size": (10, 10), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return Preprocess(**(fields | changes))


def photo(height: int, width: int) -> np.ndarray:
    return next(iter(drawn_photos([(height, width)])))


def test_reads_and_writes_the_json_of_the_contract():
    preprocess = Preprocess.from_json(CONTRACT)
    assert preprocess.to_dict() == json.loads(CONTRACT)
    assert list(preprocess.to_dict()) == list(json.loads(CONTRACT))
    assert Preprocess.from_json(preprocess.to_json()) == preprocess


def test_rare_fields_survive_json():
    preprocess = preprocessing(arithmetic="multiply", std_again=(0.1, 0.2, 0.3))
    assert Preprocess.from_json(preprocess.to_json()) == preprocess


def test_inverting_is_left_out_of_json_where_nothing_is_inverted():
    assert "invert" not in preprocessing().to_dict()
    for invert in ("before_resize", "after_resize"):
        inverting = preprocessing(invert=invert)
        assert inverting.to_dict()["invert"] == invert
        assert Preprocess.from_json(inverting.to_json()) == inverting
    assert preprocessing(invert=True) == preprocessing(invert="before_resize")
    assert not preprocessing().invert


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest", "none"])
@pytest.mark.parametrize("channels", ["rgb", "bgr", "grey"])
def test_an_image_is_inverted_before_all_as_pillow_does(mode, channels):
    size = None if mode == "none" else (20, 20)
    given = {"resize_mode": mode, "resize_size": size, "channels": channels, "input_size": (16, 24)}
    for pixels in drawn_photos():
        image = Image.fromarray(pixels)
        negative = ImageOps.invert(image.convert("L") if channels == "grey" else image)
        expected = preprocessing(**given)(np.atleast_3d(np.asarray(negative)))
        found = preprocessing(**given, invert="before_resize")(pixels)
        assert np.array_equal(found, expected)


def test_what_was_resized_is_inverted_as_numpy_does():
    preprocess = preprocessing(
        input_size=(28, 28), resize_mode="squash", resize_size=(28, 28), interpolation="bicubic",
        channels="grey", mean=(0,), std=(1,), invert="after_resize",
    )  # fmt: skip
    for pixels in drawn_photos():
        resized = Image.fromarray(pixels).convert("L").resize((28, 28), Image.Resampling.BICUBIC)
        assert np.array_equal(preprocess(pixels)[0], np.float32(255 - np.asarray(resized)) / 255)


def test_padding_is_inverted_after_the_resize_and_not_before():
    small = np.full((2, 2, 3), 255, np.uint8)
    for invert, corner in (("before_resize", 0.0), ("after_resize", 1.0)):
        given = {"resize_mode": "none", "resize_size": None, "mean": (0,) * 3, "std": (1,) * 3}
        tensor = preprocessing(**given, invert=invert)(small)
        assert tensor[0, 0, 0] == corner
        assert tensor[0, 4, 4] == 0


def test_is_a_value():
    preprocess = preprocessing()
    assert pickle.loads(pickle.dumps(preprocess)) == preprocess
    assert len({preprocess, preprocessing()}) == 1


def test_lists_and_numpy_numbers_become_tuples_of_floats():
    preprocess = preprocessing(mean=np.float32([0, 0.5, 1]), std=[1, 1, 1], input_size=[8, 9])
    assert preprocess.mean == (0.0, 0.5, 1.0)
    assert all(type(number) is float for number in preprocess.mean + preprocess.std)
    assert preprocess.input_size == (8, 9)


def test_an_unknown_key_says_what_was_meant():
    plain = json.loads(CONTRACT) | {"resize_sise": [256, 256]}
    with pytest.raises(PreprocessError, match="'resize_sise'.*did you mean 'resize_size'"):
        Preprocess.from_dict(plain)


@pytest.mark.parametrize("key", ["input_size", "mean", "std"])
def test_a_missing_key_is_named(key):
    plain = json.loads(CONTRACT)
    del plain[key]
    with pytest.raises(PreprocessError, match=f"the preprocessing has no '{key}'"):
        Preprocess.from_dict(plain)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_size", (0, 8)),
        ("input_size", (8,)),
        ("input_size", 8),
        ("input_size", (8.0, 8.0)),
        ("input_size", (True, 8)),
        ("input_size", (70_000, 8)),
        ("input_size", "88"),
        ("resize_mode", "shorter"),
        ("resize_mode", None),
        ("resize_size", None),
        ("resize_size", (-1, 3)),
        ("interpolation", "cubic"),
        ("antialias", 1),
        ("antialias", False),
        ("channels", "rgba"),
        ("channels", 0),
        ("channels", [3]),
        ("range", (0, 0)),
        ("range", (0, float("inf"))),
        ("mean", (0.5, 0.5)),
        ("mean", 0.5),
        ("mean", ("0.5", 0.5, 0.5)),
        ("mean", (float("nan"), 0.5, 0.5)),
        ("std", (0, 1, 1)),
        ("std", (1,)),
        ("std_again", (1,)),
        ("invert", "yes"),
        ("invert", 1),
        ("invert", None),
        ("pad_value", (0, 256, 0)),
        ("pad_value", (0.5, 0.5, 0.5)),
        ("pad_value", (1, 2)),
        ("pad_value", ()),
        ("convention", "keras"),
        ("arithmetic", "add"),
        ("schema", 2),
    ],
)
def test_a_wrong_field_is_named_with_what_was_got(field, value):
    with pytest.raises(PreprocessError, match=f"got {field} .*; expected "):
        preprocessing(**{field: value})


def test_a_resize_size_without_a_resize_is_refused():
    with pytest.raises(PreprocessError, match="got resize_size .* 'none'"):
        preprocessing(resize_mode="none")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "got list as preprocessing"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"schema": 1}', "no 'input_size'"),
    ],
)
def test_what_is_no_preprocessing_is_refused(text, message):
    with pytest.raises(PreprocessError, match=message):
        Preprocess.from_json(text)


def test_a_file_is_read_and_named_in_errors(tmp_path):
    path = tmp_path / "preprocessing.json"
    path.write_text(CONTRACT)
    assert read_preprocess(path) == Preprocess.from_json(CONTRACT)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PreprocessError, match=r"preprocessing.json'.*not UTF-8"):
        read_preprocess(str(path))
    with pytest.raises(PreprocessError, match=r"missing.json'.*No such file"):
        read_preprocess(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("fields", "size", "expected"),
    [
        ({"resize_size": (256, 256)}, (375, 500), (256, 341)),
        ({"resize_size": (256, 256)}, (500, 375), (341, 256)),
        ({"resize_size": (256, 256), "convention": "timm"}, (375, 503), (256, 343)),
        ({"resize_size": (256, 256), "convention": "torchvision"}, (375, 503), (256, 343)),
        ({"resize_size": (100, 300)}, (100, 100), (300, 300)),
        ({"resize_size": (100, 300)}, (10, 100), (100, 1000)),
        ({"resize_mode": "longest", "resize_size": (90, 90)}, (20, 30), (60, 90)),
        ({"resize_mode": "longest", "resize_size": (90, 90), "convention": "hf"}, (7, 9), (70, 90)),
        ({"resize_mode": "longest", "resize_size": (90, 30)}, (10, 10), (30, 30)),
        ({"resize_mode": "longest", "resize_size": (90, 90)}, (1, 9000), (1, 90)),
        ({"resize_mode": "squash", "resize_size": (5, 7)}, (375, 500), (5, 7)),
        ({"resize_mode": "none", "resize_size": None}, (375, 500), (375, 500)),
    ],
)
def test_resized_sizes(fields, size, expected):
    assert preprocessing(**fields).resized_size(*size) == expected


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash", "none"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 90), (90, 7), (8, 8), (37, 51)])
@pytest.mark.parametrize("convention", ["torchvision", "timm", "hf"])
def test_every_image_becomes_the_input_size(mode, shape, convention):
    preprocess = preprocessing(
        resize_mode=mode,
        resize_size=None if mode == "none" else (10, 12),
        input_size=(9, 11),
        convention=convention,
    )
    pixels = photo(*shape)
    assert preprocess.resize_and_crop(pixels).shape == (9, 11, 3)
    tensor = preprocess(pixels)
    assert tensor.shape == (3, 9, 11)
    assert tensor.dtype == np.float32


def test_fills_a_slot_of_the_batch():
    batch = np.zeros((2, 3, 8, 8), np.float32)
    preprocess = preprocessing()
    filled = preprocess(photo(20, 30), out=batch[1])
    assert np.shares_memory(filled, batch)
    assert np.array_equal(batch[1], preprocess(photo(20, 30)))
    assert not batch[0].any()


def test_a_scaled_decode_is_resized_to_the_size_of_the_original():
    small = np.asarray(Image.fromarray(photo(301, 403)).reduce(4))  # 76x101, of 75.25 x 100.75
    preprocess = preprocessing(input_size=(60, 60), resize_size=(64, 64))
    height, width = preprocess.resized_size(301, 403)
    whole = Image.fromarray(small).resize(
        (width, height), Image.Resampling.BILINEAR, box=(0, 0, 403 / 4, 301 / 4)
    )
    left = round((width - 60) / 2)
    ours = preprocess.resize_and_crop(small, original_size=(301, 403), scale=4)
    assert ours.shape == (60, 60, 3)
    difference = np.abs(np.int16(ours) - np.asarray(whole.crop((left, 2, left + 60, 62))))
    assert difference.max() <= 2


@pytest.mark.parametrize("channels", ["rgb", "grey"])
def test_a_scaled_decode_ends_where_the_image_ends(channels):
    """The last row and column stand for a part of a pixel: a ramp keeps its slope."""
    ramp = np.linspace(0, 255, 1601 + 7)[None, :, None].repeat(808, 0).repeat(3, 2)
    decoded = ramp.reshape(101, 8, 201, 8, 3).mean((1, 3)).round().astype(np.uint8)
    exact = ramp[:801, :1601].round().astype(np.uint8)
    values = {"mean": (0.5,), "std": (0.5,)} if channels == "grey" else {}
    preprocess = preprocessing(
        input_size=(40, 80), resize_size=(40, 40), channels=channels, **values
    )
    ours = preprocess.resize_and_crop(decoded, original_size=(801, 1601), scale=8)
    theirs = preprocess.resize_and_crop(exact)
    assert np.abs(np.int16(ours) - theirs).max() <= 1


def test_a_resized_image_beyond_the_limit_is_too_large():
    preprocess = preprocessing(input_size=(224, 224), resize_size=(256, 256))
    with pytest.raises(ImageError, match="204800 x 256, more than 50,000,000") as caught:
        preprocess(np.zeros((1, 800, 3), np.uint8), max_pixels=50_000_000)
    assert caught.value.code == "too_large"
    preprocess(np.zeros((1, 80, 3), np.uint8), max_pixels=20_480 * 256)
    with pytest.raises(ImageError, match="20480 x 256, more than") as caught:
        preprocess(np.zeros((1, 80, 3), np.uint8), max_pixels=20_480 * 256 - 1)


def _cost(shapes: list[tuple[int, int]]) -> tuple[list[str], float, float]:
    """The outcome of black images of these shapes, kilobytes of memory and seconds of work."""
    script = f"""
import resource, time, numpy
from toplabel.errors import ImageError
from toplabel.preprocess.preprocess import Preprocess
preprocess = Preprocess(input_size=(224, 224), resize_size=(256, 256), interpolation="bicubic",
                        mean=(0.5,) * 3, std=(0.5,) * 3)
preprocess(numpy.zeros((300, 400, 3), numpy.uint8))
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
for shape in {shapes}:
    try:
        print(preprocess(numpy.full((*shape, 3), 7, numpy.uint8)).shape[0])
    except ImageError as error:
        print(error.code)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.process_time() - start)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    *outcomes, costs = done.stdout.splitlines()
    kilobytes, seconds = map(float, costs.split())
    return outcomes, kilobytes, seconds


def test_images_too_thin_to_be_resized_cost_no_memory_and_no_time():
    shapes = [(1, 8000), (2000, 1), (20_000, 1), (1, 65_500), (1, 1)]
    outcomes, kilobytes, seconds = _cost(shapes)
    assert outcomes == [*["too_large"] * 4, "3"]
    assert kilobytes < 20_000
    assert seconds < 10  # all five; about 0.001 on an idle machine


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1800), (1800, 1), (36, 65_535), (65_535, 36)])
def test_the_thinnest_images_that_are_resized_cost_seconds_and_half_a_gigabyte(shape):
    outcomes, kilobytes, seconds = _cost([shape])
    assert outcomes == ["3"]
    assert kilobytes < 620_000
    assert seconds < 60  # about 1 on an idle machine


def test_bgr_turns_the_channels_around_and_pads_in_their_order():
    fields = {"resize_mode": "none", "resize_size": None, "input_size": (6, 4)}
    pixels = photo(4, 4)
    rgb = preprocessing(**fields, pad_value=(1, 2, 3)).resize_and_crop(pixels)
    bgr = preprocessing(**fields, pad_value=(1, 2, 3), channels="bgr").resize_and_crop(pixels)
    assert np.array_equal(bgr[1:5], rgb[1:5, :, ::-1])
    assert bgr[0, 0].tolist() == rgb[0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("copies", [1, 3])
def test_grey_is_pillows_brightness_before_the_resize(copies):
    preprocess = preprocessing(channels="grey", mean=(0.5,) * copies, std=(0.5,) * copies)
    pixels = photo(20, 20)
    grey = Image.fromarray(pixels).convert("L").resize((10, 10), Image.Resampling.BILINEAR)
    expected = (np.asarray(grey, np.float32)[1:9, 1:9] / np.float32(255) - 0.5) / 0.5
    tensor = preprocess(pixels)
    assert tensor.shape == (copies, 8, 8)
    assert all(np.array_equal(plane, expected) for plane in tensor)
    assert np.array_equal(preprocess(np.asarray(Image.fromarray(pixels).convert("L"))), tensor)


def test_arrays_of_other_channels_are_checked():
    preprocess = preprocessing(channels=5, mean=(0,) * 5, std=(1,) * 5)
    assert preprocess(np.zeros((20, 30, 5), np.uint8)).shape == (5, 8, 8)
    with pytest.raises(ImageError, match="got an image with 3 channels.*expects 5") as caught:
        preprocess(photo(20, 30))
    assert caught.value.code == "wrong_size"


@pytest.mark.parametrize(
    ("limits", "expected"),
    [((0, 1), [0, 1]), ((0, 255), [0, 255]), ((-1, 1), [-1, 1]), ((0, 2), [0, 2])],
)
@pytest.mark.parametrize("convention", ["torchvision", "hf"])
def test_the_range_is_what_black_and_white_become(limits, expected, convention):
    preprocess = preprocessing(
        range=limits,
        mean=(0,) * 3,
        std=(1,) * 3,
        resize_mode="none",
        resize_size=None,
        input_size=(1, 2),
        convention=convention,
    )
    pixels = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    assert preprocess(pixels)[0, 0].tolist() == expected


def test_normalise_is_fast():
    preprocess = preprocessing(input_size=(224, 224))
    crops, out = photo(224, 224), np.empty((3, 224, 224), np.float32)
    seconds = []
    for _ in range(50):
        start = time.process_time()
        preprocess.normalise(crops, out=out)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.002  # about 0.0002


def test_preprocessing_needs_no_torch():
    script = "import sys, toplabel.preprocess.presets; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_a_tensor_that_no_memory_holds_is_refused() -> None:
    with pytest.raises(PreprocessError, match="at most 64,000,000 values"):
        preprocessing(input_size=(30_000, 30_000), resize_size=(30_000, 30_000))


@pytest.mark.parametrize(
    ("limits", "mean", "std"),
    [
        ((0, 1), 123.675, 58.395),
        ((0, 1), 127.5, 127.5),
        ((0, 1), 0.5, 127.5),
        ((-1, 1), 127.5, 127.5),
        ((0, 255), 0.485, 0.229),
        ((0, 255), 0.5, 0.5),
        ((0, 1), 0.0, 255.0),
    ],
)
def test_mean_and_std_of_another_range_are_refused(limits, mean, std):
    with pytest.raises(PreprocessError, match=r"do not fit: black and white would become"):
        Preprocess(
            input_size=(8, 8), resize_size=(8, 8), range=limits, mean=[mean] * 3, std=[std] * 3
        )


@pytest.mark.parametrize(
    ("limits", "mean", "std"),
    [
        ((0, 255), 123.675, 58.395),
        ((0, 255), 103.939, 1.0),
        ((0, 255), 0.0, 255.0),
        ((0, 255), 0.0, 1.0),
        ((0, 65535), 0.0, 1.0),
        ((0, 1), 0.4, 1 / 255),
        ((0, 1), 0.02, 0.05),
        ((-1, 1), 0.0, 1.0),
        ((-1, 1), 0.485, 0.229),
        ((1, 0), 0.5, 0.5),
        ((0, 1), 1.0, -1.0),
    ],
)
def test_mean_and_std_that_networks_are_trained_with_are_accepted(limits, mean, std):
    Preprocess(input_size=(8, 8), resize_size=(8, 8), range=limits, mean=[mean] * 3, std=[std] * 3)
