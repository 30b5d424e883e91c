"""What tells unknown images, in a bundle: packed, opened, damaged, left out, not passed over."""

import io
import json
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import toplabel
from run_material import RECIPE, draw_colours
from toplabel.bundle.bundle import Bundle
from toplabel.bundle.file import describe_packed, open_packed, pack, sealed
from toplabel.bundle.unknown import UNKNOWN_NAME, Memory, in_words
from toplabel.errors import BundleError
from toplabel.inference.classifier import Classifier
from toplabel.inference.predictor import Predictor
from toplabel.models.card import model_card
from unknown_material import draw_unknown, unknown_bundle

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return unknown_bundle(tmp_path_factory.mktemp("model"))


@pytest.fixture
def packed(bundle: Bundle, tmp_path: Path) -> Path:
    path = tmp_path / "one.toplabel"
    pack(bundle, path)
    return path


def unknown_of(bundle: Bundle, *images: str) -> list[bool | None]:
    return [one.unknown for one in Predictor(Classifier.of_bundle(bundle)).stream(images)]


def test_it_survives_packing_and_pickling(bundle: Bundle, packed: Path, tmp_path: Path) -> None:
    red, *_ = draw_colours(tmp_path / "photos", 3)
    grey = draw_unknown(tmp_path / "grey.png")
    opened = open_packed(packed)
    assert opened.unknown == bundle.unknown
    for one in (bundle, opened, open_packed(packed), pickle.loads(pickle.dumps(opened))):
        assert unknown_of(one, red, grey) == [False, True]
    again = tmp_path / "again.toplabel"
    pack(opened, again)
    assert again.read_bytes() == packed.read_bytes()
    assert toplabel.load(packed)(grey).label == "red"  # the label stays


def test_it_is_written_beside_a_program_too(packed: Path, tmp_path: Path) -> None:
    opened = open_packed(packed)
    folder = Path(shutil.copytree(opened.program.path.parent, tmp_path / "folder"))
    opened.write(folder)
    assert Bundle.read(folder).unknown == opened.unknown


def test_without_it_no_trace_of_the_training_images_is_left(packed: Path, tmp_path: Path) -> None:
    opened = open_packed(packed)
    assert opened.unknown is not None
    features = opened.unknown.memory.rows["row"]
    plain = tmp_path / "plain.toplabel"
    pack(replace(opened, unknown=None), plain)
    with zipfile.ZipFile(plain) as file:
        assert UNKNOWN_NAME not in file.namelist()
        manifest = json.loads(file.read("manifest.json"))
    content = plain.read_bytes()
    assert "unknown" not in manifest
    assert not any(row.tobytes() in content for row in features[:, :3] if np.ptp(row) > 0)
    assert not any(row.tobytes() in content for row in opened.unknown.memory.features)
    assert UNKNOWN_NAME.encode() not in content
    assert toplabel.load(plain)(draw_unknown(tmp_path / "grey.png")).unknown is None


def test_inspect_says_it_and_an_older_toplabel_does_not_pass_it_over(packed: Path) -> None:
    described = describe_packed(packed)
    assert described["unknown"]["images"] == 60
    assert described["verified"] is True
    said = "flags images unlike its training images (5 % of images like them, too, measured on 60)"
    assert said in in_words(described["unknown"])
    assert said in model_card(described, ("red", "green", "blue"))
    assert "damaged" in in_words({"threshold": "1"})
    assert (described["format"], open_packed(packed).to_manifest()["schema"]) == (2, 3)


def rewrite(path: Path, changes: dict[str, bytes | None], **manifest: object) -> None:
    """The packed file with other members and another manifest, its hashes and seal right."""
    import hashlib

    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    known = json.loads(members["manifest.json"]) | manifest
    members |= {name: content for name, content in changes.items() if content is not None}
    known = {k: v for k, v in known.items() if v is not None}
    for name in [name for name, content in changes.items() if content is None]:
        del members[name], known["files"][name]
    for name in known["files"].keys() | changes.keys() & members.keys():
        known["files"][name] = hashlib.sha256(members[name]).hexdigest()
    members["program.json"] = _with_key(members, known)
    known["files"]["program.json"] = hashlib.sha256(members["program.json"]).hexdigest()
    known["program"] = json.loads(members["program.json"])["key"]
    members["manifest.json"] = json.dumps(sealed(known)).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content)


def _with_key(members: dict[str, bytes], known: dict[str, dict[str, str]]) -> bytes:
    from toplabel.bundle.file import content_key

    description = json.loads(members["program.json"])
    sizes = {name: len(members[name]) for name in members if not name.endswith(".json")}
    hashes = {name: h for name, h in known["files"].items() if name != "program.json"}
    description["files"] = sizes
    description["key"] = content_key(description, hashes)
    return json.dumps(description).encode()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def test_a_file_is_as_it_was_after_it_is_rewritten(packed: Path) -> None:
    rewrite(packed, {})
    assert open_packed(packed).unknown is not None


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"no array",
        npy(np.zeros((5, 3), np.float32)),
        npy(np.array([{"a": 1}])),
        Memory.of(np.ones((4, 2), np.float32), np.zeros(4, int)).to_bytes(),  # of 2 features
        Memory.of(np.ones((4, 3), np.float32), np.zeros(4, int)).to_bytes()[:-9],
    ],
    ids=["missing", "empty", "text", "other", "pickle", "other features", "truncated"],
)
def test_a_damaged_memory_is_a_named_error(packed: Path, content: bytes | None) -> None:
    rewrite(packed, {UNKNOWN_NAME: content})
    with pytest.raises(BundleError) as caught:
        open_packed(packed)
    assert "\n" not in str(caught.value)


def test_a_memory_that_no_manifest_speaks_of_is_refused(packed: Path) -> None:
    rewrite(packed, {}, unknown=None)
    with pytest.raises(BundleError, match=r"disagree on 'unknown\.npy'"):
        open_packed(packed)


@pytest.mark.parametrize(
    "fields",
    [
        {"threshold": -1.0},
        {"threshold": "1"},
        {"neighbours": 0},
        {"images": True},
        {"false_alarm": float("nan")},
        {"other": 1},
        {"siblings": "none"},
    ],
    ids=str,
)
def test_damaged_facts_are_a_damaged_bundle(bundle: Bundle, fields: dict[str, object]) -> None:
    assert bundle.unknown is not None
    manifest = {**bundle.to_manifest(), "unknown": bundle.unknown.to_dict() | fields}
    with pytest.raises(BundleError, match="damaged"):
        Bundle.from_manifest(manifest, bundle.program)


def test_with_another_preprocessing_it_is_not_used_and_says_so(packed: Path) -> None:
    with pytest.warns(toplabel.ToplabelWarning, match="does not tell unknown images"):
        model = toplabel.load(packed, preprocess=RECIPE)
    assert model.classifier.unknown is None
