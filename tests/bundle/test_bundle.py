"""Bundles: the embedded one, reading, damage, and what must fit together."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from toplabel._internal.notices import Notice
from toplabel.bundle.bundle import Bundle, built_in_bundle
from toplabel.bundle.reference import ReferenceOutputs
from toplabel.errors import BundleError, LabelsError
from toplabel.labels.labels import Labels

EMBEDDED = built_in_bundle().program.path.parent


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EMBEDDED, tmp_path / "bundle"))


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_built_in_bundle_knows_its_labels_preprocessing_and_licence() -> None:
    bundle = built_in_bundle()
    assert len(bundle.labels) == bundle.program.outputs == 1000
    assert bundle.labels[281] == "tabby"
    assert bundle.labels.ids is not None
    assert bundle.labels.ids[281] == "n02123045"
    assert bundle.preprocess.input_size == (224, 224)
    assert bundle.preprocess.interpolation == "bicubic"
    assert bundle.preprocess.mean == (0.5, 0.5, 0.5)
    assert bundle.provenance["licence"] == "Apache-2.0"
    assert bundle.name.startswith("embedded/efficientnet_lite0@")


def test_a_bundle_survives_writing_and_reading(copy: Path) -> None:
    bundle = Bundle.read(copy)
    bundle.write(copy)
    assert Bundle.read(copy) == bundle


def test_what_was_noticed_keeps_its_order_and_what_it_is_about(copy: Path) -> None:
    noticed = (Notice("a guess"), Notice("no names", "labels"), Notice("another\nguess"))
    bundle = Bundle.read(copy).with_warnings(noticed)
    bundle.write(copy)
    found = Bundle.read(copy).warnings
    assert found == ("a guess", "no names", "another guess")
    assert [notice.about for notice in found] == [None, "labels", None]
    assert "doubts" not in Bundle.read(copy).with_warnings(()).provenance


def test_its_reference_outputs_mean_something() -> None:
    reference = ReferenceOutputs.load(built_in_bundle().program.reference_path)
    assert len(reference.pixels) >= 8
    assert len(set(reference.logits.argmax(axis=1).tolist())) >= 4
    assert np.ptp(reference.logits) > 5


def test_a_manifest_that_is_missing_or_no_json_is_named(copy: Path) -> None:
    for text in ("{", "[" * 100_000):
        (copy / "manifest.json").write_text(text)
        with pytest.raises(BundleError, match="cannot read the bundle at .*: manifest.json: "):
            Bundle.read(copy)
    (copy / "manifest.json").write_text("[]")
    with pytest.raises(BundleError, match="manifest.json is not a JSON object"):
        Bundle.read(copy)
    with pytest.raises(BundleError, match="cannot read the bundle at"):
        Bundle.read(copy / "nowhere")


def test_a_newer_schema_says_to_upgrade(copy: Path) -> None:
    edit_manifest(copy, schema=99)
    with pytest.raises(BundleError, match="schema 99.*upgrade toplabel"):
        Bundle.read(copy)


def test_a_manifest_of_another_program_is_refused(copy: Path) -> None:
    edit_manifest(copy, program="0" * 64)
    with pytest.raises(BundleError, match="is for a program other than"):
        Bundle.read(copy)


@pytest.mark.parametrize(
    "change", [{"labels": None}, {"preprocess": {"mean": 3}}, {"activation": "relu"}]
)
def test_a_manifest_with_wrong_content_is_damaged(copy: Path, change: dict[str, object]) -> None:
    edit_manifest(copy, **change)
    with pytest.raises(BundleError, match="manifest is damaged"):
        Bundle.read(copy)


def test_labels_that_do_not_fit_the_outputs_are_refused() -> None:
    with pytest.raises(LabelsError, match="2 labels for a model with 1,000 outputs"):
        replace(built_in_bundle(), labels=Labels(("a", "b")))


def test_a_preprocessing_that_does_not_fit_the_program_is_refused() -> None:
    bundle = built_in_bundle()
    other = replace(bundle.preprocess, input_size=(192, 192))
    with pytest.raises(
        BundleError, match=r"\(3, 192, 192\), but the program takes \(3, 224, 224\)"
    ):
        replace(bundle, preprocess=other)
