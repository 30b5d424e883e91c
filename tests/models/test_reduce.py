"""Reducing: a program in int8 that passes its gates, or why there is none; kept and packed."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toplabel
from quantised_material import drawn_images, make_bundle, network
from toplabel.bundle.bundle import Bundle
from toplabel.bundle.cache import list_entries, reduced_folder
from toplabel.bundle.file import describe_packed, open_packed, pack
from toplabel.bundle.reduced import ReducedProgram, find_reduced, with_reduced_here
from toplabel.bundle.reference import ReferenceOutputs
from toplabel.errors import BundleError, UsageError
from toplabel.image.options import ReadOptions
from toplabel.inference.classifier import Classifier
from toplabel.inference.engines import Engine
from toplabel.inference.predictor import Predictor
from toplabel.models import optimize as optimizing, reduce as reducing
from toplabel.models.optimize import Optimized, optimize
from toplabel.models.reduce import INT8, LEAST_IMAGES, Timing, Way, reduce
from toplabel.preprocess.preprocess import Preprocess

IMAGES = drawn_images(LEAST_IMAGES + 40)


def reduced_engine(bundle: Bundle, **options: Any) -> Engine:
    assert bundle.reduced is not None
    program = bundle.reduced.as_program(bundle.program)
    return Classifier.of_bundle(replace(bundle, program=program)).open_engine(1, **options)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor on which int8 is twice as fast, however busy this one is; without OpenVINO."""
    monkeypatch.setattr(reducing, "time_both", lambda *_, **__: Timing(exact=2.0, reduced=1.0))
    monkeypatch.setattr(optimizing, "WAYS", (INT8,))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "made")


@pytest.fixture(scope="module")
def reduced(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with both programs; its files are not to be changed."""
    folder = tmp_path_factory.mktemp("reduced")
    bundle = make_bundle(folder / "made")
    (folder / "in int8").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reducing, "time_both", lambda *_, **__: Timing(exact=2.0, reduced=1.0))
        found = reduce(bundle, IMAGES, folder / "in int8")
    assert found.reason == ""
    return replace(bundle, reduced=found.program)


def test_a_reduced_program_keeps_labels_beyond_its_margin_on_images_it_never_saw(
    reduced: Bundle,
) -> None:
    program = reduced.reduced
    assert program is not None
    assert (program.precision, program.engine, program.images) == ("int8", "onnxruntime", 256)
    assert (program.margin.images, program.margin.changed) == (112, 0)
    assert program.margin.features is not None
    batch = np.stack([reduced.preprocess(one) for one in drawn_images(200, seed=7)])
    exact, fast = (
        Classifier.of_bundle(reduced).open_engine(1)(batch),
        reduced_engine(reduced)(batch),
    )
    first, second = np.sort(fast, axis=1)[:, [-1, -2]].T
    sure = first - second >= program.margin.logits
    assert sure.mean() > 0.5
    np.testing.assert_array_equal(exact.argmax(axis=1)[sure], fast.argmax(axis=1)[sure])


def test_its_engine_gives_features_too(reduced: Bundle) -> None:
    tensor = reduced.preprocess(IMAGES[0])[None]
    _, rows = reduced_engine(reduced, features=True).answer(tensor)
    assert rows.shape == (1, 16)


def test_openvino_is_one_more_way_with_a_margin_of_its_own(
    bundle: Bundle, fast: None, tmp_path: Path
) -> None:
    openvino = pytest.importorskip("openvino")
    has_bfloat16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    batch = np.stack([bundle.preprocess(one) for one in drawn_images(50, seed=7)])
    exact = Classifier.of_bundle(bundle).open_engine(1)(batch)
    for way in (Way("int8", "openvino"), Way("bfloat16", "openvino")):
        folder = tmp_path / way.precision
        folder.mkdir()
        found = reduce(bundle, IMAGES, folder, way=way)
        if way.precision == "bfloat16" and not has_bfloat16:
            assert "does not compute in bfloat16" in found.reason
            continue
        program = found.program
        assert program is not None
        assert (program.precision, program.engine) == (way.precision, "openvino")
        open_reduced = Classifier.of_bundle(replace(bundle, reduced=program)).open_reduced
        assert open_reduced is not None
        engine = open_reduced(1)
        assert engine.name == "openvino"
        given = engine(batch)
        assert 0 < np.abs(given - exact).max() < np.ptp(exact) / 10
        first, second = np.sort(given, axis=1)[:, [-1, -2]].T
        sure = first - second >= program.margin.logits
        np.testing.assert_array_equal(exact.argmax(axis=1)[sure], given.argmax(axis=1)[sure])


def test_one_that_gives_other_logits_here_is_not_opened(reduced: Bundle, tmp_path: Path) -> None:
    program = reduced.reduced
    assert program is not None
    reference = ReferenceOutputs.load(program.reference_path)
    for moved, refused in ((program.margin.logits / 6, False), (program.margin.logits / 4, True)):
        path = tmp_path / f"{refused}.npz"
        replace(reference, logits=reference.logits + np.float32(moved)).save(path)
        other = replace(program, key=f"{refused:x}" * 64, reference_path=path)
        if refused:
            with pytest.raises(BundleError, match="no longer gives the logits it was checked with"):
                reduced_engine(replace(reduced, reduced=other))
        else:
            assert reduced_engine(replace(reduced, reduced=other)) is not None


def test_scores_may_move_by_less_than_logits_where_a_reduced_program_is_new(
    reduced: Bundle, tmp_path: Path
) -> None:
    program = reduced.reduced
    assert program is not None
    reference = ReferenceOutputs.load(program.reference_path)
    moved = tmp_path / "moved.npz"
    replace(reference, logits=reference.logits + np.float32(program.margin.logits / 6)).save(moved)
    other = replace(reduced, reduced=replace(program, key="e" * 64, reference_path=moved))
    of_logits, of_scores = (
        Classifier.of_bundle(replace(other, activation=name)).open_reduced
        for name in ("softmax", "none")
    )
    assert of_logits is not None
    assert of_scores is not None
    with pytest.raises(BundleError, match="no longer gives the logits it was checked with"):
        of_scores(1)
    assert of_logits(1) is not None


def test_too_few_images_are_refused_with_what_more_would_show(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=r"got 215 images; .* at least 216, .* all but 3 % of im"):
        optimize(Predictor(Classifier.of_bundle(bundle)), IMAGES[:215])


def test_images_that_cannot_be_read_do_not_count(
    bundle: Bundle, fast: None, tmp_path: Path
) -> None:
    images = [*IMAGES[:200], *[b"no image"] * 40]
    with pytest.raises(UsageError, match="images that can be read; reduced precision needs"):
        reduce(bundle, images, tmp_path)


def test_images_are_read_as_the_predictor_reads_them(
    reduced: Bundle, bundle: Bundle, fast: None
) -> None:
    predictor = Predictor(Classifier.of_bundle(bundle), read=ReadOptions(bgr=True))
    optimize(predictor, [np.ascontiguousarray(image[..., ::-1]) for image in IMAGES])
    found, expected = find_reduced(bundle), reduced.reduced
    assert found is not None
    assert expected is not None
    assert found.key == expected.key  # the same bytes, as the same pixels have calibrated


@pytest.mark.parametrize(
    ("timing", "reason"),
    [
        pytest.param(
            Timing(exact=1.0, reduced=1.0),
            "int8 is 1.00 times as fast as float32 on this processor; it is used from 1.1 times",
            id="slow",
        ),
        pytest.param(Timing(exact=1.11, reduced=1.0), "are computed again, which leaves", id="net"),
    ],
)
def test_what_is_not_faster_is_not_used(
    timing: Timing, reason: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reducing, "time_both", lambda *_, **__: timing)
    found = reduce(bundle, IMAGES, tmp_path / "made")
    assert found.program is None
    assert reason in found.reason


def test_labels_that_do_not_agree_are_told(
    bundle: Bundle, fast: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reducing, "LEAST_AGREEMENT", 1.01)
    (folder := tmp_path / "reduced").mkdir()
    found = reduce(bundle, IMAGES, folder)
    assert found.program is None
    assert found.reason.endswith("agree, of 101 % needed")
    assert list(folder.iterdir()) == []


def test_a_depth_wise_network_keeps_the_better_of_its_attempts(fast: None, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "made", network(depthwise=True, layers=5))
    (folder := tmp_path / "reduced").mkdir()
    found = reduce(bundle, IMAGES, folder)
    assert found.program is not None
    assert sorted(path.name for path in folder.iterdir()) == ["reduced.npz", "reduced.onnx"]
    assert found.program.path.is_file()
    copies = [entry.name for entry in list_entries() if entry.name.startswith("optimised/")]
    assert sorted(copies) == sorted(
        f"optimised/{key}" for key in (bundle.program.key, found.program.key)
    )


# Kept in the cache


@pytest.fixture
def optimized(bundle: Bundle, fast: None) -> Optimized:
    return optimize(Predictor(Classifier.of_bundle(bundle)), IMAGES)


def test_what_optimize_finds_is_kept_for_the_same_question(
    bundle: Bundle, optimized: Optimized
) -> None:
    exact, int8 = optimized.candidates
    assert (exact.name, int8.name, optimized.kept) == ("float32", "int8", int8)
    assert (int8.speedup, int8.images) == (2.0, 224)
    found = find_reduced(bundle)
    assert found is not None
    assert found.path.parent == reduced_folder(bundle.program.key)
    assert with_reduced_here(bundle).reduced == found
    renamed = replace(bundle, labels=toplabel.Labels(tuple("abcde")))
    assert find_reduced(renamed) == found
    other = replace(bundle, preprocess=replace(bundle.preprocess, mean=(0.4,) * 3))
    assert find_reduced(other) is None
    assert with_reduced_here(other) is other
    names = [entry.name for entry in list_entries()]
    assert f"reduced/{bundle.program.key}" in names
    kept = json.loads((found.path.parent / "reduced.json").read_text())
    assert kept["measured"]["int8"]["kept"] is True


def test_a_damaged_description_means_the_exact_program(
    bundle: Bundle, optimized: Optimized
) -> None:
    description = reduced_folder(bundle.program.key) / "reduced.json"
    kept = json.loads(description.read_text())
    for changed in (
        {**kept, "schema": 99},
        {**kept, "reduced": {**kept["reduced"], "engine": "other"}},
        {**kept, "reduced": {**kept["reduced"], "unheard_of": 1}},
        {**kept, "reduced": {}},
    ):
        description.write_text(json.dumps(changed))
        assert find_reduced(bundle) is None


def test_what_is_no_faster_here_is_not_used_though_a_bundle_brings_it(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with toplabel.load(packed, fast=True) as model:
        assert model.reduced is not None
    monkeypatch.setattr(reducing, "time_both", lambda *_, **__: Timing(exact=1.0, reduced=1.0))
    optimize(packed, IMAGES)
    with toplabel.load(packed, fast=True) as model:
        assert model.reduced is None


def test_where_nothing_may_be_used_what_was_kept_before_is_gone(
    bundle: Bundle, optimized: Optimized, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reducing, "time_both", lambda *_, **__: Timing(exact=1.0, reduced=1.0))
    again = optimize(Predictor(Classifier.of_bundle(bundle)), IMAGES)
    assert again.kept.name == "float32"
    assert again.candidates[1].reason.startswith("int8 is 1.00 times as fast")
    assert find_reduced(bundle) is None
    (description,) = reduced_folder(bundle.program.key).iterdir()
    assert json.loads(description.read_text())["measured"]["int8"]["speedup"] == 1.0


def test_a_fast_predictor_uses_what_was_kept_and_another_does_not(
    packed_exact: Path, fast: None
) -> None:
    with toplabel.load(packed_exact, fast=True) as model:
        assert model.reduced is None
    found = optimize(packed_exact, IMAGES)
    with toplabel.load(packed_exact, fast=True) as model:
        assert model.reduced is not None
        assert model.reduced.margin.again == found.kept.again
        answers = [model(image) for image in drawn_images(30, seed=9)]
        assert "int8" in {one.precision for one in answers}
    with toplabel.load(packed_exact) as exact:
        labels = [exact(image).label for image in drawn_images(30, seed=9)]
        assert exact.classifier.bundle is not None
        assert exact.classifier.bundle.reduced is None
    assert [one.label for one in answers] == labels


def test_another_processor_computes_exactly_and_says_why_once(
    packed_exact: Path, fast: None, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    from toplabel.bundle import reduced as storage

    monkeypatch.setattr(reducing.platform, "multiplies_bytes_exactly", lambda: True)
    monkeypatch.setattr(storage, "multiplies_bytes_exactly", lambda: False)
    optimize(packed_exact, IMAGES)
    with toplabel.load(packed_exact, fast=True) as model:
        assert {model(image).precision for image in IMAGES[:3]} == {None}
    (line,) = [one.getMessage() for one in caplog.records if "VNNI" in one.getMessage()]
    assert "cannot be used here: its int8 weights need a processor with VNNI" in line


# Packed


@pytest.fixture
def packed_exact(bundle: Bundle, tmp_path: Path) -> Path:
    path = tmp_path / "exact.toplabel"
    pack(bundle, path)
    return path


@pytest.fixture
def packed(reduced: Bundle, tmp_path: Path) -> Path:
    path = tmp_path / "both.toplabel"
    pack(reduced, path)
    return path


def test_a_packed_bundle_carries_both_programs(reduced: Bundle, packed: Path) -> None:
    opened = open_packed(packed)
    assert opened.reduced is not None
    assert reduced.reduced is not None
    key = opened.reduced.key  # follows from the file's contents
    assert opened.reduced.to_dict() == replace(reduced.reduced, key=key).to_dict()
    tensor = reduced.preprocess(IMAGES[0])[None]
    np.testing.assert_array_equal(reduced_engine(opened)(tensor), reduced_engine(reduced)(tensor))
    described = describe_packed(packed)
    assert described["verified"] is True
    assert (described["format"], described["reduced"]["precision"]) == (3, "int8")
    assert {"reduced.onnx", "reduced.npz"} <= set(described["members"])
    again = packed.with_name("again.toplabel")
    pack(open_packed(packed), again)
    assert again.read_bytes() == packed.read_bytes()


def test_without_a_reduced_program_the_format_is_as_before(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "one.toplabel"
    pack(bundle, path)
    assert describe_packed(path)["format"] == 1


def _other_output(members: dict[str, bytes]) -> None:
    members["reduced.onnx"] = network(layers=1).SerializeToString().replace(b"logits", b"others")


def _other_reference(members: dict[str, bytes]) -> None:
    members["reduced.npz"] = b"PK\x05\x06" + bytes(18)


def _none(members: dict[str, bytes]) -> None:
    del members["reduced.onnx"]


def _no_program(members: dict[str, bytes]) -> None:
    members["reduced.onnx"] = b"no program"


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        pytest.param(_other_output, "other inputs or outputs than program.onnx", id="output"),
        pytest.param(_other_reference, "cannot read the reference outputs", id="reference"),
        pytest.param(_none, "disagree on 'reduced.onnx'", id="none"),
        pytest.param(_no_program, "reduced.onnx", id="no program"),
    ],
)
def test_a_strangers_reduced_program_is_checked_as_the_other_one(
    edit: Callable[[dict[str, bytes]], None], error: str, packed: Path
) -> None:
    from bundle.test_file import rewrite

    rewrite(packed, edit, rehash=True)
    with pytest.raises(BundleError, match=error):
        open_packed(packed)


def test_a_changed_margin_is_a_changed_file(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    manifest["reduced"]["margin"]["logits"] = 0.0
    members["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(BundleError, match="was modified after it was packed: manifest.json"):
        open_packed(packed)


def test_weights_of_eight_bits_are_not_used_where_their_sums_overflow(
    reduced: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toplabel.bundle import reduced as storage

    program = reduced.reduced
    assert program is not None
    monkeypatch.setattr(storage, "multiplies_bytes_exactly", lambda: False)
    why = replace(program, bits=8).why_not_here
    assert why is not None
    assert why.startswith("its int8 weights need a processor with VNNI, as the ")
    assert replace(program, bits=7).why_not_here is None
    assert replace(program, precision="bfloat16").why_not_here is None


def test_another_preprocessing_leaves_the_reduced_program_out(packed: Path) -> None:
    other = Preprocess(input_size=(24, 24), resize_mode="none", mean=(0.4,) * 3, std=(0.5,) * 3)
    with toplabel.load(packed) as model:
        assert model.classifier.bundle is not None
        assert isinstance(model.classifier.bundle.reduced, ReducedProgram)
    with toplabel.load(packed, preprocess=other) as model:
        assert model.classifier.bundle is not None
        assert model.classifier.bundle.reduced is None


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_built_in_model_keeps_its_labels_on_photos_that_no_margin_was_found_on(
    shared_data: Path, fast: None
) -> None:
    photos = [str(path) for path in sorted((shared_data / "imagenet").iterdir())]
    flowers = sorted((shared_data / "train" / "flowers").rglob("*.jpg"))
    seen, unseen = (
        [*photos[::2], *map(str, flowers[::4])],
        [*photos[1::2], *map(str, flowers[1::4])],
    )
    found = optimize(None, seen)
    assert found.kept.name == "int8"
    assert found.kept.again is not None
    assert found.kept.again < 0.4
    with toplabel.load(fast=True) as model:
        answers = model(unseen)
    with toplabel.load() as model:
        labels = [one.label for one in model(unseen)]
    assert [one.label for one in answers] == labels
    assert sum(one.precision == "int8" for one in answers) > len(unseen) / 2
