"""What a checkpoint file is, told from its content without torch and without running any of it."""

import argparse
import collections
import io
import json
import os
import pathlib
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

import checkpoints as made  # noqa: E402
from toplabel.errors import CheckpointError  # noqa: E402
from toplabel.models.checkpoint.allowed_globals import ALLOWED  # noqa: E402
from toplabel.models.checkpoint.header import read_checkpoint_info  # noqa: E402
from toplabel.models.checkpoint.info import TensorInfo, UnknownObject  # noqa: E402

SAVERS = {"torch zip": made.save_zip, "torch legacy": made.save_legacy}


@pytest.mark.parametrize("written", SAVERS)
def test_a_training_checkpoint_keeps_its_nesting(written: str, tmp_path: Path) -> None:
    content = made.training_content()
    info = read_checkpoint_info(SAVERS[written](tmp_path / "model.pth.tar", content))
    assert info.format == written
    assert info.blocked == ()
    assert info.whole_module is None
    assert info.size_bytes == (tmp_path / "model.pth.tar").stat().st_size
    assert info.files == (tmp_path / "model.pth.tar",)
    assert info.metadata == {}
    found = dict(info.content)
    assert found.pop("state_dict") == {
        name: TensorInfo(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in content["state_dict"].items()
    }
    assert found.pop("optimizer")["param_groups"] == content["optimizer"]["param_groups"]
    assert found == {
        "epoch": 3,
        "best_prec1": 91.25,
        "arch": "small",
        "classes": ["cat", "dog", "owl"],
        "shape": (3, 8, 8),
        "device": "cuda:0",
        "dtype": "torch.float16",
        "done": {1, 2},
    }


@pytest.mark.parametrize("written", SAVERS)
@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64],
)
def test_every_plain_dtype_is_reported(written: str, dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.zeros(3, 4).to(dtype)[:, 1:]
    info = read_checkpoint_info(SAVERS[written](tmp_path / "x", {"weight": tensor}))
    name = str(dtype).removeprefix("torch.")
    assert info.content == {"weight": TensorInfo(name, (3, 3))}
    assert info.content["weight"].nbytes == tensor.numel() * tensor.element_size()


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint64, torch.float8_e4m3fn])
def test_newer_dtypes_are_reported(dtype: torch.dtype, tmp_path: Path) -> None:
    info = read_checkpoint_info(made.save_zip(tmp_path / "x", [torch.zeros(2, 3).to(dtype)]))
    assert info.content == [TensorInfo(str(dtype).removeprefix("torch."), (2, 3))]


def test_parameters_shared_and_empty_tensors_and_views_are_plain(tmp_path: Path) -> None:
    tied = torch.nn.Parameter(torch.ones(4, 3))
    weird = torch.ones(2)
    weird.note = "kept by torch.save"
    content = {"a": tied, "b": tied, "c": tied.data.t()[1], "d": torch.ones(0, 5), "e": weird}
    info = read_checkpoint_info(made.save_zip(tmp_path / "x", content))
    shapes = {name: info.shape for name, info in info.content.items()}
    assert shapes == {"a": (4, 3), "b": (4, 3), "c": (4,), "d": (0, 5), "e": (2,)}


@pytest.mark.parametrize("written", SAVERS)
def test_a_whole_module_is_known_by_its_class(written: str, tmp_path: Path) -> None:
    info = read_checkpoint_info(SAVERS[written](tmp_path / "x", made.small_network()))
    assert info.whole_module == "torch.nn.modules.container.Sequential"
    assert info.blocked[0] == info.whole_module
    assert isinstance(info.content, UnknownObject)
    modules = info.content.state["_modules"]
    assert modules["head"].kind == "torch.nn.modules.linear.Linear"
    assert modules["head"].state["_parameters"]["weight"] == TensorInfo("float32", (3, 4))


def test_a_module_within_a_dict_is_an_unknown_object_and_named(tmp_path: Path) -> None:
    info = read_checkpoint_info(made.save_zip(tmp_path / "x", {"model": made.small_network()}))
    assert info.whole_module is None
    assert info.content["model"].kind == "torch.nn.modules.container.Sequential"
    assert "torch.nn.modules.conv.Conv2d" in info.blocked


def test_unknown_objects_keep_their_state(tmp_path: Path) -> None:
    class_count = collections.defaultdict(int, cat=2)
    content = {
        "args": argparse.Namespace(model="resnet18", classes=3),
        "count": class_count,
        "path": pathlib.PurePosixPath("a/b"),
        "accuracy": np.float64(0.5),
        "function": torch.relu,
        "ordered": collections.OrderedDict(b=1, a=2),
    }
    info = read_checkpoint_info(made.save_zip(tmp_path / "x", content))
    assert info.content["args"] == UnknownObject(
        "argparse.Namespace", {"model": "resnet18", "classes": 3}
    )
    assert info.content["count"] == {"cat": 2}
    assert info.content["path"].kind == "pathlib.PurePosixPath"
    assert info.content["accuracy"] == 0.5
    assert info.content["ordered"] == {"b": 1, "a": 2}
    assert info.blocked[:3] == (
        "argparse.Namespace",
        "collections.defaultdict",
        "builtins.int",
    )


@pytest.mark.parametrize("protocol", range(2, 6))
def test_every_pickle_protocol_is_read(protocol: int, tmp_path: Path) -> None:
    content = made.training_content()
    torch.save(content, tmp_path / "x", pickle_protocol=protocol)
    info = read_checkpoint_info(tmp_path / "x")
    assert info.content["classes"] == content["classes"]
    assert info.content["state_dict"].keys() == content["state_dict"].keys()


def test_safetensors_is_read_with_its_metadata(tmp_path: Path) -> None:
    state = made.small_network().state_dict()
    info = read_checkpoint_info(made.save_safetensors(tmp_path / "x.bin", state))
    assert info.format == "safetensors"
    assert info.metadata == {"format": "pt"}
    assert info.content["norm.num_batches_tracked"] == TensorInfo("int64", ())
    assert info.content.keys() == state.keys()


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    state = made.small_network().state_dict()
    info = read_checkpoint_info(made.save_sharded(tmp_path, state))
    assert list(info.content) == list(state)
    assert [path.name for path in info.files] == [
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert info.size_bytes == sum(path.stat().st_size for path in info.files)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (
            "../model-00001-of-00002.safetensors",
            "lists other files than safetensors files beside it",
        ),
        ("/etc/passwd", "lists other files than safetensors files beside it"),
        ("pytorch_model.bin", "lists other files than safetensors files beside it"),
        ("absent.safetensors", "is missing"),
        ("model-00002-of-00002.safetensors", "disagree on tensor 'conv.bias'"),
    ],
)
def test_an_index_leads_only_to_shards_beside_it(place: str, reason: str, tmp_path: Path) -> None:
    index = made.save_sharded(tmp_path, made.small_network().state_dict())
    parsed = json.loads(index.read_text())
    parsed["weight_map"]["conv.bias"] = place
    index.write_text(json.dumps(parsed))
    with pytest.raises(CheckpointError, match=reason):
        read_checkpoint_info(index)


def png() -> bytes:
    body = io.BytesIO()
    Image.new("RGB", (2, 2)).save(body, "PNG")
    return body.getvalue()


def numpy_file() -> bytes:
    body = io.BytesIO()
    np.save(body, np.zeros(3))
    return body.getvalue()


def zip_of(*names: str) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return body.getvalue()


OTHERS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is an empty file"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "html": (b"\n<!DOCTYPE html><html>no</html>", "web page"),
    "xml": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "an XML document"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x051.0.0", "ONNX"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "keras": (zip_of("config.json", "metadata.json", "model.weights.h5"), "Keras"),
    "bundle": (zip_of("manifest.json", "program.onnx"), "toplabel bundle"),
    "zip": (zip_of("best.pth"), "zip archive without torch"),
    "empty zip": (zip_of(), "zip archive without torch"),
    "npz": (zip_of("a.npy", "b.npy"), "NumPy"),
    "numpy": (numpy_file(), "NumPy"),
    "gguf": (b"GGUF\x03\0\0\0" + bytes(50), "GGUF"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(50), "TensorFlow Lite"),
    "gzip": (b"\x1f\x8b\x08\0" + bytes(20), "compressed"),
    "png": (png(), "an image"),
    "json": (b'{"resize": 256}', "JSON"),
    "text": (b"cat\ndog\nowl\n", "file format is unknown"),
    "noise": (bytes(range(7, 200)), "file format is unknown"),
    "cut zip": (zip_of("archive/data.pkl")[:40], "truncated"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_checkpoint_is_called_by_its_kind(kind: str, tmp_path: Path) -> None:
    body, expected = OTHERS[kind]
    path = tmp_path / "model.pth"
    path.write_bytes(body)
    with pytest.raises(CheckpointError, match=expected) as caught:
        read_checkpoint_info(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_pipes_and_absent_files_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, expected in [
        (".", "it is a folder"),
        ("pipe", "not a regular file"),
        ("absent", "no such file"),
        ("loop", "symbolic links"),
        ("a\0b", "null"),
    ]:
        with pytest.raises(CheckpointError, match=expected):
            read_checkpoint_info(tmp_path / name)


def test_programs_are_recognised_and_not_read(tmp_path: Path) -> None:
    network = made.small_network().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, torch.ones(1, 3, 8, 8)).save(tmp_path / "script.pth")
    info = read_checkpoint_info(tmp_path / "script.pth")
    assert info.format == "torchscript"
    assert isinstance(info.content, UnknownObject)


def test_the_allowed_globals_are_torchs_own() -> None:
    from torch._weights_only_unpickler import _get_allowed_globals

    assert set(_get_allowed_globals()) == ALLOWED


@pytest.mark.parametrize("save", [made.save_zip, made.save_legacy, made.save_safetensors])
def test_reading_a_header_imports_no_torch(
    save: Callable[[Path, Any], Path], tmp_path: Path
) -> None:
    path = save(tmp_path / "x", {f"w{n}": torch.zeros(1000) for n in range(300)})
    code = (
        "import sys; from toplabel.models.checkpoint.header import read_checkpoint_info;"
        "read_checkpoint_info(sys.argv[1]);"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


@pytest.mark.slow
def test_the_header_of_half_a_gigabyte_is_read_in_200_megabytes(tmp_path: Path) -> None:
    content = {f"w{n}": torch.zeros(250_000) for n in range(500)}
    code = (
        "import sys; from toplabel.models.checkpoint.header import read_checkpoint_info;"
        "read_checkpoint_info(sys.argv[1]);"
        "peak = next(l for l in open('/proc/self/status') if l.startswith('VmHWM'));"
        "assert int(peak.split()[1]) < 200_000, peak"
    )
    for save in (made.save_zip, made.save_legacy, made.save_safetensors):
        path = save(tmp_path / "x", content)
        assert path.stat().st_size >= 500_000_000
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)


@pytest.mark.shared_data
def test_the_header_of_a_real_checkpoint_of_2018_is_read(shared_data: Path) -> None:
    info = read_checkpoint_info(shared_data / "checkpoints" / "resnet20-12fca82f.th")
    assert info.format == "torch legacy"
    assert info.blocked == ()
    assert info.content["best_prec1"] == pytest.approx(91.73, abs=1)
    assert info.content["state_dict"]["module.linear.weight"].shape == (10, 64)
