"""The cascade: reduced answers where the label is clear, exact ones near a boundary, an audit."""

import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reduced_material import (
    RECIPE,
    draw_photos,
    random_pixels,
    random_tensors,
    reduced_bundle,
    with_margin,
    with_wrong_program,
)
from toplabel._internal.notices import ToplabelWarning
from toplabel.bundle.bundle import Bundle
from toplabel.bundle.file import pack
from toplabel.bundle.margin import Margin
from toplabel.bundle.reduced import ReducedProgram, store_reduced
from toplabel.bundle.unknown import Memory, UnknownDetector
from toplabel.errors import UsageError
from toplabel.inference.cascade import (
    AUDITED,
    ReducedAnswers,
    ReducedCounts,
    ReducedUse,
    is_audited,
    ways,
)
from toplabel.inference.classifier import Classifier
from toplabel.inference.margin import fit_margin
from toplabel.inference.predictor import Predictor
from toplabel.inference.scoring import MARGIN, Question
from toplabel.preprocess.custom import CustomPreprocess

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return reduced_bundle(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def tags(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return reduced_bundle(tmp_path_factory.mktemp("tags"), multi_label=True)


def fast(bundle: Bundle, **options: Any) -> Predictor:
    return Predictor(Classifier.of_bundle(bundle), fast=True, sanity_checks=False, **options)


def exact(bundle: Bundle, **options: Any) -> Predictor:
    return Predictor(Classifier.of_bundle(bundle), sanity_checks=False, **options)


@pytest.mark.parametrize("threshold", [None, 0.6])
@pytest.mark.parametrize("kind", ["bundle", "tags"])
def test_fast_answers_are_those_of_the_exact_path_and_say_what_computed_them(
    kind: str, threshold: float | None, request: pytest.FixtureRequest
) -> None:
    model, photos = request.getfixturevalue(kind), list(random_pixels(400, seed=2))
    answers = [
        [
            (set(one.labels), one.unsure, one.label)
            for one in make(model)(photos, threshold=threshold)
        ]
        for make in (exact, fast)
    ]
    assert answers[0] == answers[1]
    found = fast(model)(photos, threshold=threshold)
    counts = Counter(one.precision for one in found)
    assert counts["int8"] > 100
    assert counts[None] > 20  # near a boundary
    assert len({one.label for one in found}) > 3


def test_what_is_computed_again_has_the_scores_of_the_exact_path(bundle: Bundle) -> None:
    photos = list(random_pixels(60, seed=4))
    for one, other in zip(fast(bundle)(photos), exact(bundle)(photos), strict=True):
        assert other.precision is None
        if one.precision is None:
            assert one.score == pytest.approx(other.score, abs=1e-6)
        else:
            assert one.score != other.score


def test_exact_and_fast_at_once_are_refused(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="got fast=True and exact=True; expected one of them"):
        fast(bundle, exact=True)


def test_prepared_tensors_have_the_same_cascade(bundle: Bundle) -> None:
    tensors = random_tensors(80, seed=2)
    found, expected = (make(bundle).predict_tensor(tensors) for make in (fast, exact))
    assert [one.label for one in found] == [one.label for one in expected]
    images = fast(bundle)(list(random_pixels(80, seed=2)))
    assert [one.precision for one in found] == [one.precision for one in images]


def test_embeddings_are_always_exact(bundle: Bundle) -> None:
    photo = random_pixels(1)[0]
    features = exact(bundle).embed(photo)
    assert (fast(bundle).embed(photo) == features).all()
    labeller = fast(bundle).batch_labeller(fast=True, keep_features=True)
    for one in labeller.label([(0, photo)]):
        assert one.precision is None
        assert one.features is not None
        assert (one.features == features).all()


def test_a_model_without_a_reduced_program_says_so_once_and_answers_exactly(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    model = fast(replace(bundle, reduced=None))
    with caplog.at_level(logging.WARNING, logger="toplabel"):
        found = model(list(random_pixels(5)))
        model(random_pixels(1)[0])
    assert model.reduced is None
    assert {one.precision for one in found} == {None}
    assert caplog.messages == [
        "test/kinds@00000000 has no reduced program yet: toplabel optimize -m MODEL --images FOLDER"
        " makes it, once; every answer is computed exactly"
    ]


def test_code_of_the_users_has_no_reduced_program_and_that_is_the_reason_given(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    code = CustomPreprocess(
        name="mine.py:transform", function=RECIPE, shape=(3, 16, 16), values=(0, 1), digest="0"
    )
    classifier = Classifier.of_bundle(bundle).with_custom_preprocess(code)
    with Predictor(classifier, fast=True, sanity_checks=False) as model:
        assert model(random_pixels(1)[0]).precision is None
    assert "has no reduced program: its preprocessing mine.py:transform is code" in caplog.text


@pytest.mark.parametrize("what", ["damaged", "other logits", "no margin"])
def test_a_reduced_program_that_cannot_be_trusted_is_not_used(
    what: str, bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert bundle.reduced is not None
    reduced, expected = replace(bundle.reduced, key=what.rjust(64, "a")), "cannot be used here"
    if what == "damaged":
        reduced = replace(reduced, path=tmp_path / "reduced.onnx")
        reduced.path.write_bytes(b"no program")
    elif what == "other logits":  # as another processor gives them, beyond a fifth of the margin
        margin = replace(reduced.margin, logits=1e-6)
        reduced = replace(reduced, reference_path=bundle.program.reference_path, margin=margin)
    else:
        reduced = replace(reduced, margin=replace(reduced.margin, changed=1))
        expected = "no margin that holds"
    model = fast(replace(bundle, reduced=reduced))
    found = model(list(random_pixels(4)))
    assert {one.precision for one in found} == {None}
    assert model.reduced is None
    (message,) = [text for text in caplog.messages if "exactly" in text]
    assert expected in message


def test_a_reduced_answer_says_so_and_is_audited_though_its_margin_is_zero(
    bundle: Bundle,
) -> None:
    found = fast(with_margin(bundle, 0.0))(list(random_pixels(120, seed=2)))
    assert sum(one.precision == "int8" for one in found) > 100
    assert any(one.audit is not None for one in found)


def test_a_reduced_program_that_was_made_again_meanwhile_is_not_used_with_the_old_margin(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def keep(made: Bundle) -> None:
        reduced = made.reduced
        assert reduced is not None

        def build(folder: Path) -> tuple[ReducedProgram, dict[str, Any]]:
            for path in (reduced.path, reduced.reference_path):
                shutil.copyfile(path, folder / path.name)
            return reduced, {}

        store_reduced(made, build)

    keep(bundle)
    photos = list(random_pixels(40, seed=2))
    expected = [one.label for one in exact(bundle)(photos)]
    model = Predictor(Classifier.of_bundle(bundle, fast=True), fast=True, sanity_checks=False)
    assert "int8" in {one.precision for one in model(photos)}
    keep(with_wrong_program(bundle, tmp_path))
    model.close()
    again = model(photos)
    assert [one.label for one in again] == expected
    assert {one.precision for one in again} == {None}
    assert "it has been made again since the model was loaded; load it again" in caplog.text


def test_an_image_near_a_boundary_is_read_once(bundle: Bundle, tmp_path: Path) -> None:
    Image.fromarray(random_pixels(1)[0]).save(tmp_path / "one.png")
    content = (tmp_path / "one.png").read_bytes()

    class Counting(BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            return super().read(size)

    files = [Counting(content), Counting(content)]
    again = fast(with_margin(bundle, 100.0))(files[0])
    once = exact(bundle)(files[1])
    assert (again.precision, again.score) == (None, once.score)
    assert files[0].reads == files[1].reads > 0


def test_margins_add_where_a_scaled_decode_and_a_reduced_program_meet(bundle: Bundle) -> None:
    model = fast(bundle)
    way = model._reduced_way(model._options(1, None), threads=1, features=False)
    assert way is not None
    assert bundle.reduced is not None
    cheapest, scaled, last = ways(model.open_engine(), way, exact=False)
    assert cheapest.margins(2)[0] == MARGIN + bundle.reduced.margin.logits
    assert cheapest.margins(1)[0] == bundle.reduced.margin.logits
    assert scaled.margins(2)[0] == MARGIN
    assert scaled.margins(1) == last.margins(1) == (0, 0)
    (only,) = ways(model.open_engine(), way, exact=True)
    assert only == last


def test_a_large_jpeg_goes_through_both_ways(bundle: Bundle, tmp_path: Path) -> None:
    answers = []
    for place, pixels in enumerate(random_pixels(40, seed=6)):
        path = tmp_path / f"{place}.jpg"
        Image.fromarray(pixels).resize((128, 128), Image.Resampling.NEAREST).save(path)
        answers.append(str(path))
    found, expected = fast(bundle)(answers), exact(bundle, exact=True)(answers)
    assert [one.label for one in found] == [one.label for one in expected]
    assert {one.precision for one in found} == {"int8", None}


def test_one_in_a_hundred_is_audited_whatever_the_places_are() -> None:
    for places in (range(20_000), range(0, 60_000, 3), range(7, 10**6, 97)):
        share = np.mean([is_audited(place) for place in places])
        assert share == pytest.approx(AUDITED, rel=0.2)
    assert not is_audited(0)


def test_the_audit_finds_a_margin_that_does_not_hold_and_widens_it(bundle: Bundle) -> None:
    # with no margin some labels change; an audit of 1 % finds one of them sooner or later
    model, photos = fast(with_margin(bundle, 1e-9), threads=1), random_pixels(6000, seed=8)
    spoiled = spoil(model)
    with pytest.warns(ToplabelWarning, match="an audited int8 answer had another label") as told:
        found = list(model.stream(list(photos)))
    audited = [one for one in found if one.audit is not None]
    changed = [one for one in audited if one.audit == "changed"]
    assert changed
    assert len(audited) < 0.02 * len(found)
    expected = exact(bundle)([photos[found.index(one)] for one in changed])
    assert [one.label for one in changed] == [one.label for one in expected]  # corrected
    assert {one.precision for one in audited} == {None}
    use = model._engines._use
    assert use is not None
    assert use.logits > 1e-9
    assert "answers so far are unaudited" in str(told[0].message)
    assert spoiled


def spoil(model: Predictor) -> bool:
    """Have its reduced engine say that the second class is the first, where they are near."""
    way = model._reduced_way(model._options(1, None), threads=1, features=False)
    assert way is not None
    key = next(iter(model._engines._reduced))

    class Swapping:
        name, device, normalises = "onnxruntime", "cpu", None

        def __call__(self, batch: np.ndarray) -> np.ndarray:
            rows = way.engine(batch)
            best = np.argsort(rows, axis=1)
            for row, order in zip(rows, best, strict=True):
                if row[order[-1]] - row[order[-2]] < 0.5:
                    row[order[[-1, -2]]] = row[order[[-2, -1]]]
            return rows

    model._engines._reduced[key] = Swapping()  # type: ignore[assignment]
    return True


def test_a_batch_labeller_keeps_its_margin_whatever_the_audit_finds(bundle: Bundle) -> None:
    model = fast(with_margin(bundle, 1e-9), threads=1)
    spoil(model)
    labeller = model.batch_labeller(fast=True)
    found = [labeller.label([(place, p)])[0] for place, p in enumerate(random_pixels(3000, seed=8))]
    counts = ReducedCounts()
    for one in found:
        counts = counts.add(one)
    assert counts.changed > 0
    assert 0 < counts.unaudited <= counts.reduced
    model.report_warnings()  # nothing widens, so nothing is told here: the run tells it
    use = model._engines._use
    assert use is None or use.logits == 1e-9


def test_a_batch_labeller_is_exact_unless_asked(bundle: Bundle) -> None:
    labeller = fast(bundle).batch_labeller()
    found = labeller.label(list(enumerate(random_pixels(6))))
    assert {one.precision for one in found} == {None}


def test_single_calls_are_audited_by_their_number(bundle: Bundle) -> None:
    model, photo = fast(bundle), clear_photo(bundle)
    audits = [model(photo).audit for _ in range(250)]
    expected = ["same" if is_audited(place) else None for place in range(250)]
    assert audits == expected
    assert "same" in audits


def clear_photo(bundle: Bundle) -> np.ndarray:
    photos = random_pixels(30)
    found = fast(bundle)(list(photos))
    return photos[[one.precision for one in found].index("int8")]


def test_what_tells_unknown_images_has_its_margin(bundle: Bundle) -> None:
    assert bundle.reduced is not None
    tensors = random_tensors(500, seed=9)
    engine = Classifier.of_bundle(bundle).open_engine(1, features=True)
    reduced = Classifier.of_bundle(bundle).open_reduced
    assert reduced is not None
    (logits, features), (cheap, near) = (
        engine.answer(tensors),
        reduced(1, features=True).answer(tensors),
    )
    memory = Memory.of(features[:100], np.zeros(100, np.int64))
    distances = UnknownDetector(threshold=1.0, images=100, memory=memory).distance(features)
    detector = UnknownDetector(
        threshold=float(np.median(distances[100:])), images=100, memory=memory
    )
    margin = fit_margin(
        logits,
        cheap,
        Question(),
        exact_features=features,
        reduced_features=near,
        unknown=detector,
    )
    assert isinstance(margin, Margin)
    told = replace(bundle, unknown=detector, reduced=replace(bundle.reduced, margin=margin))
    photos = list(random_pixels(200, seed=11))
    found, expected = fast(told)(photos), exact(told)(photos)
    assert [one.unknown for one in found] == [one.unknown for one in expected]
    assert {one.unknown for one in found} == {True, False}
    assert {one.precision for one in found} == {"int8", None}
    untold = fast(replace(bundle, unknown=detector))
    assert untold.reduced is None  # its margin says nothing of distances


def test_what_came_of_it_is_said_in_one_line() -> None:
    margin = Margin(logits=0.5, images=1160, again=0.17)
    counts = ReducedCounts(images=1000, reduced=830, audited=9)
    said = ReducedAnswers(precision="int8", margin=margin, counts=counts)
    assert str(said) == (
        "int8; 17 % computed again; no label changed in 1,160 re-computations: at most 0.26 % at"
        " 95 % confidence; 9 audited, none changed"
    )
    worse = replace(said, counts=replace(counts, changed=1, unaudited=830))
    assert "1 of 9 audited answers had another label, so 830 answers are unaudited" in str(worse)


def test_a_margin_is_widened_beyond_the_answer_that_was_wrong(bundle: Bundle) -> None:
    assert bundle.reduced is not None
    use = ReducedUse(bundle.reduced)
    for _ in range(3):
        use.believe()
    use.widen(logits=2.0, distance=None)
    assert use.logits > 2
    assert "the 3 int8 answers so far" in (use.take_warning() or "")
    assert use.take_warning() is None
    fixed = ReducedUse(bundle.reduced, widens=False)
    fixed.widen(logits=2.0, distance=None)
    assert fixed.logits == bundle.reduced.margin.logits


def lacking(bundle: Bundle, made: list[int], *, why_not: str = "") -> Predictor:
    """A fast predictor without a reduced program, which its `reduce` makes."""

    def reduce(classifier: Classifier, images: Sequence[object]) -> Classifier | str:
        made.append(len(images))
        return why_not or Classifier.of_bundle(bundle)

    without = Classifier.of_bundle(replace(bundle, reduced=None))
    return Predictor(without, fast=True, reduce=reduce, sanity_checks=False)


def test_a_long_list_has_the_reduced_program_made_from_its_images(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toplabel.inference.predictor.MAKE_FROM", 30)
    made: list[int] = []
    model, photos = lacking(bundle, made), list(random_pixels(30, seed=2))
    found, expected = model(photos), exact(bundle)(photos)
    assert [one.label for one in found] == [one.label for one in expected]
    assert "int8" in {one.precision for one in found}
    model(photos)
    assert made == [30]  # once


def test_what_cannot_be_made_is_told_once(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("toplabel.inference.predictor.MAKE_FROM", 30)
    model = lacking(bundle, [], why_not="kinds cannot be quantised")
    assert {one.precision for one in model(list(random_pixels(30)))} == {None}
    told = [text for text in caplog.messages if "exactly" in text]
    assert told == ["kinds cannot be quantised; every answer is computed exactly"]


def test_few_images_are_not_worth_making_it(bundle: Bundle) -> None:
    made: list[int] = []
    assert {one.precision for one in lacking(bundle, made)(list(random_pixels(9)))} == {None}
    assert not made


def test_a_run_of_many_inputs_makes_it_and_goes_on_with_it(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import toplabel

    monkeypatch.setattr("toplabel.inference.predictor.MAKE_FROM", 20)
    made: list[int] = []
    photos = draw_photos(tmp_path / "photos", 20)
    for _ in range(2):
        summary = toplabel.run(photos, tmp_path / "out.csv", model=lacking(bundle, made))
        assert summary.fast is not None
        assert summary.fast.counts.reduced > 5
    assert made == [20, 20]  # the second time by another predictor: the cache has it for `load`


def test_a_loaded_model_says_why_its_reduced_program_cannot_be_made(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import toplabel

    monkeypatch.setattr("toplabel.inference.predictor.MAKE_FROM", 3)
    photos, path = draw_photos(tmp_path, 3), tmp_path / "kinds.toplabel"
    pack(replace(bundle, reduced=None), path)
    found = toplabel.load(path, fast=True)(photos)
    assert {one.precision for one in found} == {None}
    (told,) = [text for text in caplog.messages if "every answer is computed exactly" in text]
    assert "can be made: got 3 images; reduced precision needs at least" in told


@pytest.mark.slow
@pytest.mark.shared_data
def test_no_label_of_real_photos_changes(shared_data: Path) -> None:
    """The built-in model, its program made from other photos than those that are compared."""
    import toplabel

    toplabel.optimize(None, sorted((shared_data / "train" / "flowers").rglob("*.jpg")))
    held_out = sorted((shared_data / "imagenet").iterdir())
    held_out += sorted((shared_data / "camera").iterdir())
    model = toplabel.load(fast=True)
    if model.reduced is None:
        pytest.skip("this processor does not compute int8 faster")
    found, expected = model(held_out), toplabel.load(exact=True)(held_out)
    assert [one.label for one in found] == [one.label for one in expected]
    assert sum(one.precision is not None for one in found) > len(found) / 2
