"""Corrupted photos: their definitions, to the byte each time, and what a model makes of them."""

import csv
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

import toplabel
from run_material import draw_colours, local_predictor, save_model
from toplabel.analysis.evaluate.corruptions import CORRUPTIONS, STRENGTHS, corrupt, corrupt_all
from toplabel.analysis.evaluate.report import write_evaluation_report
from toplabel.analysis.evaluate.robustness import (
    LostImage,
    load_photo,
    measure_robustness,
    working_size,
)
from toplabel.cli.robustness import comparison_lines, table_lines
from toplabel.errors import ModelError
from toplabel.image.options import ReadOptions
from toplabel.preprocess.preprocess import Preprocess

pytest.importorskip("sklearn")
NAMES = [one.name for one in CORRUPTIONS]
TURNS = ("rotated", "upside_down", "cropped")


def draw(height=256, width=340, seed=0):
    """Smooth shapes and fine grain: uint8 (height, width, 3)."""
    chance = np.random.default_rng(seed)
    coarse = Image.fromarray(chance.integers(0, 256, (6, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    grain = chance.integers(-20, 21, (height, width, 1))
    return (smooth + grain).clip(0, 255).astype(np.uint8)


PHOTO = draw()


@pytest.mark.parametrize(("strength", "deviation"), [(1, 0.08), (2, 0.12), (3, 0.18)])
def test_noise_is_that_of_imagenet_c(strength, deviation):
    grey = np.full((256, 256, 3), 128, np.uint8)
    values = corrupt(grey, "noise", strength).astype(float) / 255
    assert values.std() == pytest.approx(deviation, rel=0.02)
    assert values.mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("strength", "sigma"), [(1, 1), (2, 2), (3, 3)])
def test_blur_is_that_of_imagenet_c_to_the_rounding_of_pillow(strength, sigma):
    from scipy.ndimage import gaussian_filter

    expected = gaussian_filter(PHOTO.astype(float), (sigma, sigma, 0), mode="nearest")
    apart = np.abs(corrupt(PHOTO, "blur", strength) - expected)
    assert apart.mean() < 1
    assert apart.max() < 10


@pytest.mark.parametrize(("strength", "share"), [(1, 0.6), (2, 0.5), (3, 0.4)])
def test_pixels_are_those_of_imagenet_c(strength, share):
    few = (int(340 * share), int(256 * share))
    image = Image.fromarray(PHOTO).resize(few, Image.Resampling.BOX)
    expected = np.asarray(image.resize((340, 256), Image.Resampling.BOX))
    assert np.array_equal(corrupt(PHOTO, "pixelated", strength), expected)


@pytest.mark.parametrize(("strength", "quality"), [(1, 25), (2, 18), (3, 15)])
def test_jpeg_is_that_of_imagenet_c(strength, quality):
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "JPEG", quality=quality)
    assert np.array_equal(corrupt(PHOTO, "jpeg", strength), np.asarray(Image.open(file)))


@pytest.mark.parametrize(("strength", "share"), [(1, 0.4), (2, 0.3), (3, 0.2)])
def test_low_contrast_is_that_of_imagenet_c(strength, share):
    values = PHOTO / 255.0
    means = values.mean(axis=(0, 1), keepdims=True)
    expected = np.uint8(np.clip((values - means) * share + means, 0, 1) * 255)
    apart = np.abs(corrupt(PHOTO, "low_contrast", strength).astype(int) - expected)
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.01


def test_darkness_is_a_part_of_the_light():
    for strength, times in zip(STRENGTHS, (2, 4, 16), strict=True):
        white = corrupt(np.full((4, 4, 3), 255, np.uint8), "dark", strength)[0, 0, 0] / 255
        light = ((white + 0.055) / 1.055) ** 2.4
        assert light == pytest.approx(1 / times, rel=0.03)


def test_rotation_keeps_the_centre_and_leaves_no_corner_empty():
    white = np.full((120, 90, 3), 255, np.uint8)
    for strength in STRENGTHS:
        assert corrupt(white, "rotated", strength).min() == 255
    marked = np.zeros((101, 141, 3), np.uint8)
    marked[48:53, 68:73] = 255
    for strength in STRENGTHS:
        turned = corrupt(marked, "rotated", strength)
        assert turned.shape == marked.shape
        assert turned[50, 70, 0] == 255


def test_rotation_is_by_the_degrees_that_it_says():
    line = np.zeros((256, 256, 3), np.uint8)
    line[126:130, 20:236] = 255
    for strength, degrees in zip(STRENGTHS, (5, 15, 30), strict=True):
        rows, columns = np.nonzero(corrupt(line, "rotated", strength)[40:216, 40:216, 0] > 128)
        slope = np.polyfit(columns, rows, 1)[0]
        assert abs(np.degrees(np.arctan(slope))) == pytest.approx(degrees, abs=0.5)


def test_turns_are_exact_and_end_upside_down():
    assert np.array_equal(corrupt(PHOTO, "upside_down", 3), PHOTO[::-1, ::-1])
    sideways = {corrupt(PHOTO, "upside_down", strength).tobytes() for strength in (1, 2)}
    assert sideways == {np.rot90(PHOTO, turns).tobytes() for turns in (1, 3)}


def test_a_crop_is_part_of_the_photo_and_of_the_weaker_crop():
    found = [PHOTO, *(corrupt(PHOTO, "cropped", strength) for strength in STRENGTHS)]
    for whole, part, area in zip(found, found[1:], (0.75, 0.5, 0.25), strict=False):
        assert part.size / PHOTO.size == pytest.approx(area, abs=0.01)
        height, width = part.shape[:2]
        windows = np.lib.stride_tricks.sliding_window_view(whole[..., 0], (height, width))
        corner = np.argwhere(windows[:, :, 0, 0] == part[0, 0, 0])
        assert any(np.array_equal(windows[row, column], part[..., 0]) for row, column in corner)


def test_each_strength_is_worse_than_the_one_before():
    for name in NAMES[:6]:
        apart = [
            np.abs(corrupt(PHOTO, name, strength).astype(int) - PHOTO).mean()
            for strength in STRENGTHS
        ]
        assert apart == sorted(apart), name
        assert apart[0] > 0.5, name


def test_they_follow_from_the_pixels_alone_whatever_the_order_or_thread():
    photos = [draw(60, 80, seed) for seed in range(4)]
    alone = [[one.tobytes() for one in corrupt_all(photo)] for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        shared = list(
            pool.map(lambda photo: [one.tobytes() for one in corrupt_all(photo)], photos * 3)
        )
    assert shared == alone * 3
    for place, photo in enumerate(photos):
        single = [
            corrupt(photo, name, strength).tobytes() for name in NAMES for strength in STRENGTHS
        ]
        assert single == alone[place]


def test_other_pixels_get_other_noise():
    other = PHOTO.copy()
    other[0, 0, 0] ^= 1
    a = corrupt(PHOTO, "noise", 1).astype(int) - PHOTO
    b = corrupt(other, "noise", 1).astype(int) - other
    assert (a != b).mean() > 0.8


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (300, 2), (3, 3), (40, 1000)])
def test_photos_of_any_shape_stay_photos(size):
    for one in corrupt_all(draw(*size)):
        assert one.dtype == np.uint8
        assert one.ndim == 3
        assert one.shape[2] == 3
        assert min(one.shape) >= 1
        assert one.flags.c_contiguous


def test_lengths_grow_with_the_photo():
    large = np.asarray(Image.fromarray(PHOTO).resize((680, 512), Image.Resampling.BICUBIC))
    for name in ("blur", "pixelated"):
        small = Image.fromarray(corrupt(large, name, 3)).resize((340, 256), Image.Resampling.BOX)
        apart = np.abs(np.asarray(small).astype(int) - corrupt(PHOTO, name, 3))
        assert apart.mean() < 3, name


def recipe(**fields):
    return Preprocess(mean=(0, 0, 0), std=(1, 1, 1), **fields)


@pytest.mark.parametrize(
    ("preprocess", "size", "expected"),
    [
        (recipe(input_size=(224, 224), resize_size=(256, 256)), (3000, 4000), (256, 341)),
        (recipe(input_size=(224, 224), resize_size=(224, 224)), (3000, 4000), (256, 341)),
        (recipe(input_size=(384, 384), resize_size=(512, 512)), (3000, 4000), (512, 683)),
        (recipe(input_size=(224, 224), resize_size=(256, 256)), (100, 150), (100, 150)),
        (
            recipe(input_size=(300, 600), resize_size=(300, 600), resize_mode="squash"),
            (3000, 4000),
            (450, 600),
        ),
        (recipe(input_size=(224, 224), resize_mode="none"), (900, 700), (900, 700)),
    ],
)
def test_a_photo_is_corrupted_at_the_size_that_the_model_sees_or_256(preprocess, size, expected):
    found = working_size(*size, preprocess)
    assert found == pytest.approx(expected, abs=1)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Class folders of images of one colour, and what opens a model that tells them apart."""
    folder = tmp_path_factory.mktemp("colours")
    model = save_model(folder)
    draw_colours(folder / "flat", 12)
    predictor = toplabel.load(**model)
    for path in sorted((folder / "flat").iterdir()):
        into = folder / "data" / str(predictor(path).label)
        into.mkdir(parents=True, exist_ok=True)
        path.rename(into / path.name)
    return folder, model


def test_a_model_of_colours_minds_no_turn(colours):
    folder, model = colours
    found = toplabel.evaluate(toplabel.load(**model), folder / "data", corruptions=True)
    robustness = found.robustness
    assert [(one.corruption, one.strength) for one in robustness.corrupted] == [
        (name, strength) for name in NAMES for strength in STRENGTHS
    ]
    assert robustness.clean.accuracy.value == robustness.clean.labels_kept == 1
    for name in TURNS:
        for one in robustness.of(name):
            assert (one.accuracy.value, one.balanced_accuracy, one.labels_kept) == (1, 1, 1)
            assert one.accuracy.low < 1
            assert one.unknown is None
    dark = [one.mean_score for one in robustness.of("dark")]
    assert dark[0] > dark[1] > dark[2]
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))["robustness"]
    assert len(plain["results"]) == 28
    assert plain["mean_accuracy"] == robustness.accuracy


def test_it_is_the_same_twice_and_on_any_number_of_threads(colours):
    folder, model = colours
    texts = {
        json.dumps(
            toplabel.evaluate(
                toplabel.load(**model, threads=threads), folder / "data", corruptions=True
            ).to_dict()
        )
        for threads in (1, 1, 3)
    }
    assert len(texts) == 1


def test_how_arrays_are_to_be_read_changes_nothing(colours):
    folder, model = colours
    found = [
        toplabel.evaluate(
            toplabel.load(**model, read=ReadOptions(bgr=bgr)), folder / "data", corruptions=True
        )
        for bgr in (False, True)
    ]
    assert found[0].robustness.to_dict() == found[1].robustness.to_dict()


def test_an_image_that_is_gone_meanwhile_counts_as_wrong(colours, tmp_path):
    folder, model = colours
    for one in (folder / "data").iterdir():
        (tmp_path / one.name).mkdir()
        for path in one.iterdir():
            (tmp_path / one.name / path.name).write_bytes(path.read_bytes())
    predictor = toplabel.load(**model)
    outputs = toplabel.evaluate(predictor, tmp_path).outputs
    next(tmp_path.rglob("*.png")).unlink()
    done: list[tuple[int, int]] = []
    found = measure_robustness(
        predictor, outputs, predictor.labels, progress=lambda *one: done.append(one)
    )
    assert done[-1] == (12 * 27, 27)
    assert {one.failed for one in found.corrupted} == {1}
    assert found.of("upside_down")[0].accuracy.value == 11 / 12


def test_a_model_of_arrays_that_are_no_photos_is_refused(colours, monkeypatch):
    folder, model = colours
    predictor = toplabel.load(**model)
    outputs = toplabel.evaluate(predictor, folder / "data").outputs
    classifier = local_predictor().classifier
    object.__setattr__(
        classifier,
        "preprocess",
        Preprocess(input_size=(8, 8), resize_mode="none", channels=5, mean=(0,) * 5, std=(1,) * 5),
    )
    with pytest.raises(ModelError, match="takes arrays of 5 channels; corruptions are defined"):
        measure_robustness(toplabel.Predictor(classifier), outputs, classifier.labels)


def test_dark_copies_are_no_reason_to_warn_of_the_model(colours, recwarn):
    folder, model = colours
    predictor = toplabel.load(**model)
    toplabel.evaluate(predictor, folder / "data", corruptions=True)
    assert predictor.noticed == ()


@pytest.mark.shared_data
def test_a_label_is_what_the_predictor_says_of_the_corrupted_photo(shared_data, tmp_path):
    predictor = toplabel.load()
    sources = sorted((shared_data / "imagenet").iterdir())[:3]
    for source in sources:
        (tmp_path / source.name).write_bytes(source.read_bytes())
    found = toplabel.evaluate(predictor, tmp_path, corruptions=True).robustness
    load = partial(load_photo, read=ReadOptions(), preprocess=predictor.preprocess)
    for one in found.of("cropped") + found.of("noise")[:1]:
        images = [
            Image.fromarray(corrupt(load(str(source)), one.corruption, one.strength))
            for source in sources
        ]
        answers = predictor(images)
        assert one.mean_score == pytest.approx(np.mean([answer.score for answer in answers]))
    for lost in found.worst:
        shown = predictor(Image.fromarray(found.show(lost)))
        assert (shown.label, shown.score) == (lost.predicted, pytest.approx(lost.score))


def run(*arguments):
    command = [sys.executable, "-m", "toplabel", "evaluate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_several_models_have_a_table_each_and_one_together(colours):
    folder, model = colours
    found = toplabel.evaluate(toplabel.load(**model), folder / "data", corruptions=True)
    table = list(table_lines(found.robustness))
    assert table[2].split() == ["clean", "100", "100", "100", "1.00"]
    assert max(map(len, table[:12])) <= 80
    together = list(comparison_lines([found, found]))
    assert len(together) == 3 + 1 + len(NAMES) + 2
    assert together[-1].split()[0] == "all"


def test_the_report_shows_what_was_lost(colours, tmp_path):
    folder, model = colours
    found = toplabel.evaluate(toplabel.load(**model), folder / "data", corruptions=True)
    lost = LostImage(found.outputs.dataset.sources[0], "red", "dark", 2, "<b>", 0.9)
    gone = replace(lost, source="gone.png")
    robustness = replace(found.robustness, worst=(lost, gone))
    report = tmp_path / "report.html"
    write_evaluation_report(report, [replace(found, robustness=robustness)], [])
    page = report.read_text()
    assert page.count("Corrupted images") == 1
    assert page.count("dark 2: ") == 2
    assert page.count("&lt;b&gt;") == 2
    assert page.count("data:image/webp") == 1


@pytest.mark.slow
def test_the_command_prints_csv(colours, tmp_path):
    folder, model = colours
    bundle = tmp_path / "m.toplabel"
    toplabel.load(**model).save(bundle)
    done = run(folder / "data", "-m", bundle, "--corruptions", "--csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["strength"] for row in rows] == ["0", *map(str, STRENGTHS * 9)]
    assert {row["corruption"] for row in rows} == {"clean", *NAMES}
    assert rows[0]["accuracy"] == "1.0"


def test_csv_needs_corruptions():
    done = run("nowhere", "--csv")
    assert done.returncode == 2
    assert "got --csv without --corruptions; use --json for other metrics" in done.stderr


@pytest.mark.slow
def test_a_report_that_cannot_be_written_loses_no_figures(colours, tmp_path):
    folder, model = colours
    bundle = tmp_path / "m.toplabel"
    toplabel.load(**model).save(bundle)
    done = run(folder / "data", "-m", bundle, "--report", tmp_path / "missing" / "report.html")
    assert done.returncode == 2
    assert "accuracy                       100.0 %" in done.stdout
    assert done.stderr.count("\n") == 1
