import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import toplabel
from toplabel.errors import LabelsError, UsageError
from toplabel.training.result import TrainingResult
from training_material import draw, draw_folder

CLASSES = {"round": 12, "striped": 12}


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _one_cache(shared_cache, monkeypatch):
    """One cache for all tests here, so that each image is read once; some ask for `new_cache`."""
    monkeypatch.setenv("TOPLABEL_CACHE", str(shared_cache))


@pytest.fixture
def new_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TOPLABEL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return draw_folder(tmp_path_factory.mktemp("photos"), CLASSES)


@pytest.fixture(scope="module")
def result(photos):
    return toplabel.train(photos)


def test_the_model_labels_other_images(result):
    for kind in CLASSES:
        for number in range(100, 104):
            assert result.predictor(draw(kind, number)).label == kind


def test_the_result_says_what_it_reached(result, photos):
    assert isinstance(result, TrainingResult)
    assert result.accuracy > 0.8
    assert 0 <= result.low <= result.accuracy <= result.high <= 1
    assert [(one.name, one.images) for one in result.classes] == [("round", 12), ("striped", 12)]
    assert len(result.sources) == len(result.targets) == len(result.scores) == 24
    assert result.scores.dtype == np.float32
    assert np.allclose(result.scores.sum(axis=1), 1, atol=1e-5)
    assert result.confusion.sum() == 24
    assert np.trace(result.confusion) / 24 == pytest.approx(result.accuracy)
    assert result.plain_accuracy == result.accuracy  # as many of each: no prior to take away
    assert result.calibration.shift is None
    assert len(result.mistakes) == round(24 * (1 - result.accuracy))
    assert result.curve[-1].images == 24
    assert repr(result).startswith(f"<TrainingResult {photos.name}@")
    assert "12 images, recall" in result._repr_html_()
    json.dumps(result.to_dict())


def test_a_bundle_gives_features_times_head(result, tmp_path):
    result.save(tmp_path / "mine.toplabel")
    saved = toplabel.load(tmp_path / "mine.toplabel")
    assert saved.labels.names == ("round", "striped")
    images = [draw("round", 50), draw("striped", 51)]
    features = toplabel.load().embed(images)
    own = saved.embed(images)
    assert np.abs(own - features).max() < 1e-4 * np.abs(features).max()
    labeller = saved.batch_labeller(exact=True, keep_logits=True)
    logits = np.stack([one.logits for one in labeller.label(list(enumerate(images)))])
    again = result.predictor.batch_labeller(exact=True, keep_logits=True)
    expected = np.stack([one.logits for one in again.label(list(enumerate(images)))])
    assert np.abs(logits - expected).max() < 1e-4


def test_the_same_images_make_the_same_bytes(photos, tmp_path, result, new_cache):
    again = toplabel.train(photos)  # all is computed again
    for name, one in (("a", result), ("b", again)):
        one.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_trained_bundle_says_what_it_was_trained_on_and_no_paths(result, photos, tmp_path):
    result.save(tmp_path / "mine.toplabel")
    from toplabel.bundle.file import describe_packed

    facts = describe_packed(tmp_path / "mine.toplabel")["training"]
    assert facts["images"] == 24
    assert facts["classes"] == CLASSES
    assert facts["accuracy"] == pytest.approx(result.accuracy, abs=1e-4)
    assert "000.png" not in (tmp_path / "mine.toplabel").read_bytes().decode("latin-1")


@pytest.mark.slow
def test_a_trained_model_can_be_trained_on(result, photos, tmp_path):
    result.save(tmp_path / "mine.toplabel")
    again = toplabel.train(photos, model=tmp_path / "mine.toplabel")
    assert np.abs(again.scores - result.scores).max() < 1e-3


def test_unreadable_images_are_records_and_a_line(photos, tmp_path):
    folder = draw_folder(tmp_path / "photos", {"round": 4, "striped": 4})
    (folder / "round" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (folder / "striped" / "empty.png").write_bytes(b"")
    (folder / "striped" / "bomb.png").write_bytes(Image.new("L", (1, 1)).tobytes() * 9)
    with pytest.warns(toplabel.ToplabelWarning, match="3 of 11 images could not be read"):
        result = toplabel.train(folder)
    assert len(result.sources) == 8
    assert [one.source.rpartition("/")[2] for one in result.unreadable] == [
        "broken.jpg",
        "bomb.png",
        "empty.png",
    ]
    assert {one.code for one in result.unreadable} <= set(toplabel.errors.ERROR_CODES)


def test_features_are_kept_for_the_next_start(photos, new_cache):
    done = []
    toplabel.train(photos, progress=lambda *counts: done.append(counts))
    assert done[-1] == (24, 0)
    done.clear()
    second = toplabel.train(photos, progress=lambda *counts: done.append(counts))
    assert done == []
    assert second.accuracy > 0.8


@pytest.mark.slow
def test_a_file_that_changed_is_read_again(tmp_path, new_cache):
    folder = draw_folder(tmp_path / "photos", {"round": 4, "striped": 4})
    toplabel.train(folder)
    draw("striped", 77).save(folder / "striped" / "000.png")
    done = []
    toplabel.train(folder, progress=lambda *counts: done.append(counts))
    assert len(done) == 1


def test_an_interrupted_start_keeps_what_it_computed(photos, new_cache):
    def stop(done, failed):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toplabel.train(photos, progress=stop)
    done = []
    toplabel.train(photos, progress=lambda *counts: done.append(counts))
    assert done[0] == (11, 0)


def test_classes_that_differ_in_number_are_balanced(tmp_path):
    folder = draw_folder(tmp_path / "photos", {"round": 12, "striped": 4})
    result = toplabel.train(folder)
    assert result.calibration.trained_prior == pytest.approx((0.75, 0.25))
    assert result.calibration.prior == (0.5, 0.5)
    assert result.predictor.classifier.calibration.shift is not None
    plain = toplabel.train(folder, prior="as-trained")
    assert plain.calibration.prior is None
    # what is kept of both is the same but for the prior
    assert result.plain_accuracy == plain.accuracy
    stated = toplabel.train(folder, prior={"striped": 0.1, "round": 0.9})
    assert stated.calibration.prior == pytest.approx((0.9, 0.1))


def test_a_prior_that_names_no_class_is_refused(photos):
    with pytest.raises(toplabel.ToplabelError, match="oval"):
        toplabel.train(photos, prior="oval=0.5,round=0.5")


def test_a_table_names_images_and_classes(tmp_path, photos):
    rows = [f"{path},{path.parent.name}" for path in sorted(photos.glob("*/00[0-5].png"))]
    table = tmp_path / "list.csv"
    table.write_text("\n".join(["path,label", *rows, f"{tmp_path}/none.png,round"]))
    with pytest.warns(toplabel.ToplabelWarning, match="1 of 13 images could not be read"):
        result = toplabel.train(table)
    assert result.unreadable[0].code == "not_found"
    assert [one.images for one in result.classes] == [6, 6]


def test_too_few_images_are_named(tmp_path):
    folder = draw_folder(tmp_path / "photos", {"round": 4, "striped": 2})
    with pytest.raises(UsageError, match="'striped' has 2; expected at least 3 in each class"):
        toplabel.train(folder)
    draw_folder(folder, {"striped": 3})
    assert toplabel.train(folder).folds == 3


def test_one_class_is_not_enough(tmp_path):
    with pytest.raises(UsageError, match="one class, 'round'; expected two classes or more"):
        toplabel.train(draw_folder(tmp_path / "photos", {"round": 4}))


def test_three_copies_are_not_three_images(tmp_path):
    folder = draw_folder(tmp_path / "photos", {"round": 4, "striped": 1})
    for name in ("b.png", "c.bmp"):
        draw("striped", 0).save(folder / "striped" / name)
    with pytest.raises(UsageError, match="too few different images: 'striped' has 1"):
        toplabel.train(folder)


def test_images_that_are_all_nearly_alike_are_told_of(tmp_path):
    folder = draw_folder(tmp_path / "photos", {"round": 4, "striped": 1})
    for number in range(1, 5):
        image = draw("striped", 0)
        image.putpixel((40 + number, 40), (255, 0, 0))
        image.save(folder / "striped" / f"{number:03}.png")
    with pytest.warns(toplabel.ToplabelWarning, match="'striped' are nearly copies"):
        toplabel.train(folder)


def test_an_image_under_two_classes_is_told_of(tmp_path):
    folder = draw_folder(tmp_path / "photos", {"round": 5, "striped": 5})
    draw("round", 0).save(folder / "striped" / "again.bmp")
    with pytest.warns(toplabel.ToplabelWarning, match="stands under several classes") as caught:
        result = toplabel.train(folder)
    text = next(str(one.message) for one in caught if "several" in str(one.message))
    assert "round/000.png (round)" in text
    assert "striped/again.bmp (striped)" in text
    assert result.copies[0].contradictory


def test_classes_that_differ_in_case_alone_are_told_of(tmp_path):
    folder = draw_folder(tmp_path / "photos", {"round": 3, "Round": 3, "striped": 3})
    with pytest.warns(toplabel.ToplabelWarning, match="'Round', 'round' differ only in case"):
        toplabel.train(folder)


def test_class_folders_without_images_are_told_of(tmp_path):
    folder = draw_folder(tmp_path / "photos", {"round": 3, "striped": 3})
    (folder / "grid").mkdir()
    with pytest.warns(toplabel.ToplabelWarning, match="left out 'grid': no images in it"):
        result = toplabel.train(folder)
    assert len(result.classes) == 2


def test_a_divided_data_set_is_not_taken_for_classes(tmp_path):
    for part in ("train", "val"):
        draw_folder(tmp_path / part, {"round": 3, "striped": 3})
    with pytest.raises(UsageError, match=r"parts of a divided data set \('train', 'val'\)"):
        toplabel.train(tmp_path)


def test_folders_without_images_or_labels_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="there are no images in the folder"):
        toplabel.train(tmp_path / "empty")
    with pytest.raises(UsageError, match="no such file or folder"):
        toplabel.train(tmp_path / "nowhere")


def test_a_class_name_that_is_no_text_is_refused(tmp_path):
    folder = draw_folder(tmp_path / "photos", {"round": 3, "striped": 3})
    (folder / "round").rename(folder / "r\udcffnd")
    with pytest.raises(LabelsError, match="not valid text"):
        toplabel.train(folder)


def _toplabel(*arguments, cwd):
    command = [sys.executable, "-m", "toplabel", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=cwd)


def test_the_command_trains_saves_and_says_how_good_it_is(photos, tmp_path):
    done = _toplabel("train", photos, "-o", "mine.toplabel", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "24 images of 2 classes" in done.stdout
    assert "on images not used in fitting" in done.stdout
    assert "saved to mine.toplabel" in done.stderr
    draw("striped", 200).save(tmp_path / "new.png")
    label = _toplabel("new.png", "-m", "mine.toplabel", "-q", cwd=tmp_path)
    assert label.stdout == "striped\n"
    inspected = _toplabel("inspect", "mine.toplabel", cwd=tmp_path)
    assert "24 images of 2 classes" in inspected.stdout


def test_the_command_prints_one_object_and_fails_for_unreadable_images(tmp_path):
    folder = draw_folder(tmp_path / "photos", {"round": 3, "striped": 3})
    (folder / "round" / "bad.png").write_bytes(b"no")
    done = _toplabel("train", folder, "-o", "mine.toplabel", "--json", cwd=tmp_path)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["output"] == "mine.toplabel"
    assert found["unreadable"][0]["source"].endswith("bad.png")
    assert "left out" in done.stderr


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        ("nowhere/mine.toplabel", "there is no folder"),
        (".", "exists and is not a file"),
        ("notes.txt", "a file that is not a bundle exists there"),
    ],
)
def test_the_command_refuses_a_target_before_it_reads_an_image(tmp_path, output, complaint):
    (tmp_path / "notes.txt").write_text("mine")
    done = _toplabel("train", "nowhere", "-o", output, cwd=tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_base_install_trains(photos, tmp_path):
    """Nothing of PyTorch, ONNX, scikit-learn, SciPy or pandas is imported."""
    code = (
        "import sys, toplabel\n"
        f"toplabel.train({str(photos)!r}).save('mine.toplabel')\n"
        "found = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(found & {'torch', 'onnx', 'sklearn', 'scipy', 'pandas', 'matplotlib'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, cwd=tmp_path
    )
    assert done.stdout == "[]\n", done.stderr


# Going on from a model that was trained before


@pytest.fixture(scope="module")
def saved(result, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "mine.toplabel"
    result.save(path)
    return path


def test_a_class_is_added_and_nothing_is_forgotten(saved, tmp_path):
    more = draw_folder(tmp_path / "more", {"grid": 10})
    result = toplabel.train(more, previous=saved)
    assert result.predictor.labels.names == ("round", "striped", "grid")
    assert [one.images for one in result.classes] == [12, 12, 10]
    assert result.bundle.training["classes"] == {"round": 12, "striped": 12, "grid": 10}
    right = [result.predictor(draw(k, n)).label == k for k in CLASSES for n in range(100, 110)]
    assert sum(right) >= 18
    assert sum(result.predictor(draw("grid", n)).label == "grid" for n in range(100, 105)) >= 4
    assert all("kept image" not in one.source for one in result.mistakes)


@pytest.mark.slow
def test_more_images_of_a_class_come_to_those_before(saved, photos, tmp_path):
    more = draw_folder(tmp_path / "more", {"round": 5, "striped": 2}, first=10)
    result = toplabel.train(more, previous=saved)  # 010 and 011 were there before
    assert result.bundle.training["classes"] == {"round": 15, "striped": 12}
    both = draw_folder(tmp_path / "both", {"round": 15, "striped": 12})
    together = toplabel.train(both)
    images = [draw(kind, number) for kind in CLASSES for number in range(100, 106)]
    one, other = (
        np.stack([p.score for p in model(images)])
        for model in (result.predictor, together.predictor)
    )
    assert np.abs(one - other).max() < 0.12  # features are kept in 8 bits, folds are others


def test_what_keeps_nothing_cannot_be_gone_on_from(photos, tmp_path):
    result = toplabel.train(photos, no_unknown=True)
    assert not result.bundle.memories
    assert result.unknown is None
    result.save(tmp_path / "mine.toplabel")
    with pytest.raises(toplabel.ModelError, match="keeps nothing of its training images"):
        toplabel.train(photos, previous=tmp_path / "mine.toplabel")
    toplabel.load().save(tmp_path / "plain.toplabel")
    with pytest.raises(toplabel.ModelError, match="does not come from toplabel train"):
        toplabel.train(photos, previous=tmp_path / "plain.toplabel")


@pytest.mark.slow
def test_images_beyond_those_that_tell_unknown_ones_are_kept_too(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("toplabel.training.unknown.MOST_KEPT", 10)
    result = toplabel.train(photos)
    result.save(tmp_path / "mine.toplabel")
    bundle = toplabel.load(tmp_path / "mine.toplabel").classifier.bundle
    assert {name: len(one.rows) for name, one in bundle.memories.items()} == {
        "unknown.npy": 10,
        "examples.npy": 14,
    }
    more = draw_folder(tmp_path / "more", {"grid": 5})
    again = toplabel.train(more, previous=tmp_path / "mine.toplabel")
    assert again.bundle.training["classes"] == {"round": 12, "striped": 12, "grid": 5}


def test_a_model_and_one_before_contradict_each_other(photos):
    with pytest.raises(UsageError, match="got model=... and previous=..."):
        toplabel.train(photos, model="resnet50", previous="mine.toplabel")
