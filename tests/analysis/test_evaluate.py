"""How often a model is right: the counts, their intervals, comparisons, and the report."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toplabel
from run_material import COLOURS, draw_colours, save_model
from toplabel.analysis.evaluate import plots
from toplabel.analysis.evaluate.evaluation import _in_turns
from toplabel.analysis.evaluate.metrics import compute_metrics, paired_test
from toplabel.errors import LabelsError, UsageError
from toplabel.labels.labels import Labels

pytest.importorskip("sklearn")
ROOT = Path(__file__).parents[2]
RESNET = "checkpoints/resnet20-12fca82f.th"


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_counts_are_those_of_eager_pytorch(shared_data):
    reference = json.loads((shared_data / "reference" / "lite0_imagenet.json").read_text())["top5"]
    synsets = json.loads((ROOT / "src/toplabel/data/efficientnet_lite0/manifest.json").read_text())
    ids = synsets["labels"]["ids"]
    true = {name: ids.index(name[:9]) for name in reference}
    top1 = sum(true[name] == output["index"][0] for name, output in reference.items())
    top5 = sum(true[name] in output["index"] for name, output in reference.items())
    found = toplabel.evaluate(None, shared_data / "imagenet")
    assert found.metrics.images == len(reference) == 200
    assert found.metrics.top1.value == top1 / 200
    assert found.metrics.top5.value == top5 / 200
    assert found.order.kind == "fits"
    assert found.metrics.top1.low < top1 / 200 < found.metrics.top1.high


class MadeUp:
    """Outputs as `compute_metrics` takes them, made up."""

    def __init__(self, truth, scores, failed=()):
        self.truth = np.array(truth)
        self.readable = ~np.isin(np.arange(len(truth)), failed)
        self.known = self.truth[self.readable]
        self.scores = np.array(scores)[self.readable]
        self.best = self.scores.argmax(axis=1)
        self.failures = dict.fromkeys(failed)
        self.right = np.zeros(len(truth), bool)
        self.right[self.readable] = self.best == self.known


def random_outputs(count=400, classes=7, seed=0, failed=()):
    chance = np.random.default_rng(seed)
    logits = chance.normal(size=(count, classes))
    truth = chance.integers(0, classes, count)
    logits[np.arange(count), truth] += 1.5
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return MadeUp(truth, scores, failed)


def test_the_figures_are_scikit_learns():
    from sklearn import metrics

    outputs = random_outputs()
    labels = Labels(tuple("abcdefg"))
    found = compute_metrics(outputs, labels)
    known, best, scores = outputs.known, outputs.best, outputs.scores
    every = np.arange(7)
    assert found.top1.value == pytest.approx(metrics.accuracy_score(known, best))
    assert found.top5.value == pytest.approx(metrics.top_k_accuracy_score(known, scores, k=5))
    assert found.macro_recall.value == pytest.approx(metrics.balanced_accuracy_score(known, best))
    assert found.macro_f1.value == pytest.approx(metrics.f1_score(known, best, average="macro"))
    assert found.nll.value == pytest.approx(metrics.log_loss(known, scores, labels=every))
    onehot = np.eye(7)[known]
    assert found.brier.value == pytest.approx(((scores - onehot) ** 2).sum(axis=1).mean())
    confidence, right = scores.max(axis=1), known == best
    gaps = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if inside.any():
            gaps += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert found.ece.value == pytest.approx(gaps)
    matrix = metrics.confusion_matrix(known, best)
    assert sum(count for _, _, count in found.confusions) == matrix.sum() - matrix.trace()
    true, predicted, count = found.confusions[0]
    assert matrix[true, predicted] == count == (matrix - np.diag(matrix.diagonal())).max()


def test_an_interval_holds_the_true_accuracy_about_as_often_as_it_says():
    inside = 0
    for seed in range(30):
        chance = np.random.default_rng(seed)
        truth = np.zeros(120, int)
        scores = np.where(chance.random(120) < 0.8, 0.9, 0.1)
        found = compute_metrics(
            MadeUp(truth, np.stack([scores, 1 - scores], 1)), Labels(("a", "b"))
        ).top1
        inside += found.low <= 0.8 <= found.high
    assert inside >= 25


def test_failed_images_stay_in_the_books():
    found = compute_metrics(random_outputs(failed=(0, 1, 2, 3)), Labels(tuple("abcdefg")))
    assert (found.images, found.failed) == (400, 4)
    assert found.top1_of_all.value < found.top1.value
    assert sum(one.failed for one in found.classes) == 4
    assert sum(one.images for one in found.classes) == 400


def test_five_best_of_five_classes_say_nothing():
    assert compute_metrics(random_outputs(classes=5), Labels(tuple("abcde"))).top5 is None


def test_the_paired_test_is_mcnemars_exact_test():
    from scipy.stats import binomtest

    a = np.array([True] * 60 + [False] * 40)
    b = np.array([True] * 55 + [False] * 5 + [True] * 20 + [False] * 20)
    found = paired_test(a, b)
    assert (found.only_a, found.only_b, found.both, found.neither) == (5, 20, 55, 20)
    assert found.p == pytest.approx(binomtest(20, 25, 0.5).pvalue)
    assert found.difference.value == pytest.approx(0.15)
    assert 0 < found.difference.low < 0.15 < found.difference.high
    assert str(found).startswith("the second is better: +15.0 points")
    assert paired_test(a, a).p == 1
    assert str(paired_test(a, a)).startswith("no significant difference")


def test_the_interval_of_a_difference_is_newcombes():
    """The example of Newcombe (1998), table II: 36, 12, 2 and 0: 0.2000, method 10."""
    a = np.array([True] * 36 + [True] * 12 + [False] * 2)
    b = np.array([True] * 36 + [False] * 12 + [True] * 2)
    found = paired_test(b, a).difference
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0569, 0.3404), abs=1e-4)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """Class folders of images of one colour, and a model that tells them apart."""
    folder = tmp_path_factory.mktemp("colours")
    model = save_model(folder)
    names = draw_colours(folder / "flat", 24)
    predictor = toplabel.load(**model)
    paths = [folder / "flat" / Path(name).name for name in names]
    for path, one in zip(paths, predictor.stream(paths), strict=True):
        (folder / "data" / one.label).mkdir(parents=True, exist_ok=True)
        path.rename(folder / "data" / one.label / path.name)
    return folder, model


def test_a_broken_file_is_counted_and_named(coloured, tmp_path):
    folder, model = coloured
    first = next((folder / "data").iterdir())
    broken = first / "zz.png"
    broken.write_bytes(b"?")
    try:
        found = toplabel.evaluate(toplabel.load(**model), folder / "data")
    finally:
        broken.unlink()
    assert found.metrics.failed == 1
    assert found.metrics.top1.value == 1
    assert found.metrics.top1_of_all.value == 24 / 25
    assert found.to_dict()["errors"] == {"not_an_image": 1}


def test_the_old_names_of_attributes_still_work(coloured):
    folder, model = coloured
    found = toplabel.evaluate(toplabel.load(**model), folder / "data")
    with pytest.warns(DeprecationWarning, match=r"use Evaluation\.metrics"):
        assert found.measures is found.metrics
    with pytest.warns(DeprecationWarning, match=r"use Evaluation\.outputs"):
        assert found.answers is found.outputs


def test_a_model_without_class_names_is_reported_with_those_of_the_folders(coloured, tmp_path):
    folder, model = coloured
    names = tuple(f"{place} {name}" for place, name in enumerate(COLOURS))  # as outputs are
    for name in names:
        (tmp_path / name).symlink_to(folder / "data" / name[2:])
    found = toplabel.evaluate(toplabel.load(**model | {"labels": None}), tmp_path)
    assert found.metrics.top1.value == 1
    assert found.labels.names == names
    assert tuple(one.label for one in found.metrics.classes) == names


def test_the_classes_take_turns():
    assert _in_turns(["a", "a", "a", "b", "c", "b"]) == [0, 3, 4, 1, 5, 2]


def test_classes_that_the_model_has_not_stop(coloured, tmp_path):
    folder, model = coloured
    (tmp_path / "unicorn").mkdir()
    image = next((folder / "data").rglob("*.png"))
    (tmp_path / "unicorn" / "1.png").write_bytes(image.read_bytes())
    with pytest.raises(LabelsError, match="1 of 1 class matches no label of"):
        toplabel.evaluate(toplabel.load(**model), tmp_path)


def test_one_class_only_is_noted(coloured):
    folder, model = coloured
    one = next((folder / "data").iterdir())
    (folder / "one").mkdir(exist_ok=True)
    (folder / "one" / one.name).symlink_to(one)
    found = toplabel.evaluate(toplabel.load(**model), folder / "one")
    assert any("all images are of one class" in note for note in found.notes)


def test_nothing_readable_is_an_error(coloured, tmp_path):
    folder, model = coloured
    (tmp_path / next((folder / "data").iterdir()).name).mkdir()
    next(tmp_path.iterdir()).joinpath("1.png").write_bytes(b"?")
    with pytest.raises(UsageError, match="none of 1 image .* could be labelled"):
        toplabel.evaluate(toplabel.load(**model), tmp_path)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "toplabel", "evaluate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.shared_data
def test_a_permuted_list_is_named_and_two_models_are_compared(shared_data, tmp_path):
    """String for natural order, two swapped, shifted by one; 100 images of 10 classes."""
    preprocess = tmp_path / "preprocess.json"
    preprocess.write_text(
        json.dumps(
            {
                "schema": 1,
                "input_size": [32, 32],
                "resize_mode": "squash",
                "resize_size": [32, 32],
                "interpolation": "bilinear",
                "mean": [0.485, 0.456, 0.406],
                "std": [0.229, 0.224, 0.225],
            }
        )
    )
    arch = {"arch": f"{ROOT}/tests/own_networks.py:ResNet20", "preprocess": str(preprocess)}
    classes = sorted(one.name for one in (shared_data / "cifar10-test").iterdir())
    rows = [
        f"{path},{name}\n"
        for name in classes
        for path in sorted((shared_data / "cifar10-test" / name).iterdir())[:10]
    ]
    table = tmp_path / "few.csv"
    table.write_text("path,label\n" + "".join(rows))

    def kind(labels: list[str]) -> str:
        model = toplabel.load(shared_data / RESNET, labels=labels, **arch)
        return toplabel.evaluate(model, table).order.kind

    swapped = [*classes]
    swapped[0], swapped[9] = swapped[9], swapped[0]
    assert kind(classes) == "fits"
    assert kind(swapped) == "swapped"
    assert kind([*classes[1:], classes[0]]) == "shifted"
    numbered = [f"kind {number}" for number in range(1, 11)]  # trained in string order
    by_text = sorted(numbered)
    table.write_text(
        "".join(
            line.replace(f",{name}\n", f",{by_text[place]}\n")
            for place, name in enumerate(classes)
            for line in rows
            if line.endswith(f",{name}\n")
        )
    )
    assert kind(by_text) == "fits"
    assert kind(numbered) == "string"


def test_the_command_compares_and_reports(coloured, tmp_path):
    folder, model = coloured
    bundle = tmp_path / "m.toplabel"
    toplabel.load(**model).save(bundle)
    report = tmp_path / "report.html"
    done = run(folder / "data", "-m", bundle, "-m", bundle, "--report", report)
    assert done.returncode == 0, done.stderr
    assert "accuracy                       100.0 %" in done.stdout
    assert "no significant difference: +0.0 points" in done.stdout
    assert done.stdout.splitlines()[0].endswith(f" ({bundle})")  # both have one name
    page = report.read_text()
    assert page.count("<svg") >= 4
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    result = json.loads(run(folder / "data", "-m", bundle, "--json").stdout)
    assert result["models"][0]["top1"]["value"] == 1
    assert result["models"][0]["order"]["kind"] == "fits"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "no such file or folder; expected a folder with one sub-folder per class"),
        (("examples",), "the class of 'cat.jpg' in 'examples' is unknown"),
        (("examples", "-m", "a", "-m", "b", "--arch", "resnet18"), "got --arch with 2 models"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_report_is_shown_without_a_network_and_fits_a_phone(coloured, tmp_path, browser):
    from toplabel.analysis.evaluate.report import write_evaluation_report

    folder, model = coloured
    hostile = Labels(tuple(f"<b>{name}</b> $x$" for name in toplabel.load(**model).labels))
    found = toplabel.evaluate(toplabel.load(**model), folder / "data")
    outputs = found.outputs
    wrong = (outputs.truth + 1) % len(hostile)  # so that there are mistakes to show
    object.__setattr__(outputs, "truth", wrong)
    object.__setattr__(found, "labels", hostile)
    object.__setattr__(found, "metrics", compute_metrics(outputs, hostile))
    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)  # of many bytes
    for source in outputs.dataset.sources:
        Image.fromarray(photo).save(source)
    page = tmp_path / "page.html"
    write_evaluation_report(page, [found], [])
    problems: list[str] = []
    tab = browser.new_page(viewport={"width": 360, "height": 700})
    tab.set_default_timeout(120_000)
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("request", lambda request: problems.append(request.url))
    tab.goto(page.as_uri())
    problems.remove(page.as_uri())
    assert tab.evaluate("() => document.documentElement.scrollWidth") == 360
    assert tab.locator(".mistakes li").count() == 24
    assert tab.locator(".mistakes img").first.evaluate("(image) => image.naturalWidth") == 120
    assert "<b>" in tab.locator(".mistakes p").first.inner_text()
    tab.close()
    assert [one for one in problems if not one.startswith("data:")] == []


def test_names_in_any_script_are_drawn_without_warnings():
    with warnings.catch_warnings(), plots._axes(2, 2) as (figure, axes):
        warnings.simplefilter("error")
        axes.set_title(plots._plain("猫 ไทย 🐈 $x \x1b \ud800"))
        drawn = str(plots._svg(figure, "names", "names"))
    assert "猫 ไทย 🐈 $x \\x1b \\ud800" in drawn
