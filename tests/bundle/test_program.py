"""Programs: a folder of files and its description."""

import json
import os
from pathlib import Path

import pytest

from toplabel.bundle.program import Program
from toplabel.errors import BundleError


def make_program(folder: Path, key: str = "ab" * 32) -> Program:
    """A program folder whose files hold no real program; enough to describe and to read."""
    (folder / "program.onnx").write_bytes(b"onnx" * 100)
    (folder / "goldens.npz").write_bytes(b"outputs")
    program = Program(
        path=folder / "program.onnx",
        reference_path=folder / "goldens.npz",
        key=key,
        input_name="input",
        output_name="logits",
        input_shape=(3, 8, 9),
        outputs=4,
        fixed_batch=False,
        exporter="torch 2.13.0, torchscript, opset 18",
        agreement={"max_difference": 1e-6, "checked_with": "onnxruntime 1.32.0"},
    )
    program.write(folder)
    return program


def edit(folder: Path, **changes: object) -> None:
    path = folder / "program.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_written_program_reads_back_equal(tmp_path: Path) -> None:
    program = make_program(tmp_path)
    assert Program.read(tmp_path) == program


def test_a_moved_program_reads_from_its_new_place(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    make_program(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    assert Program.read(tmp_path / "new").path == tmp_path / "new" / "program.onnx"


@pytest.mark.parametrize("name", ["program.onnx", "goldens.npz", "weights.bin"])
def test_truncated_files_are_noticed(tmp_path: Path, name: str) -> None:
    (tmp_path / "weights.bin").write_bytes(b"weights")
    make_program(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1])
    with pytest.raises(BundleError, match=f"{name} has {len(content) - 1} bytes"):
        Program.read(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BundleError, match=f"lacks its file {name}"):
        Program.read(tmp_path)


def test_a_missing_folder_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot read the program"):
        Program.read(tmp_path / "nothing")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    make_program(tmp_path)
    edit(tmp_path, schema=2)
    with pytest.raises(BundleError, match="schema 2.*upgrade toplabel"):
        Program.read(tmp_path)


def test_every_truncated_description_is_an_error_of_ours(tmp_path: Path) -> None:
    make_program(tmp_path)
    content = (tmp_path / "program.json").read_bytes().rstrip()
    for length in range(len(content)):
        (tmp_path / "program.json").write_bytes(content[:length])
        with pytest.raises(BundleError):
            Program.read(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"outputs": "4"},
        {"outputs": True},
        {"input_shape": [3, 8]},
        {"input_shape": None},
        {"fixed_batch": 1},
        {"agreement": []},
        {"files": []},
        {"key": None},
    ],
)
def test_a_description_of_the_wrong_kind_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    make_program(tmp_path)
    edit(tmp_path, **change)
    with pytest.raises(BundleError, match="damaged"):
        Program.read(tmp_path)


def test_a_description_without_its_own_files_is_refused(tmp_path: Path) -> None:
    make_program(tmp_path)
    edit(tmp_path, files={})
    with pytest.raises(BundleError, match="lacks program.onnx"):
        Program.read(tmp_path)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/b", "..", ""])
def test_files_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    make_program(tmp_path)
    edit(tmp_path, files={"program.onnx": 400, "goldens.npz": 7, name: 1})
    with pytest.raises(BundleError, match="outside"):
        Program.read(tmp_path)


def test_other_json_beside_the_program_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    make_program(tmp_path)
    os.unlink(tmp_path / "manifest.json")
    assert Program.read(tmp_path).outputs == 4
