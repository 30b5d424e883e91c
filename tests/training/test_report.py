"""The report of a training: what it says, that names are text, and that it fits every screen."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from page_audit import contrasts
from toplabel.bundle.calibration import Calibration
from toplabel.errors import RunError
from toplabel.training.advice import advise, most_helpful
from toplabel.training.assess import class_results, find_mistakes
from toplabel.training.report.report import write_training_report
from toplabel.training.result import Copies, CurvePoint, TrainingResult, Unreadable

NAMES = ("rust", "moss", "lichen")
CURVE = tuple(CurvePoint(n, a, a - 0.05, a + 0.04) for n, a in ((30, 0.7), (60, 0.75), (120, 0.8)))
TWICE = CurvePoint(240, 0.84, 0.78, 0.9)


def made_up(confusion, *, names=NAMES, curve=CURVE, twice=TWICE, sources=None, **fields):
    """A result with so many images of class row predicted as class column."""
    confusion = np.array(confusion)
    pairs = [
        (row, column)
        for row, column in np.ndindex(confusion.shape)
        for _ in range(confusion[row, column])
    ]
    targets = np.array([row for row, _ in pairs])
    predicted = np.array([column for _, column in pairs])
    sure = np.linspace(0.55, 0.95, len(pairs), dtype=np.float32)
    scores = np.full((len(pairs), len(names)), 0, np.float32)
    scores += ((1 - sure) / (len(names) - 1))[:, None]
    scores[np.arange(len(pairs)), predicted] = sure
    sources = sources or tuple(f"data/{names[row]}/{n}.jpg" for n, (row, _) in enumerate(pairs))
    mistakes = find_mistakes(sources, names, targets, scores)
    accuracy = float((targets == predicted).mean())
    known = {
        "bundle": SimpleNamespace(
            name="walls@12345678", training={"base": "network"}, unknown=None
        ),
        "classes": class_results(names, targets, predicted),
        "accuracy": accuracy,
        "low": accuracy - 0.04,
        "high": accuracy + 0.03,
        "balanced_accuracy": accuracy,
        "plain_accuracy": 0.815,
        "plain_balanced_accuracy": 0.712,
        "sources": sources,
        "targets": targets,
        "scores": scores,
        "copies": (),
        "mistakes": mistakes,
        "suspects": mistakes[: len(mistakes) // 2],
        "curve": curve,
        "twice": twice,
        "unreadable": (),
        "calibration": Calibration(temperature=1.5, images=120, digest="0", date="2026-01-01"),
        "strength": 0.1,
        "folds": 5,
    }
    return TrainingResult(**(known | fields))


ROUGH = made_up([[20, 18, 2], [2, 38, 0], [1, 1, 38]])


def written(result, path):
    write_training_report(path, result)
    text = path.read_text()
    return text, re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text).replace("&nbsp;", " "))


def test_it_says_what_was_reached_and_how_sure_that_is(tmp_path):
    _, words = written(ROUGH, tmp_path / "train.html")
    assert "80.0 % of new photos of this kind get the right label" in words
    assert "76.0 to 83.0 % with 95 % certainty" in words
    assert "120 images of 3 classes" in words
    assert "Twice as many photos, 240, would bring 80.0 % to about 84.0 %" in words
    assert "rust 40 50.0 %" in words
    assert "moss, 18 ×" in words
    assert "with classes as frequent as in training" not in words


def test_the_class_with_the_most_errors_is_asked_for():
    found = most_helpful(ROUGH)
    assert found.names == ("rust",)
    assert found.photos == 20
    assert found.mistaken == "moss"
    assert str(found).startswith("20 more photos of 'rust' would help most: about ")
    assert "'rust' is mostly mistaken for 'moss'" in str(found)
    assert 0.005 < found.gain < 0.1


def test_what_counts_is_how_often_a_class_will_come():
    """Moss has more errors for each photo, rust is expected nine times as often."""
    balanced = made_up([[30, 10, 0], [20, 20, 0], [0, 0, 40]])
    assert most_helpful(balanced).names == ("moss",)
    prior = Calibration(
        temperature=1,
        images=120,
        digest="0",
        date="",
        trained_prior=(1 / 3,) * 3,
        prior=(0.9, 0.05, 0.05),
    )
    assert most_helpful(replace(balanced, calibration=prior)).names == ("rust",)


def test_of_equal_recall_the_class_with_fewer_photos_gains_more():
    prior = replace(ROUGH.calibration, trained_prior=(0.1, 0.45, 0.45), prior=(1 / 3,) * 3)
    found = most_helpful(made_up([[16, 4, 0], [0, 80, 20], [0, 20, 80]], calibration=prior))
    assert found.names == ("rust",)


def test_no_class_is_named_where_none_stands_out():
    even = made_up([[32, 4, 4], [4, 32, 4], [4, 4, 32]])
    assert most_helpful(even) is None
    assert any(
        "Add photos of every class, as none stands out: twice as many would bring 80.0 % to about"
        " 84.0 %" in step
        for step in advise(even)
    )


def test_where_photos_hardly_help_it_says_so():
    flat = made_up([[20, 18, 2], [2, 38, 0], [1, 1, 38]], twice=CurvePoint(240, 0.802, 0.76, 0.84))
    assert any("would hardly help" in step for step in advise(flat))
    assert not any("more photos of 'rust'" in step for step in advise(flat))


def test_where_nothing_is_wrong_it_asks_for_other_photos():
    right = made_up(np.eye(3, dtype=int) * 5, twice=None, curve=CURVE[-1:], low=0.8, high=1.0)
    steps = advise(right)
    assert steps[0].startswith("Try it on photos of another day, place or camera")
    assert "anything from 80 % to 100 %" in steps[1]


def test_labels_copies_and_files_come_first():
    result = replace(
        ROUGH,
        copies=(
            Copies(("a.jpg", "b.jpg"), ("rust", "moss")),
            Copies(("c.jpg", "d.jpg"), ("rust",) * 2),
        ),
        unreadable=(Unreadable("data/moss/x.jpg", "truncated", "the file ends early"),),
    )
    steps = advise(result)
    assert (
        "1 image stands under several, as copies, such as a.jpg (rust) and b.jpg (moss)."
        in steps[0]
    )
    assert re.search(
        r"beginning with data/\w+/\d+\.jpg, which is in '\w+' and looks like", steps[1]
    )
    assert steps[2].endswith("left out: 1 image.")
    assert steps[3].startswith("20 more photos of 'rust'")


def test_copies_and_what_was_left_out_are_named(tmp_path):
    result = replace(
        ROUGH,
        copies=(
            Copies(("a/a.jpg", "b/b.jpg"), ("rust", "moss")),
            Copies(("c/c.jpg", "c/d.jpg"), ("rust",) * 2),
        ),
        unreadable=(Unreadable("data/moss/x.jpg", "truncated", "the file ends early"),),
    )
    _, words = written(result, tmp_path / "train.html")
    assert "under rust and moss a/a.jpg, b/b.jpg" in words
    assert "2 images are copies or near-copies of one another, in 1 group" in words
    assert "moss/x.jpg truncated the file ends early" in words


def test_both_figures_are_shown_where_a_prior_was_chosen(tmp_path):
    prior = replace(ROUGH.calibration, trained_prior=(1 / 3,) * 3, prior=(0.5, 0.25, 0.25))
    _, words = written(replace(ROUGH, calibration=prior), tmp_path / "train.html")
    assert "Accuracy with classes as frequent as in training 81.5 %" in words
    assert "Balanced accuracy with classes as frequent as in training 71.2 %" in words


def test_unknown_is_told_in_words_with_what_is_not_noticed(tmp_path):
    _, words = written(ROUGH, tmp_path / "train.html")
    assert "gives every image one of its classes, whatever the image shows" in words
    detector = SimpleNamespace(expected=(0.05, 0.11), siblings=0.18)
    bundle = SimpleNamespace(name="walls@1", training=None, unknown=detector)
    _, words = written(replace(ROUGH, bundle=bundle), tmp_path / "train.html")
    assert "About 5 % of photos like yours are marked, too (up to 11 % " in words
    assert "82 % of its photos passed as another of your classes" in words


def test_many_classes_stay_a_page_of_bounded_size(tmp_path):
    count = 400
    confusion = np.eye(count, dtype=int) * 2
    confusion[np.arange(count), (np.arange(count) + 1) % count] = 1
    names = tuple(f"class {number}" for number in range(count))
    text, words = written(made_up(confusion, names=names), tmp_path / "train.html")
    assert "The 340 other classes have a recall of 66.7 % or more." in words
    assert "May bear the wrong label (24 of" in words
    assert len(text) < 200_000


def test_a_training_of_few_images_has_no_curve(tmp_path):
    result = made_up(np.eye(3, dtype=int) * 3, curve=CURVE[-1:], twice=None)
    text, words = written(result, tmp_path / "train.html")
    assert "<svg" not in text
    assert "What more photos would bring" not in words


def test_a_page_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(RunError):
        write_training_report(tmp_path / "missing" / "train.html", ROUGH)


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$title ${x} \u202e\x00 " + "long" * 300,
)


def test_names_are_text_and_the_page_fits_a_phone_and_a_keyboard(tmp_path, browser):
    chance = np.random.default_rng(0)
    sources = []
    for number in range(12):
        sources.append(str(tmp_path / f"<b>{number}.png"))
        Image.fromarray(chance.integers(0, 256, (90, 120, 3), np.uint8)).save(sources[-1])
    result = made_up([[1, 3, 0], [2, 2, 0], [2, 0, 2]], names=HOSTILE, sources=tuple(sources))
    result = replace(
        result,
        notices=("<i>notice</i>",),
        copies=(Copies((sources[0], sources[1]), HOSTILE[:2]),),
        unreadable=(Unreadable("<u>", "corrupt", "<s>why</s>"),),
    )
    page = tmp_path / "train.html"
    write_training_report(page, result)
    problems: list[str] = []
    for width, scheme in ((360, "dark"), (1280, "light")):
        tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        tab.set_default_timeout(120_000)
        tab.on("console", lambda message: problems.append(message.text))
        tab.on("dialog", lambda dialog: problems.append("a dialog"))
        tab.on("request", lambda request: problems.append(request.url))
        tab.goto(page.as_uri())
        problems.remove(page.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.locator("script, main b b, main i, main u, main s").count() == 0
        images = tab.locator("img")
        sizes = images.evaluate_all("(all) => all.map((image) => image.naturalWidth)")
        assert sizes == [120] * 8
        assert "<script>alert(1)</script>" in tab.locator("table").first.inner_text()
        assert contrasts(tab) == []
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.className") == "scroll"
        tab.close()
    assert [one for one in problems if not one.startswith("data:")] == []
