"""Packed bundles: written, opened, described; changed, cut and foreign ones."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toplabel.bundle.bundle import Bundle, is_bundle
from toplabel.bundle.cache import cache_dir
from toplabel.bundle.file import content_key, describe_packed, open_packed, pack, sealed
from toplabel.bundle.margin import Margin
from toplabel.bundle.program import Program
from toplabel.bundle.reduced import ReducedProgram
from toplabel.bundle.reference import ReferenceOutputs, draw_inputs
from toplabel.errors import BundleError, UsageError
from toplabel.inference.classifier import Classifier
from toplabel.inference.engines.onnxruntime import OnnxRuntimeEngine
from toplabel.inference.predictor import Predictor
from toplabel.labels.labels import Labels
from toplabel.preprocess.preprocess import Preprocess

onnx = pytest.importorskip("onnx")

PREPROCESS = Preprocess(input_size=(16, 16), resize_mode="none", mean=(0.5,) * 3, std=(0.5,) * 3)
IMAGE = np.random.default_rng(3).integers(0, 256, (16, 16, 3), np.uint8)


def tiny_network(seed: int = 0, *, weights_beside: str | None = None) -> onnx.ModelProto:
    """The mean colour times a matrix: float32 (N, 3, 16, 16) to (N, 4)."""
    matrix = np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32) * 9
    nodes = [
        onnx.helper.make_node("ReduceMean", ["input"], ["mean"], axes=[2, 3], keepdims=0),
        onnx.helper.make_node("MatMul", ["mean", "matrix"], ["logits"]),
    ]
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "tiny",
        [tensor("input", onnx.TensorProto.FLOAT, ["N", 3, 16, 16])],
        [tensor("logits", onnx.TensorProto.FLOAT, ["N", 4])],
        [onnx.numpy_helper.from_array(matrix, "matrix")],
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    if weights_beside is not None:
        onnx.external_data_helper.convert_model_to_external_data(
            model, location=weights_beside, size_threshold=0
        )
    return model


def make_bundle(folder: Path, *, seed: int = 0, weights_beside: str | None = None) -> Bundle:
    folder.mkdir(parents=True)
    onnx.save(tiny_network(seed, weights_beside=weights_beside), folder / "program.onnx")
    pixels = draw_inputs((3, 16, 16))
    scale, offset = np.full(3, 2 / 255, np.float32), np.full(3, -1, np.float32)
    program = Program(
        path=folder / "program.onnx",
        reference_path=folder / "goldens.npz",
        key="ab" * 32,
        input_name="input",
        output_name="logits",
        input_shape=(3, 16, 16),
        outputs=4,
        fixed_batch=False,
        exporter="by hand",
        agreement={"max_difference": 0.0, "checked_with": "onnxruntime"},
    )
    import onnxruntime as ort

    session = ort.InferenceSession(str(program.path), providers=["CPUExecutionProvider"])
    reference = ReferenceOutputs(pixels, scale, offset, np.zeros((8, 4), np.float32))
    (logits,) = session.run(["logits"], {"input": reference.inputs()})
    replace(reference, logits=logits).save(program.reference_path)
    program.write(folder)
    return Bundle(
        name="test/tiny@01234567",
        program=program,
        preprocess=PREPROCESS,
        labels=Labels(("cat", "dog", "fox", "Löwe"), ids=("n1", "n2", "n3", "n4")),
        provenance={"source": "test", "licence": "MIT"},
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "made")


@pytest.fixture
def packed(bundle: Bundle, tmp_path: Path) -> Path:
    path = tmp_path / "cats.toplabel"
    pack(bundle, path)
    return path


def read(path: Path) -> Bundle:
    return open_packed(path)


def scores(bundle: Bundle) -> dict[str, float]:
    with Predictor(Classifier.of_bundle(bundle), threads=1) as model:
        return {top.label: top.score for top in model(IMAGE).top}


def rewrite(
    path: Path,
    edit: Callable[[dict[str, bytes]], None] = lambda members: None,
    *,
    rehash: bool = False,
    manifest_changes: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    """Change members as somebody with a zip tool would; with `rehash` one who knows the format."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    edit(members)
    manifest = json.loads(members["manifest.json"]) | (manifest_changes or {})
    if rehash:
        members["manifest.json"] = _rehashed(members, manifest)
    elif manifest_changes:
        members["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _rehashed(members: dict[str, bytes], manifest: dict[str, Any]) -> bytes:
    def digest(name: str) -> str:
        return hashlib.sha256(members[name]).hexdigest()

    names = [name for name in members if name not in ("manifest.json", "program.json")]
    description = json.loads(members["program.json"])
    description["files"] = {name: len(members[name]) for name in names}
    description["key"] = content_key(description, {name: digest(name) for name in names})
    members["program.json"] = json.dumps(description).encode()
    manifest["program"] = description["key"]
    manifest["files"] = {name: digest(name) for name in (*names, "program.json")}
    return json.dumps(sealed(manifest)).encode()


def test_a_bundle_comes_back_as_it_was_packed(bundle: Bundle, packed: Path) -> None:
    assert is_bundle(packed)
    opened = read(packed)
    assert (opened.name, opened.labels, opened.preprocess) == (
        bundle.name,
        bundle.labels,
        bundle.preprocess,
    )
    assert (opened.activation, opened.provenance) == (bundle.activation, bundle.provenance)
    assert scores(opened) == scores(bundle)
    assert opened.program.path.is_relative_to(cache_dir())


def test_the_same_bundle_makes_the_same_bytes_and_so_does_the_opened_one(
    bundle: Bundle, packed: Path, tmp_path: Path
) -> None:
    again, third = tmp_path / "again.toplabel", tmp_path / "third"
    pack(bundle, again)
    pack(read(packed), third)
    assert again.read_bytes() == packed.read_bytes() == third.read_bytes()


def test_every_member_is_stored_and_hashed(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        assert all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
        hashes = json.loads(archive.read("manifest.json"))["files"]
        names = set(archive.namelist()) - {"manifest.json"}
        assert names == {"program.json", "program.onnx", "goldens.npz"}
        assert hashes == {n: hashlib.sha256(archive.read(n)).hexdigest() for n in names}


def test_weights_beside_the_program_travel_with_it(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "made", weights_beside="program.onnx.data")
    path = tmp_path / "cats.toplabel"
    pack(bundle, path)
    expected = scores(bundle)
    shutil.rmtree(tmp_path / "made")
    opened = read(path)
    assert (opened.program.path.parent / "program.onnx.data").is_file()
    assert scores(opened) == expected
    assert "program.onnx.data" in describe_packed(path)["members"]


def test_weights_whose_name_no_other_system_takes_are_not_packed(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "made", weights_beside="a:b")
    with pytest.raises(BundleError, match="keeps weights in 'a:b'"):
        pack(bundle, tmp_path / "cats.toplabel")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_an_opened_file_is_found_again_without_being_read(packed: Path) -> None:
    opened = read(packed)
    size, times = packed.stat().st_size, packed.stat()
    packed.chmod(0)
    packed.chmod(0o644)  # another time of change: the stamp no longer holds, it is read again
    assert read(packed) == opened
    with packed.open("r+b") as file:  # a file that changes unseen: only the stamp is compared
        file.seek(100)
        file.write(b"\0\0\0\0")
    os.utime(packed, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert packed.stat().st_size == size
    with pytest.raises(BundleError, match="was modified after it was packed"):
        read(packed)


def test_an_opened_file_needs_no_archive_the_second_time(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = read(packed)
    monkeypatch.setattr("toplabel.bundle.file._Archive", None)
    assert read(packed) == opened


def test_another_file_at_the_same_path_is_read_anew(packed: Path, tmp_path: Path) -> None:
    first = scores(read(packed))
    pack(make_bundle(tmp_path / "other", seed=1), packed)
    assert scores(read(packed)) != first


def test_a_file_that_is_gone_says_so(packed: Path) -> None:
    read(packed)
    packed.unlink()
    with pytest.raises(BundleError, match="cannot read '.*cats.toplabel': No such file"):
        read(packed)


def test_a_cache_that_cannot_be_written_to_costs_only_time(
    packed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = scores(read(packed))
    monkeypatch.setenv("TOPLABEL_CACHE", "/proc/no-such-place")
    assert scores(read(packed)) == expected
    assert "cannot write to the cache" in caplog.text


def test_a_key_that_a_file_claims_is_not_believed(packed: Path, tmp_path: Path) -> None:
    honest = read(packed)
    other = tmp_path / "other.toplabel"
    pack(make_bundle(tmp_path / "other", seed=1), other)

    def claim(members: dict[str, bytes]) -> None:
        description = json.loads(members["program.json"]) | {"key": honest.program.key}
        members["program.json"] = json.dumps(description).encode()
        manifest = json.loads(members["manifest.json"]) | {"program": honest.program.key}
        manifest["files"]["program.json"] = hashlib.sha256(members["program.json"]).hexdigest()
        members["manifest.json"] = json.dumps(sealed(manifest)).encode()

    rewrite(other, claim)
    with pytest.raises(BundleError, match=r"was modified after it was packed: program\.json"):
        read(other)
    assert scores(honest) == scores(read(packed))


@pytest.mark.parametrize("claimed", ["another program's", "a folder outside the cache"])
def test_a_key_that_a_file_claims_of_its_reduced_program_is_not_believed(
    packed: Path, tmp_path: Path, claimed: str
) -> None:
    honest, outside = read(packed), tmp_path / "outside"
    key = honest.program.key if claimed.startswith("another") else str(outside)
    stranger = make_bundle(tmp_path / "stranger", seed=1)
    reduced = ReducedProgram(
        path=stranger.program.path,
        reference_path=stranger.program.reference_path,
        key=key,
        precision="int8",
        engine="onnxruntime",
        margin=Margin(logits=0.1, images=100),
        speedup=2.0,
        processor="a processor",
        images=200,
        bits=7,
    )
    path = tmp_path / "stranger.toplabel"
    pack(replace(stranger, reduced=reduced), path)
    rewrite_reduced_key(path, key)
    opened = read(path)
    with Predictor(Classifier.of_bundle(opened), threads=1, fast=True) as model:
        assert model(IMAGE).precision == "int8"
    assert not outside.exists()
    assert scores(honest) == scores(make_bundle(tmp_path / "again"))
    pack(opened, tmp_path / "again.toplabel")
    assert read(tmp_path / "again.toplabel").reduced == opened.reduced


def rewrite_reduced_key(path: Path, key: str) -> None:
    """Let the manifest claim another key, sealed as it should be."""

    def claim(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        manifest["reduced"]["key"] = key
        members["manifest.json"] = json.dumps(sealed(manifest)).encode()

    rewrite(path, claim)


@pytest.mark.parametrize("name", ["program.onnx", "goldens.npz", "program.json"])
def test_a_changed_member_is_named(packed: Path, name: str) -> None:
    def change(members: dict[str, bytes]) -> None:
        members[name] = members[name][:-1] + b" "

    rewrite(packed, change)
    with pytest.raises(BundleError, match=f"was modified after it was packed: {name}"):
        read(packed)
    assert f"modified after it was packed: {name}" in describe_packed(packed)["verified"]
    assert not list((cache_dir() / "programs").glob("*"))


def test_changed_labels_are_noticed(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        labels = json.loads(archive.read("manifest.json"))["labels"]
    rewrite(packed, manifest_changes={"labels": labels | {"names": ["a", "b", "c", "d"]}})
    with pytest.raises(BundleError, match=r"was modified after it was packed: manifest\.json"):
        read(packed)


def test_a_changed_program_whose_hashes_were_made_to_fit_fails_its_reference_outputs(
    packed: Path,
) -> None:
    def change(members: dict[str, bytes]) -> None:
        members["program.onnx"] = tiny_network(seed=1).SerializeToString()

    rewrite(packed, change, rehash=True)
    bundle = read(packed)
    with pytest.raises(BundleError, match="no longer gives the logits it was checked with"):
        OnnxRuntimeEngine(bundle.program)


def test_reference_outputs_of_another_shape_are_refused(packed: Path, tmp_path: Path) -> None:
    reference = ReferenceOutputs.load(tmp_path / "made" / "goldens.npz")
    replace(reference, logits=reference.logits[:, :3]).save(tmp_path / "other.npz")

    def change(members: dict[str, bytes]) -> None:
        members["goldens.npz"] = (tmp_path / "other.npz").read_bytes()

    rewrite(packed, change, rehash=True)
    with pytest.raises(BundleError, match="reference inputs do not fit its program"):
        read(packed)


def test_a_newer_format_says_so(packed: Path) -> None:
    rewrite(packed, manifest_changes={"format": 4})
    newer = r"made by a newer toplabel \(format 4; this version reads format 3\); upgrade toplabel"
    with pytest.raises(BundleError, match=newer):
        read(packed)
    with pytest.raises(BundleError, match=newer):
        describe_packed(packed)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", "C:evil", ".hidden", "a\\b"])
def test_members_with_paths_are_refused(packed: Path, name: str) -> None:
    rewrite(packed, lambda members: members.update({name: b"x"}), rehash=True)
    with pytest.raises(BundleError, match="name that is not a plain file name"):
        read(packed)


@pytest.mark.parametrize("name", ["extra.bin", "more.json"])
def test_members_that_nothing_names_are_refused(packed: Path, name: str) -> None:
    rewrite(packed, lambda members: members.update({name: b"x"}))
    with pytest.raises(BundleError, match=f"does not list its member '{name}'"):
        read(packed)


def test_weights_that_the_program_does_not_name_are_refused(packed: Path) -> None:
    rewrite(packed, lambda members: members.update({"extra.bin": b"x"}), rehash=True)
    with pytest.raises(BundleError, match=r"disagree on 'extra\.bin'"):
        read(packed)


@pytest.mark.parametrize("location", ["/etc/passwd", "../weights.bin", "nowhere.bin"])
def test_a_program_with_weights_outside_the_bundle_is_refused(packed: Path, location: str) -> None:
    model = tiny_network(weights_beside="w").SerializeToString()
    proto = onnx.ModelProto.FromString(model)
    (tensor,) = proto.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value=location)

    def change(members: dict[str, bytes]) -> None:
        members["program.onnx"] = proto.SerializeToString()

    rewrite(packed, change, rehash=True)
    with pytest.raises(BundleError, match="disagree on"):
        read(packed)


def test_compressed_members_are_refused(packed: Path) -> None:
    rewrite(packed, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(BundleError, match="is compressed or encrypted"):
        read(packed)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["manifest.json", "program.onnx"])
def test_two_members_of_one_name_are_refused(packed: Path, name: str) -> None:
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(name, archive.read(name))
    with pytest.raises(BundleError, match="have the same name"):
        read(packed)


def test_links_are_refused(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if name == "program.onnx" else 0o100644) << 16
            archive.writestr(info, content)
    with pytest.raises(BundleError, match="is a link"):
        read(packed)


def test_a_list_of_very_many_members_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "cats.toplabel"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(25_000):
            archive.writestr(f"{number:05}", b"")
    for use in (read, describe_packed):
        with pytest.raises(BundleError, match="list of members is too long"):
            use(path)


def test_a_missing_member_is_named(packed: Path) -> None:
    rewrite(packed, lambda members: members.pop("goldens.npz") and None)
    with pytest.raises(BundleError, match=r"lacks goldens\.npz"):
        read(packed)


@pytest.mark.parametrize(
    "manifest",
    [
        {"format": None},
        {"format": "1"},
        {"format": True},
        {"files": None},
        {"files": {"program.onnx": "0"}},
    ],
)
def test_a_manifest_of_another_form_is_unsound(packed: Path, manifest: dict[str, Any]) -> None:
    rewrite(packed, manifest_changes=manifest)
    with pytest.raises(BundleError, match="is not a valid bundle"):
        read(packed)


@pytest.mark.parametrize("text", [b"{", b"[]", b"[" * 100_000, b"\xff\xfe", b""])
def test_a_manifest_that_is_no_json_object_is_unsound(packed: Path, text: bytes) -> None:
    with zipfile.ZipFile(packed) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in (members | {"manifest.json": text}).items():
            archive.writestr(name, content)
    with pytest.raises(BundleError, match=r"manifest\.json is not a JSON object"):
        read(packed)


@pytest.mark.parametrize(
    "change", [{"labels": None}, {"preprocess": {}}, {"name": 3}, {"provenance": []}]
)
def test_a_manifest_with_wrong_content_is_damaged(packed: Path, change: dict[str, Any]) -> None:
    rewrite(packed, manifest_changes=change, rehash=True)
    with pytest.raises(BundleError, match="damaged"):
        read(packed)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (b"\x08\x07\x12\x07pytorch", "a file that begins with"),
    ],
)
def test_what_is_no_bundle_is_named(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "cats.toplabel"
    path.write_bytes(content)
    assert not is_bundle(path)
    for use in (read, describe_packed):
        with pytest.raises(BundleError, match=f"is not a bundle but {kind}"):
            use(path)


def test_folders_pipes_and_other_zip_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is a folder"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BundleError, match="is not a file"):
        read(tmp_path / "pipe")
    for member, kind in (("archive/data.pkl", "a PyTorch checkpoint"), ("a.txt", "another zip")):
        with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
            archive.writestr(member, b"x")
        with pytest.raises(BundleError, match=f"but {kind}"):
            read(tmp_path / "other.zip")


def test_a_file_cut_anywhere_is_truncated(packed: Path) -> None:
    whole = packed.read_bytes()
    for percent in range(5, 100, 5):
        packed.write_bytes(whole[: len(whole) * percent // 100])
        with pytest.raises(BundleError, match="truncated: "):
            read(packed)


def test_no_flipped_byte_changes_an_answer(packed: Path) -> None:
    whole, expected = packed.read_bytes(), scores(read(packed))
    generator = np.random.default_rng(11)
    places = {*generator.integers(0, len(whole), 120), *range(len(whole) - 150, len(whole), 3)}
    refused = 0
    for place in map(int, places):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(generator.integers(8))
        packed.write_bytes(flipped)
        try:
            opened = read(packed)
        except BundleError:
            refused += 1
        else:
            assert scores(opened) == expected
    assert refused > len(places) // 2


def test_packing_replaces_a_file_at_once_and_leaves_nothing_beside(
    bundle: Bundle, packed: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(packed)
    before = packed.read_bytes()
    packed.write_bytes(before + b"old")
    pack(bundle, link)
    assert link.is_symlink()
    assert packed.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"made", "cats.toplabel", "link"}


def test_packing_over_a_folder_or_into_none_says_so(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists and is not a file"):
        pack(bundle, tmp_path)
    with pytest.raises(UsageError, match="there is no folder"):
        pack(bundle, tmp_path / "nowhere" / "cats.toplabel")


def test_packing_that_fails_leaves_the_old_file(bundle: Bundle, packed: Path) -> None:
    before = packed.read_bytes()
    bundle.program.reference_path.unlink()
    with pytest.raises(BundleError, match="cannot"):
        pack(bundle, packed)
    assert packed.read_bytes() == before
    assert list(packed.parent.glob(".aside*")) == []


def test_a_packed_bundle_is_described(bundle: Bundle, packed: Path) -> None:
    found = describe_packed(packed)
    assert found["name"] == bundle.name
    assert (found["classes"], found["labels"]) == (4, ["cat", "dog", "fox", "Löwe"])
    assert found["preprocess"] == PREPROCESS.to_dict()
    assert found["licence"] == "MIT"
    assert found["agreement"]["max_difference"] == 0.0
    assert found["format"] == 1
    assert found["size_bytes"] == packed.stat().st_size > sum(found["members"].values())
    assert found["verified"] is True
    json.dumps(found)


def test_a_licence_that_nobody_stated_is_not_made_up(bundle: Bundle, tmp_path: Path) -> None:
    pack(replace(bundle, provenance={}), tmp_path / "cats.toplabel")
    assert describe_packed(tmp_path / "cats.toplabel")["licence"] == "not stated"


def test_describing_and_opening_import_neither_torch_nor_an_engine(packed: Path) -> None:
    code = f"""
import sys
from toplabel.bundle.file import describe_packed, open_packed
describe_packed({str(packed)!r}), open_packed({str(packed)!r})
print(sorted({{"torch", "onnxruntime", "onnx", "torchvision", "timm"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
