"""What an ONNX file is known by."""

import os
import struct
from pathlib import Path

import pytest

from toplabel.bundle.bundle import built_in_bundle
from toplabel.bundle.onnx_header import is_onnx


def test_an_onnx_file_is_known_by_its_content_whatever_its_name(tmp_path: Path) -> None:
    unnamed = tmp_path / "model"
    unnamed.write_bytes(built_in_bundle().program.path.read_bytes())
    assert is_onnx(unnamed)
    assert is_onnx(built_in_bundle().program.path)


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"\x08\x0a\x3a\xff\xff\x03", id="the graph at once"),
        pytest.param(b"\x08\x07\x12\x07pytorch\x1a\x052.7.0\x3a\xff\xff\x03", id="PyTorch"),
        pytest.param(b"\x08\x08\x42\x04\x0a\x00\x10\x11\x3a\x00", id="the opset first"),
        pytest.param(b"\x08\x08\x32\xff\xff\x03" + b"long " * 900, id="a long description"),
    ],
)
def test_beginnings_that_exporters_write_are_known(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(start)
    assert is_onnx(path)


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x08", id="one byte"),
        pytest.param(b"\x08\x07", id="a version alone"),
        pytest.param(b"cat\ndog\n", id="text"),
        pytest.param(b"\x08\x08\x08 backspaces", id="control characters"),
        pytest.param(b"\x80\x02}q\x00.", id="a pickle"),
        pytest.param(b"PK\x03\x04" + bytes(40), id="a zip file"),
        pytest.param(struct.pack("<Q", 0x108) + b'{"w":{"dtype"', id="safetensors"),
        pytest.param(struct.pack("<Q", 0x308) + b'{"w":{"dtype"', id="other safetensors"),
        pytest.param(
            b"\x08\x01\x12\x90\x4e\x0a\x80\x10" + bytes(300), id="a TensorFlow SavedModel"
        ),
        pytest.param(b"\x89PNG\r\n\x1a\n", id="an image"),
    ],
)
def test_other_files_are_not_taken_for_onnx(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(start)
    assert not is_onnx(path)


def test_what_cannot_be_read_is_no_onnx_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not is_onnx(tmp_path / "pipe")
    assert not is_onnx(tmp_path)
    assert not is_onnx(tmp_path / "nothing")
    assert not is_onnx("a\0b")
